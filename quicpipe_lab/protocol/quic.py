"""aioquic's QuicConnection with what Quicpipe needs beyond its public API.

The file that uses private names of aioquic, beside path_recovery.py, which has those of its loss
recovery; sources.py knows by which modules it draws.
tests/protocol/test_quic.py has a test for each, so that a new aioquic that moves one fails there
and names it. Written against aioquic 1.7.2.
"""

from collections.abc import Callable
from typing import Any

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import (
    END_STATES,
    Limit,
    QuicConnectionState,
    QuicNetworkPath,
)
from aioquic.quic.events import ConnectionTerminated, QuicEvent
from aioquic.quic.packet import QuicErrorCode, QuicFrameType
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.quic.recovery import QuicPacketSpace
from aioquic.quic.retry import QuicRetryTokenHandler
from aioquic.quic.stream import QuicStream
from aioquic.tls import AlertDescription
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from quicpipe_lab.errors import LocalProtocolError
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.protocol.connection_id import LAST_INDEX, ConnectionIdGenerator
from quicpipe_lab.protocol.path_recovery import PathRecovery
from quicpipe_lab.protocol.quiet import QuietConnection

RandomBytes = Callable[[int], bytes]
"""A source of randomness: from a number of bytes to that many."""

_MOST_REASON_BYTES = 256
"""Of a CONNECTION_CLOSE (RFC 9000, 19.19). Before the handshake is confirmed there are three, and
aioquic has them in one datagram."""


class RetryTokens(QuicRetryTokenHandler):
    """Tokens of Retry packets (RFC 9000, 8.1.4), under a key from our own source."""

    def __init__(self, random: RandomBytes) -> None:
        self._aead = AESGCM(random(16))


