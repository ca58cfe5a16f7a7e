"""What dialer and accepter share: one socket, the relay's leg, the peer's connection, the direct
path. Sans-IO: the five calls, driven by a shell or by a simulator.

A port search (``EndpointConfig.search``, off unless asked for) needs more sockets for a while.
Whoever drives an endpoint that may search does three things besides, none of which the others
notice:

- after each call, see that just the sockets of ``extra_sockets`` are open: numbers from 1, chosen
  here, each on the same host as the first socket and a port of its own. Usually there are none,
  255 in a search, and one while it carries the path that was found. What is not in the set any
  more is closed. A socket that cannot be had is no error.
- after ``datagrams_to_send``, send ``extra_datagrams_to_send()`` by the sockets that it names.
- hand what comes in on them to ``receive_datagram(data, source, now, via)`` with their number.
"""

from abc import ABC, abstractmethod
from collections import deque
from typing import Any

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import (
    ConnectionTerminated,
    HandshakeCompleted,
    StopSendingReceived,
    StreamDataReceived,
    StreamReset,
)

from quicpipe_lab.errors import LocalProtocolError, RemoteProtocolError
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.protocol.connection_id import (
    KEY_LENGTH,
    ConnectionIdGenerator,
    is_relay_connection_id,
)
from quicpipe_lab.protocol.direct import DirectPath
from quicpipe_lab.protocol.direct_states import Command, CommandKind
from quicpipe_lab.protocol.endpoint_config import ALPN, EndpointConfig
from quicpipe_lab.protocol.events import (
    CandidatesExchanged,
    Closed,
    Connected,
    EndpointEvent,
    PathChanged,
    RelayLost,
    RelayRegistered,
    StreamBroken,
    StreamData,
    StreamRefused,
)
from quicpipe_lab.protocol.path_bytes import PathBytes
from quicpipe_lab.protocol.quic import Connection
from quicpipe_lab.protocol.quic_configuration import (
    PEER_WINDOW_BYTES,
    WINDOW_BYTES,
    standard_configuration,
)
from quicpipe_lab.protocol.relay_leg import REGISTER_STEP, RelayLeg
from quicpipe_lab.protocol.signalling import Moved, Round, Search, Signalling
from quicpipe_lab.protocol.wire import parse_invariants

REGISTER_RESERVE = 16
"""When so few registered IDs are left unminted, the next step is asked for: twice the eight that
a connection holds at once."""


class Endpoint(ABC):
    """The shared part. A subclass makes the peer connection (``_peer``) and says how it begins."""

    is_dialer: bool

    def __init__(self, config: EndpointConfig) -> None:
        self.config = config
        self.key = config.random(KEY_LENGTH)
        """From it the relay derives our connection IDs."""
        self.bytes = PathBytes()
        self.registered: RelayRegistered | None = None
        self.relay = RelayLeg(
            address=config.relay,
            authority=config.relay_authority,
            configuration=config.relay_quic or self._configuration(is_client=True, alpn=[]),
            trust=config.relay_trust,
            key=self.key,
            random=config.random,
            request_hook=config.request_hook,
            response_hook=config.response_hook,
        )
        self.direct = DirectPath(
            self.is_dialer, config.random, config.timing, search_limits=config.search
        )
        self._by_socket: list[tuple[int, bytes, TransportAddress]] = []
        self._ids = ConnectionIdGenerator(
            self.key, relay_leg=False, length=config.connection_id_length
        )
        self._peer: Connection | None = None
        self._requested = 0
        self._control_stream: int | None = None
        self._signalling = Signalling(
            is_dialer=self.is_dialer,
            relay=config.relay,
            host_addresses=config.host_addresses,
            random=config.random,
            search=config.search is not None,
        )
        self._return_pending = self._was_lost = False
        self._closed = self._repeats_close = False
        self._keepalive_at: float | None = None
        self._events: deque[EndpointEvent] = deque()

    # What the application does

    def start(self, now: float) -> None:
        """Connect to the relay and register."""
        self.relay.expecting = True
        self.relay.connect(now)
        self._register_more()

    def open_stream(self) -> int:
        """The ID of a new bidirectional stream to the peer."""
        return self._connected_peer.open_stream()

    def send_stream_data(self, stream_id: int, data: bytes, end_stream: bool = False) -> None:
        """Queue bytes for the peer, in order. Raises LocalProtocolError on a stream that is not
        ours to write to, or no more."""
        try:
            self._connected_peer.send_stream_data(stream_id, data, end_stream)
        except (ValueError, RuntimeError) as error:
            raise LocalProtocolError(f"stream {stream_id}: {error}") from None

    def unacknowledged_bytes(self, stream_id: int) -> int:
        """Bytes queued on a stream and not acknowledged yet: what a sender paces itself by. The
        stream's end counts as one."""
        return 0 if self._peer is None else self._peer.unacknowledged_bytes(stream_id)

    def is_finished(self, stream_id: int) -> bool:
        """Whether all was said on a stream, both ways, and acknowledged."""
        return self._peer is not None and self._peer.is_finished(stream_id)

    def pause_stream(self, stream_id: int) -> None:
        """Let the peer send no more than a window on a stream, until ``resume_stream``."""
        self._connected_peer.pause(stream_id)

    def resume_stream(self, stream_id: int) -> None:
        """What had come on a stream was taken; drive on, for the peer is to hear of it."""
        self._connected_peer.resume(stream_id)

    def close(self, error_code: int = 0, reason: str = "") -> None:
        """End the peer connection and the relay's leg; drive on until nothing is to be sent."""
        if self._peer is not None:
            self._peer.close(error_code=error_code, reason_phrase=reason)
        self.relay.close()

    def repeat_close(self) -> None:
        """Send the peer our CONNECTION_CLOSE once more: the first may be lost."""
        self._repeats_close = True

    @property
    def peer_rtt_s(self) -> float | None:
        """The least round-trip time seen on the path in use."""
        return None if self._peer is None else self._peer.min_rtt_s

    @property
    def is_direct(self) -> bool:
        """Whether data goes to the peer itself."""
        return self._peer is not None and self._peer.address not in (None, self.config.relay)

    @property
    def statistics(self) -> dict[str, Any]:
        """What a log says at the end: bytes by path, and the round trip of the path in use."""
        return {"bytes": self.bytes, "direct": self.is_direct, "rtt_s": self.peer_rtt_s}

    # The five calls

    def receive_datagram(
        self, data: bytes, source: TransportAddress, now: float, via: int = 0
    ) -> None:
        """Whatever came in on the socket, or on an extra one (``via``)."""
        if not data:
            return
        if data[0] < 0x40:
            self.direct.receive(data, source, now, via)
        else:
            header = parse_invariants(data, self.config.connection_id_length)
            if header is None:
                return
            if is_relay_connection_id(header.destination):
                self.relay.receive_datagram(data, source, now)
            elif self._peer is not None:
                self.direct.routes.quic_came(source, via)
                self._receive_from_peer(data, source, now)
        self._turn(now)

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, TransportAddress]]:
        """What goes out on the socket now."""
        out = self.relay.datagrams_to_send(now)
        if self._peer is not None and not self._peer_is_waiting:
            for data, address in self._peer.datagrams_to_send(self._peer_time(now)):
                self.bytes.count(len(data), direct=address != self.config.relay)
                self._send_to_peer(data, TransportAddress(*address), out)
            if self._repeats_close:
                for data, address in self._peer.farewell:
                    self._send_to_peer(data, TransportAddress(*address), out)
                self._repeats_close = False
            self.direct.set_busy(self._peer.has_bytes_in_flight, now)
        return out + self.direct.datagrams_to_send(now)

    def extra_datagrams_to_send(self) -> list[tuple[int, bytes, TransportAddress]]:
        """What the last call of datagrams_to_send has left for extra sockets: number of the
        socket, datagram, address. Of a socket that is not open: drop it."""
        out = self._by_socket + self.direct.extra_outbox
        self._by_socket = []
        self.direct.extra_outbox.clear()
        return out

    @property
    def extra_sockets(self) -> frozenset[int]:
        """Which extra sockets are to be open now; see the top of this file."""
        return self.direct.extra_sockets

    def get_timer(self) -> float | None:
        """When handle_timer wants to be called."""
        times = [self.relay.get_timer(), self.direct.get_timer(), self._keepalive_at]
        if self._peer is not None and not self._peer_is_waiting:
            timer = self._peer.get_timer()
            times.append(None if timer is None else self._real_time(timer))
        return min((time for time in times if time is not None), default=None)

    def handle_timer(self, now: float) -> None:
        """Make what is due happen; then call datagrams_to_send."""
        self.relay.handle_timer(now)
        self.direct.handle_timer(now)
        if self._peer is not None and not self._peer_is_waiting:
            timer = self._peer.get_timer()
            if timer is not None and timer <= self._peer_time(now):
                before, rtt_s = self._peer.address, self._peer.min_rtt_s
                self._peer.handle_timer(self._peer_time(now))
                self._note_path(before, rtt_s, now)
            if self._keepalive_at is not None and self._keepalive_at <= now:
                self._peer.send_ping(0)
                self._keepalive_at = now + self._keepalive_s
        self._turn(now)

    def next_event(self) -> EndpointEvent | None:
        """The next event, or None."""
        return self._events.popleft() if self._events else None

    # For subclasses

    _peer_is_waiting = False
    """Whether the peer connection's clock stands still."""

    def _peer_time(self, now: float) -> float:
        """The peer connection's time at ``now``."""
        return now

    def _real_time(self, peer_time: float) -> float:
        """The inverse of _peer_time."""
        return peer_time

    @abstractmethod
    def _on_registered(self, now: float) -> None:
        """The first registration succeeded."""

    @abstractmethod
    def _check_peer(self, peer: Connection) -> bool:
        """Whether the peer is who it should be; closes the connection where it is not."""

    def _configuration(self, *, is_client: bool, alpn: list[str]) -> QuicConfiguration:
        return standard_configuration(
            is_client=is_client,
            alpn=alpn,
            idle_timeout_s=self.config.idle_timeout_s,
            connection_id_length=self.config.connection_id_length,
            window_bytes=PEER_WINDOW_BYTES if alpn else WINDOW_BYTES,
            qlog=self.config.qlog,
            keylog=self.config.keylog,
        )

    # Parts

    @property
    def _connected_peer(self) -> Connection:
        if self._peer is None:
            raise LocalProtocolError("there is no connection with the peer yet")
        return self._peer

    def _send_to_peer(
        self, data: bytes, address: TransportAddress, out: list[tuple[bytes, TransportAddress]]
    ) -> None:
        via = self.direct.routes.via(address)
        if via:
            self._by_socket.append((via, data, address))
        else:
            out.append((data, address))

    def _receive_from_peer(self, data: bytes, source: TransportAddress, now: float) -> None:
        assert self._peer is not None
        source = self.direct.canonical(source)
        self.bytes.count(len(data), direct=source != self.config.relay)
        before, rtt_s = self._peer.address, self._peer.min_rtt_s
        acknowledged = self._peer.largest_acknowledged
        self._peer.receive_datagram(data, source, self._peer_time(now))
        self._note_path(before, rtt_s, now)
        if source == self._peer.address and self._peer.largest_acknowledged > acknowledged:
            self.direct.heard()

    def _turn(self, now: float) -> None:
        """Carry out what the parts want of each other, until they want nothing."""
        while (event := self.relay.next_event()) is not None:
            self._events.append(event)
            if isinstance(event, RelayRegistered):
                before, self.registered = self.registered, event
                moved = b"" if self._closed else self._signalling.moved(event.observed)
                if moved:
                    self._send_control(moved)
                    self.direct.try_again(now)
                if self._was_lost or moved:
                    self._was_lost = False
                    self._resume_relayed(now, before)
                if before is None:
                    self._on_registered(now)
            elif isinstance(event, RelayLost):
                self._was_lost = True
        if self._peer is not None:
            self._handle_peer_events(self._peer, now)
            self._look_for_direct_path()
            self._peer.mint_upto(self.relay.registered)
            self._register_more()
        self._events.extend(iter(self.direct.next_event, None))
        while (command := self.direct.next_command()) is not None:
            self._obey(command, now)
        if self._return_pending:
            self._return_to_relay(now)
        self._events.extend(iter(self.direct.next_event, None))

    def _handle_peer_events(self, peer: Connection, now: float) -> None:
        while (event := peer.next_event()) is not None:
            if self._closed:
                continue  # what comes with its end, or from somebody who is not the peer
            match event:
                case HandshakeCompleted():
                    self.relay.expecting = False
                    if self._check_peer(peer):
                        self._connected(peer, event.alpn_protocol or "")
                        self._keepalive_at = now + self._keepalive_s
                case StreamDataReceived(stream_id=stream_id, data=data, end_stream=ended):
                    if not self._is_control(stream_id):
                        self._events.append(StreamData(stream_id, data, ended))
                    elif self.config.direct:
                        self._receive_control(data, now)
                case StreamReset() | StopSendingReceived() if self._is_control(event.stream_id):
                    self._accuse("the peer gave a control stream up")
                case StreamReset(stream_id=stream_id, error_code=error_code):
                    self._events.append(StreamBroken(stream_id, error_code))
                case StopSendingReceived(stream_id=stream_id, error_code=error_code):
                    self._events.append(StreamRefused(stream_id, error_code))
                case ConnectionTerminated():
                    self._over(Closed(event.error_code, event.reason_phrase))

    def _connected(self, peer: Connection, alpn: str) -> None:
        """Only under our own name for the application do the peers have control streams."""
        self._events.append(Connected(alpn, peer.peer_fingerprint))
        if alpn == ALPN:
            self._control_stream = peer.get_next_available_stream_id(is_unidirectional=True)

    def _is_control(self, stream_id: int) -> bool:
        """Whether a stream is one of the two that are ours and not the application's."""
        ours = self._control_stream
        return ours is not None and stream_id in (ours, self._signalling.their_stream)

    def _accuse(self, problem: str) -> None:
        """The peer broke the protocol between us. Nothing more is sent on a control stream, which
        may not be there for it."""
        self._connected_peer.close(error_code=0x1, reason_phrase=problem)
        self._over(Closed(0x1, problem))

    def _over(self, event: Closed) -> None:
        self._closed = True
        self.relay.expecting = False
        self._keepalive_at = None
        self.direct.stop()
        self._events.append(event)

    def _look_for_direct_path(self) -> None:
        """The dialer opens the first round, when enough has gone through the relay."""
        if (
            self.is_dialer
            and self.config.direct
            and self._control_stream is not None
            and not self._closed
            and not self._signalling.has_begun
            and self.bytes.relayed >= self.config.direct_after_bytes
        ):
            self._begin_round(1)

    @property
    def _keepalive_s(self) -> float:
        """How often to remind the peer that we live: well before its idle timeout (RFC 9000,
        10.1.2), which punch datagrams, not being QUIC, do not put off."""
        return self.config.idle_timeout_s / 3

    def _begin_round(self, number: int) -> None:
        self.direct.round = number
        self._send_control(self._signalling.begin(number, self.relay.observed))

    def _send_control(self, message: bytes) -> None:
        peer, stream_id = self._connected_peer, self._control_stream
        assert stream_id is not None
        if not peer.is_refused(stream_id):  # of which we are about to hear
            peer.send_stream_data(stream_id, message)

    def _receive_control(self, data: bytes, now: float) -> None:
        assert self._peer is not None
        try:
            rounds = self._signalling.receive(data, self.relay.observed, now)
        except RemoteProtocolError as error:
            self._accuse(str(error))
            return
        for one in rounds:
            match one:
                case Search():
                    self._search(one, now)
                case Moved(theirs, search_at):
                    self.direct.learn(theirs, search_at, now)
                case Round():
                    self._events.append(CandidatesExchanged(one.ours, one.theirs))
                    if one.answer:
                        self.direct.round = one.number
                        self._send_control(one.answer)
                    self.direct.punch(one.key, one.theirs, self._peer.rtt_s, now, one.search_at)

    def _search(self, search: Search, now: float) -> None:
        """The peer would search the ports (accepter), or agrees to do so (dialer)."""
        assert self._peer is not None
        ours = self.direct.offer
        if not self.is_dialer:
            self._send_control(self._signalling.search(search.number, ours))
        self.direct.search(ours, search.theirs, self._peer.rtt_s, now)

    def _obey(self, command: Command, now: float) -> None:
        assert self._peer is not None
        match command:
            case Command(CommandKind.PROBE, TransportAddress() as address):
                if self._peer.address == address:
                    # We never got away from it, for want of a connection ID.
                    self._return_pending = False
                    self.direct.moved(address, now)
                else:
                    self._peer.probe(address)
            case Command(CommandKind.ABANDON, TransportAddress() as address):
                self._peer.abandon_probe(address)
            case Command(CommandKind.RETURN):
                self._return_pending = True
            case Command(CommandKind.SEARCH):
                self._send_control(self._signalling.search(self.direct.round, self.direct.offer))
            case Command(CommandKind.REFRESH):
                self.relay.refresh(now)
            case Command(CommandKind.NEW_ROUND):
                self._begin_round(self.direct.round)

    def _return_to_relay(self, now: float) -> None:
        assert self._peer is not None
        before, rtt_s = self._peer.address, self._peer.min_rtt_s
        if before == self.config.relay or self._peer.return_to(
            self.config.relay, self._peer_time(now)
        ):
            self._return_pending = False
            self._note_path(before, rtt_s, now)

    def _resume_relayed(self, now: float, before: RelayRegistered | None) -> None:
        """The relay forwards to us again: do not wait for a timer that has backed off for as long
        as it did not."""
        then = None if before is None else before.observed
        here = self.relay.observed
        elsewhere = then is not None and here is not None and then.host != here.host
        if self._peer is not None and not self._peer_is_waiting and not self.is_direct:
            self._peer.send_again(self._peer_time(now), elsewhere=elsewhere)

    def _note_path(self, before: TransportAddress | None, rtt_s: float | None, now: float) -> None:
        """Tell everybody where the peer connection moved, if it did."""
        assert self._peer is not None
        after = self._peer.address
        if after is None or before is None or after == before:
            return
        direct = after != self.config.relay
        if not direct:
            self.relay.refresh(now)
        self.direct.moved(after if direct else None, now)
        self._events.append(PathChanged(direct, after, rtt_s))

    def _register_more(self) -> None:
        """Each move uses up an ID of either side. The peer gets none of ours that the relay does
        not know, so neither leaves the relay without a way back; and the relay, which binds so
        many of one owner only, gets back those that the peer has retired."""
        if self._ids.issued + REGISTER_RESERVE > self._requested:
            self._requested += REGISTER_STEP
            oldest = 1 if self._peer is None else self._peer.oldest_id
            self.relay.register(self._requested, oldest)