class Connection(QuietConnection):
    """A QUIC connection with IDs from a generator, a pinned peer and paths that the owner chooses.

    ``original_destination_connection_id`` is given for a server and only there, and
    ``retry_source_connection_id`` where a Retry came before (RFC 9000, 7.3).
    """

    def __init__(
        self,
        configuration: QuicConfiguration,
        ids: ConnectionIdGenerator,
        *,
        original_destination_connection_id: bytes | None = None,
        retry_source_connection_id: bytes | None = None,
    ) -> None:
        super().__init__(
            configuration=configuration,
            original_destination_connection_id=original_destination_connection_id,
            retry_source_connection_id=retry_source_connection_id,
        )
        self._ids = ids
        self._last_id = LAST_INDEX
        self._farewell: list[tuple[bytes, Any]] = []
        self._told_of_end = False
        self._host_cids[0].cid = ids.next()
        self.host_cid = self._host_cids[0].cid
        self._local_initial_source_connection_id = self.host_cid
        self._recovery = PathRecovery(
            congestion_control_algorithm=configuration.congestion_control_algorithm,
            initial_rtt=configuration.initial_rtt,
            max_datagram_size=configuration.max_datagram_size,
            peer_completed_address_validation=not configuration.is_client,
            quic_logger=self._quic_logger,
            send_probe=self._send_probe,
            logger=self._logger,
        )
        self._loss = self._recovery
        self._stream_window = configuration.max_stream_data
        self._local_max_data = self._window = _ConnectionWindow(self._local_max_data)
        self._paused: dict[int, int] = {}

    # Connection IDs

    @property
    def issued_ids(self) -> int:
        """How many connection IDs this side has minted so far."""
        return self._ids.issued

    @property
    def oldest_id(self) -> int:
        """Index of the oldest ID that the peer has not retired. Sequence numbers (RFC 9000, 5.1.1)
        count from 0, indices from 1."""
        return int(self._host_cids[0].sequence_number) + 1

    @property
    def current_ids(self) -> list[bytes]:
        """The IDs by which the peer may address this side now."""
        return [entry.cid for entry in self._host_cids]

    def mint_upto(self, index: int) -> None:
        """Let the peer have our IDs up to an index and no later ones; without this it gets as many
        as it takes."""
        self._last_id = index
        if self._handshake_complete:
            self._replenish_connection_ids()

    def _replenish_connection_ids(self) -> None:
        known, limit = len(self._host_cids), self._remote_active_connection_id_limit
        left = max(0, self._last_id - self._ids.issued)
        self._remote_active_connection_id_limit = min(limit, known + left)
        super()._replenish_connection_ids()
        self._remote_active_connection_id_limit = limit
        for entry in self._host_cids[known:]:
            entry.cid = self._ids.next()
            self.stir()

    # The peer's identity and the handshake

    @property
    def peer_fingerprint(self) -> str | None:
        """SHA-256 of the peer's certificate in hex, or None before it was seen."""
        certificate = self.tls._peer_certificate if hasattr(self, "tls") else None
        return None if certificate is None else certificate.fingerprint(hashes.SHA256()).hex()

    def refuse_certificate(self, reason: str) -> int:
        """Close because the peer is not who it should be (RFC 9001, 4.8); the error code."""
        error_code = QuicErrorCode.CRYPTO_ERROR + AlertDescription.bad_certificate
        self.close(error_code=error_code, reason_phrase=reason)
        return error_code

    @property
    def has_begun(self) -> bool:
        """Whether any packet of the other side could be read."""
        return self._state is not QuicConnectionState.FIRSTFLIGHT

    @property
    def is_confirmed(self) -> bool:
        """Whether the handshake is confirmed (RFC 9001, 4.1.2): only then may paths change."""
        return bool(self._handshake_confirmed)

    # Paths

    @property
    def address(self) -> TransportAddress | None:
        """Where datagrams go now."""
        address = self.get_peer_address()
        return None if address is None else TransportAddress(*address)

    @property
    def address_is_validated(self) -> bool:
        """Whether the peer has shown that it receives at ``address`` (RFC 9000, 8)."""
        return bool(self._network_paths) and self._network_paths[0].is_validated

    def has_validated(self, address: TransportAddress) -> bool:
        """Whether the peer has shown that it receives at an address, the present one or another."""
        return any(one.is_validated for one in self._network_paths if one.addr == address)

    def trust_address(self) -> None:
        """Take the present address for validated, because another channel has validated it.

        RFC 9000, 8.1 leaves it to the server how it validates; an accepter's peer is at first
        the relay, with which it has a connection of its own.
        """
        self._network_paths[0].is_validated = True
        self.stir()

    def probe(self, address: TransportAddress) -> bool:
        """Client: validate another address of the server and move there once it answers.

        It is what aioquic does with a preferred address (RFC 9000, 9.6), for any address and any
        number of times; probing the same one again repeats the PATH_CHALLENGE (8.2.1). False
        where it cannot be done yet: the handshake is not confirmed, or either side has not
        supplied enough IDs. The last spare ones are kept for the way back to the relay.
        """
        path = next((one for one in self._network_paths if one.addr == address), None)
        if path is not None and path is self._network_paths[0]:
            raise LocalProtocolError(f"{address} is the address in use")
        if path is not None and path.peer_cid is not None and not path.is_validated:
            path.local_challenge_sent = False
            self.stir()
            return True
        spare = min(len(self._peer_cid_available), len(self._host_cids) - 1)
        if not self.is_confirmed or spare < 2:
            return False
        if path is not None:
            self._network_paths.remove(path)
        path = QuicNetworkPath(tuple(address))
        path.peer_cid = self._peer_cid_available.pop(0)
        self._add_network_path(path)
        self.stir()
        return True

    def abandon_probe(self, address: TransportAddress) -> None:
        """Stop validating an address, and retire the connection ID that was kept for it."""
        for path in self._network_paths[1:]:
            if path.addr == address and path.peer_cid is not None:
                self._network_paths.remove(path)
                self._retire_peer_cid(path.peer_cid)
                self.stir()

    def return_to(self, address: TransportAddress, now: float) -> bool:
        """Client: move at once to an address that was validated before.

        What was under way is sent again, or a PING, and makes the server follow. False where the
        peer has supplied no connection ID for it (RFC 9000, 9.5: one ID, one address).
        """
        path = next((one for one in self._network_paths if one.addr == address), None)
        if path is None or not path.is_validated:
            raise LocalProtocolError(f"{address} was never validated")
        if not self._peer_cid_available:
            return False
        self.change_connection_id()
        before = self._network_paths[0]
        self._network_paths.remove(path)
        self._network_paths.insert(0, path)
        self._moved(before)
        self._loss.reschedule_data(now=now)
        return True

    def send_again(self, now: float, *, elsewhere: bool = False) -> None:
        """The path is back after a time in which nothing passed: what is under way is sent again
        at once, or a PING. ``elsewhere``: from another network than before, so that it is another
        path (RFC 9000, 9.4), and what nobody passed on meanwhile no sign of congestion on it."""
        if elsewhere:
            self._recovery.start_path(self._packet_number)
        self._loss._pto_count = 0
        self._loss.reschedule_data(now=now)
        self.stir()

    # The end

    def close(
        self,
        error_code: int = QuicErrorCode.NO_ERROR,
        frame_type: int | None = None,
        reason_phrase: str = "",
    ) -> None:
        """As QuicConnection's; of a reason for which no packet has room, the beginning. aioquic
        would take it, and raise when it is to be sent."""
        short = reason_phrase.encode(errors="replace")[:_MOST_REASON_BYTES]
        super().close(error_code, frame_type, short.decode(errors="ignore"))

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Any]]:
        """As QuicConnection's; remembers the datagrams that close the connection."""
        is_closing = self._close_pending
        datagrams = super().datagrams_to_send(now)
        if is_closing:
            # aioquic's limit on what goes to an unvalidated address leaves out its last words
            # (RFC 9000, 8.1); the path counts them by now.
            if datagrams and not self._network_paths[0].can_send(0):
                datagrams = []
            self._farewell = datagrams
        if self._pacing_at is not None:
            # What is held back may go at the next occasion, before that time.
            self.stir()
        return datagrams

    @property
    def is_over(self) -> bool:
        """Whether it was closed, by either side, or given up."""
        return self._state in END_STATES

    @property
    def farewell(self) -> list[tuple[bytes, Any]]:
        """The CONNECTION_CLOSE as it was sent, to be sent again: aioquic sends it once, and nobody
        acknowledges it (RFC 9000, 10.2). Empty while the connection is open.

        To a validated address (8.1): the present one, or, where the path has only just changed,
        one from before. Where there is none, once has to do."""
        path = next((one for one in self._network_paths if one.is_validated), None)
        return [] if path is None else [(data, path.addr) for data, _ in self._farewell]

    def receive_datagram(self, data: bytes, addr: Any, now: float) -> None:
        """As QuicConnection's; also starts recovery afresh where the packet moved the path, and
        tells at once that the peer has closed the connection."""
        before = self._network_paths[0] if self._network_paths else None
        super().receive_datagram(data, tuple(addr), now)
        self._note_move(before)
        if self._state is QuicConnectionState.DRAINING and not self._told_of_end:
            # aioquic tells when draining is over (RFC 9000, 10.2.2): three PTO, ten seconds and
            # more on a slow path, in which nothing can come any more.
            assert self._close_event is not None
            self._events.append(self._close_event)

    def next_event(self) -> QuicEvent | None:
        """As QuicConnection's; of the end it tells once."""
        event = super().next_event()
        if isinstance(event, ConnectionTerminated):
            if self._told_of_end:
                return None  # the last event that there is
            self._told_of_end = True
        return event

    def handle_timer(self, now: float) -> None:
        """As QuicConnection's; also where it gives up a path (RFC 9000, 9.3.2)."""
        before = self._network_paths[0] if self._network_paths else None
        super().handle_timer(now)
        self._note_move(before)

    def _path_validation_deadline(self) -> float | None:
        deadline = super()._path_validation_deadline()
        return None if deadline is None else deadline + self._recovery.patience_s

    def _note_move(self, before: QuicNetworkPath | None) -> None:
        if before is not None and self._network_paths[0] is not before:
            self._moved(before)

    def _moved(self, before: QuicNetworkPath) -> None:
        # What was kept for paths that came to nothing would be kept for ever.
        for path in self._network_paths[1:]:
            if path.peer_cid is not None:
                self._retire_peer_cid(path.peer_cid)
                path.peer_cid = None
        # RFC 9000, 9.4: a change of the port alone is most likely a NAT rebinding on the same path.
        if before.addr[0] != self._network_paths[0].addr[0]:
            self._recovery.start_path(self._packet_number)

    # Streams

    def open_stream(self) -> int:
        """The ID of a new bidirectional stream of ours; the peer sees it with its first byte."""
        stream_id = self.get_next_available_stream_id()
        self.send_stream_data(stream_id, b"")  # or the next call would answer the same ID
        return stream_id

    def is_finished(self, stream_id: int) -> bool:
        """Whether all was said on a stream, both ways, and acknowledged."""
        stream = self._streams.get(stream_id)
        return stream.is_finished if stream is not None else self._stream_is_discarded(stream_id)

    def is_refused(self, stream_id: int) -> bool:
        """Whether the other side wants nothing of us on a stream (STOP_SENDING, RFC 9000, 3.5):
        aioquic has reset it, and raises where somebody writes to it."""
        stream = self._streams.get(stream_id)
        return stream is not None and stream.sender._reset_error_code is not None

    def pause(self, stream_id: int) -> None:
        """Grant the peer no more of a stream until ``resume``: nobody takes what has come."""
        stream = self._streams.get(stream_id)
        if stream is not None:
            self._paused.setdefault(stream_id, stream.receiver.highest_offset)

    def resume(self, stream_id: int) -> None:
        """What had come on a stream was taken."""
        self._paused.pop(stream_id, None)
        self.stir()

    # aioquic doubles both windows with use, whether or not anybody takes the data: a slow reader
    # would find all of a large transfer in its memory. Here they follow what was taken, a window
    # ahead of it, and in steps of half a window, so that not every packet carries an update.

    def _write_connection_limits(self, builder: QuicPacketBuilder, space: QuicPacketSpace) -> None:
        paused = [(self._streams.get(stream_id), at) for stream_id, at in self._paused.items()]
        held = sum(one.receiver.highest_offset - at for one, at in paused if one is not None)
        self._window.follow(held)
        super()._write_connection_limits(builder, space)

    def _write_stream_limits(
        self,
        builder: QuicPacketBuilder,
        space: QuicPacketSpace,  # noqa: ARG002
        stream: QuicStream,
    ) -> None:
        if not stream.max_stream_data_local or stream.receiver.is_finished:
            return  # a stream that only we write to, or that has come to its end
        assert stream.stream_id is not None
        limit = stream.receiver.highest_offset + self._stream_window
        is_worth_it = limit - stream.max_stream_data_local >= self._stream_window // 2
        if is_worth_it and stream.stream_id not in self._paused:
            stream.max_stream_data_local = limit
        if stream.max_stream_data_local_sent != stream.max_stream_data_local:
            buffer = builder.start_frame(
                QuicFrameType.MAX_STREAM_DATA,
                capacity=1 + 8 + 8,
                handler=self._on_max_stream_data_delivery,
                handler_args=(stream,),
            )
            buffer.push_uint_var(stream.stream_id)
            buffer.push_uint_var(stream.max_stream_data_local)
            stream.max_stream_data_local_sent = stream.max_stream_data_local

    # Measures

    @property
    def has_received(self) -> bool:
        """Whether any packet was authentic so far (RFC 9001, 5.2 for Initials)."""
        return any(space.largest_received_packet >= 0 for space in self._loss.spaces)

    @property
    def rtt_s(self) -> float | None:
        """Smoothed round-trip time of the present path, or None before its first sample."""
        return self._loss._rtt_smoothed if self._loss._rtt_initialized else None

    @property
    def min_rtt_s(self) -> float | None:
        """The least round-trip time seen on the present path: the path's own, without queues.

        None before its first sample; never below 1 ms, which is aioquic's floor.
        """
        return self._loss._rtt_min if self._loss._rtt_initialized else None

    @property
    def has_bytes_in_flight(self) -> bool:
        """Whether anything that was sent awaits its acknowledgement."""
        return any(space.ack_eliciting_in_flight for space in self._loss.spaces)

    @property
    def largest_acknowledged(self) -> int:
        """The highest packet number of ours that the peer has acknowledged."""
        return self._loss.spaces[-1].largest_acked_packet if self._loss.spaces else -1

    def unacknowledged_bytes(self, stream_id: int) -> int:
        """Bytes of a stream that were given to send and are not acknowledged yet; its end counts
        as one. None of a stream that was reset: nobody waits for them."""
        stream = self._streams.get(stream_id)
        if stream is None or stream.sender._reset_error_code is not None:
            return 0
        sender = stream.sender
        end = sender._buffer_fin is not None and not sender._acked_fin
        return sender._buffer_stop - sender._buffer_start + end


class _ConnectionWindow(Limit):
    """MAX_DATA, moved by ``follow`` alone: aioquic's own attempts to double it come to nothing."""

    def __init__(self, initial: Limit) -> None:
        self._value = self._window = initial.value
        super().__init__(initial.frame_type, initial.name, initial.value)

    @property
    def value(self) -> int:
        return self._value

    @value.setter
    def value(self, value: int) -> None:
        pass

    def follow(self, held: int) -> None:
        """Stay a window ahead of what was taken: all that was received, less ``held`` bytes."""
        value = self.used - held + self._window
        if value - self._value >= self._window // 2:
            self._value = value
