"""The relay machine: an HTTP/3 server for registrations, and the forwarding between peers.

Sans-IO, with aioquic's five calls. A datagram goes, in this order, to the HTTP/3 connection that
its destination connection ID belongs to; else to where that ID is bound (see forwarding.py); else,
if it begins an HTTP/3 connection, to a new one. All else is dropped and counted.

A driver that forwards in bulk asks ``resolve`` once for each pair of source and destination ID,
charges the flow for every batch, and forgets all flows when ``generation`` changes.
"""

from collections import deque
from collections.abc import Container
from typing import Any, TextIO

from aioquic.h3.connection import H3_ALPN
from aioquic.quic.logger import QuicLogger

from quicpipe_lab.errors import LocalProtocolError, RemoteProtocolError
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.protocol.connection_id import (
    CONNECTION_ID_LENGTH,
    KEY_LENGTH,
    ConnectionIdGenerator,
    is_relay_connection_id,
)
from quicpipe_lab.protocol.forwarding import Flow, Forwarder, Reason, Sender, Verdict
from quicpipe_lab.protocol.quic import Connection, RandomBytes
from quicpipe_lab.protocol.quic_configuration import standard_configuration
from quicpipe_lab.protocol.registrar import Registrar
from quicpipe_lab.protocol.relay_api import RelayApi
from quicpipe_lab.protocol.relay_events import ClientConnected, ClientLost, RelayEvent
from quicpipe_lab.protocol.relay_http import HttpConnection
from quicpipe_lab.protocol.relay_limits import HostCounts, RelayLimits, Share, host_key
from quicpipe_lab.protocol.retry import AddressValidation, Credentials
from quicpipe_lab.protocol.store import MapStore, Store
from quicpipe_lab.protocol.timers import Timers
from quicpipe_lab.protocol.wire import Invariants, PunchKind, check_initial, parse_invariants

_MAX_STREAM_BYTES = 16_384
_MAX_CONNECTION_BYTES = 65_536
"""What one client can make us buffer."""


class Relay:
    """The machine.

    ``certificate`` and ``private_key`` are objects of ``cryptography``. ``own_addresses`` are the
    relay's, so that nothing is ever forwarded to itself. With ``token`` every request must carry
    it (``Authorization: Bearer``); ``strict`` demands that there is one.
    """

    def __init__(
        self,
        *,
        certificate: Any,
        private_key: Any,
        random: RandomBytes,
        own_addresses: Container[TransportAddress] = (),
        limits: RelayLimits | None = None,
        token: str | None = None,
        strict: bool = False,
        store: Store | None = None,
        connection_id_length: int = CONNECTION_ID_LENGTH,
        qlog: QuicLogger | None = None,
        keylog: TextIO | None = None,
    ) -> None:
        if strict and not token:
            raise LocalProtocolError("a strict relay needs a bearer token")
        self.limits = limits or RelayLimits()
        self._configuration = standard_configuration(
            is_client=False,
            alpn=H3_ALPN,
            idle_timeout_s=self.limits.idle_timeout_s,
            connection_id_length=connection_id_length,
            qlog=qlog,
            keylog=keylog,
        )
        self._configuration.certificate = certificate
        self._configuration.private_key = private_key
        self._configuration.max_data = _MAX_CONNECTION_BYTES
        self._configuration.max_stream_data = _MAX_STREAM_BYTES
        self._random = random
        self._id_length = connection_id_length
        if store is None:
            store = MapStore(self.limits.bindings)
        self._validation = AddressValidation(random, connection_id_length)
        self._forwarder = Forwarder(store, own_addresses, self.limits)
        self._registrar = Registrar(self._forwarder, self.limits, connection_id_length)
        self._api = RelayApi(self._registrar, self.limits, token, self._send_soon)
        # Every connection is under its own IDs and, for the client's first flight, under the ID
        # that the client chose. The latter only together with its address: a stranger's choice
        # must not divert what others send to that ID.
        self._by_id: dict[bytes, HttpConnection] = {}
        self._by_initial: dict[tuple[bytes, TransportAddress], HttpConnection] = {}
        self._clients: dict[HttpConnection, tuple[bytes, TransportAddress]] = {}
        self._half_open: dict[HttpConnection, None] = {}
        self._shares: dict[HttpConnection, Share] = {}
        self._hosts = HostCounts(self.limits.connections_per_host)
        self._timers: Timers[HttpConnection] = Timers()
        self._unsent: dict[HttpConnection, None] = {}
        self._forwarded: list[tuple[bytes, TransportAddress]] = []
        self._events: deque[RelayEvent] = deque()
        self._closing = False

    # The five calls

    def receive_datagram(self, data: bytes, source: TransportAddress, now: float) -> None:
        """Anything that arrived at the relay's socket. Never raises for what a stranger sent."""
        header = parse_invariants(data, self._id_length)
        if header is None or not data[0] & 0x40:
            is_punch = len(data) > 0 and data[0] in tuple(PunchKind)
            self.counters[Reason.PUNCH if is_punch else Reason.NOT_QUIC] += 1
            return
        client = self._by_id.get(header.destination)
        if client is None and header.is_long:
            client = self._by_initial.get((header.destination, source))
        if client is None:
            flow = self.resolve(header.destination, source)
            if flow is not Reason.UNBOUND:
                verdict = self.route(header.destination, source, len(data), now)
                if verdict.destination is not None:
                    self._forwarded.append((data, verdict.destination))
                return
            client = self._accept(data, header, source, now)
        if client is not None:
            self.counters[Reason.TO_RELAY] += 1
            client.quic.receive_datagram(data, source, now)
            if not client.quic.has_begun:
                # By its first bytes alone an Initial that opens a connection. Closing it would
                # send to a client whose ID is not known.
                self._forget(client, now)
            else:
                self._after(client, now)

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, TransportAddress]]:
        """What is to be sent now: what is forwarded first, then our own."""
        sending, self._forwarded = self._forwarded, []
        while self._unsent:
            client, _ = self._unsent.popitem()
            if client not in self._clients:
                continue
            sending += [
                (data, TransportAddress(*address))
                for data, address in client.quic.datagrams_to_send(now)
            ]
            self._after(client, now, sent=True)
        return sending

    def get_timer(self) -> float | None:
        """When handle_timer is to be called at the latest."""
        half_open = next(iter(self._half_open), None)
        times = (
            self._timers.next_s(),
            self._registrar.get_timer(),
            self._api.get_timer(),
            None if half_open is None else half_open.began_s + self.limits.handshake_timeout_s,
        )
        return min((time for time in times if time is not None), default=None)

    def handle_timer(self, now: float) -> None:
        """Do everything that is due."""
        for client in self._timers.due(now):
            client.quic.handle_timer(now)
            self._after(client, now)
        while (half_open := next(iter(self._half_open), None)) is not None:
            if half_open.began_s + self.limits.handshake_timeout_s > now:
                break
            self._forget(half_open, now)
        self._registrar.handle_timer(now)
        self._api.handle_timer(now)

    def next_event(self) -> RelayEvent | None:
        """The next event, or None."""
        for events in (self._registrar.events, self._api.refused):
            self._events += events
            events.clear()
        return self._events.popleft() if self._events else None

    # The decision, for drivers that forward in bulk

    @property
    def generation(self) -> int:
        """Changes when any binding does; flows from before are void then."""
        return self._forwarder.generation

    @property
    def counters(self) -> dict[Reason, int]:
        """Datagrams by what became of them."""
        return self._forwarder.counters

    @property
    def counted(self) -> dict[str, int]:
        """The same in words, for a log."""
        return {one.name.lower(): count for one, count in self.counters.items()}

    def resolve(self, destination_id: bytes, source: TransportAddress) -> Flow | Reason:
        """Where datagrams of a source to an ID go, or why nowhere; counts nothing."""
        return self._forwarder.resolve(destination_id, source)

    def route(
        self, destination_id: bytes, source: TransportAddress, size_bytes: int, now: float
    ) -> Verdict:
        """The whole decision about one datagram that is not for the relay itself, counted."""
        return self._forwarder.route(destination_id, source, size_bytes, now)

    def sender(self, address: TransportAddress) -> Sender | None:
        """Who sends from there; None for an address without live bindings."""
        return self._forwarder.sender(address)

    def senders(self) -> list[Sender]:
        """Every address with live bindings, and what it has sent through the relay."""
        return self._forwarder.senders()

    # Ending

    def close(self) -> None:
        """Take leave of every client; what is left to send says so. Accepts nobody any more."""
        self._closing = True
        for client in self._clients:
            client.close()
            self._send_soon(client)

    # HTTP/3 connections

    def _accept(
        self, data: bytes, header: Invariants, source: TransportAddress, now: float
    ) -> HttpConnection | None:
        """A new connection, where this datagram may begin one."""
        # In a long header the source ID tells, as in the original; a zero-length one is that of
        # an ordinary HTTP/3 client, such as curl.
        telling = header.source if header.is_long else header.destination
        if telling and not is_relay_connection_id(telling):
            self.counters[Reason.UNBOUND] += 1
            return None
        try:
            check_initial(data)
        except RemoteProtocolError:
            self.counters[Reason.NOT_INITIAL] += 1
            return None
        limits = self.limits
        if (
            self._closing
            or len(self._clients) >= limits.connections
            or len(self._half_open) >= limits.half_open_connections
            or self._hosts.payer(Share(), host_key(source.host), 1) is None
        ):
            self.counters[Reason.BUSY] += 1
            return None
        credentials = self._validation.credentials(data, header, source, now)
        if credentials is None:
            if len(self._half_open) >= limits.unvalidated_connections:
                self.counters[Reason.BUSY] += 1
                # Who has a token already takes no second Retry (RFC 9000, 8.1.3).
                if not self._validation.has_token(data):
                    retry = self._validation.retry(header, source, now)
                    self._forwarded.append((retry, source))
                return None
            credentials = Credentials(header.destination)
        ids = ConnectionIdGenerator(
            self._random(KEY_LENGTH), relay_leg=True, length=self._id_length
        )
        quic = Connection(
            self._configuration,
            ids,
            original_destination_connection_id=credentials.original_destination_id,
            retry_source_connection_id=credentials.retry_source_id,
        )
        client = HttpConnection(quic, limits.requests_per_connection, now)
        initial = (header.destination, source)
        self._clients[client] = initial
        self._half_open[client] = None
        self._shares[client] = Share()
        self._by_initial[initial] = client
        if credentials.retry_source_id is not None:
            # Others count once they are established: no host loses places to who uses its name.
            self._count(client, source)
        return client

    def _after(self, client: HttpConnection, now: float, *, sent: bool = False) -> None:
        """Whatever was done with a connection may have changed any of this."""
        was_established = client.is_established
        before = set(client.connection_ids)
        client.handle_events()
        for connection_id in client.connection_ids:
            self._by_id[connection_id] = client
        for connection_id in before - client.connection_ids:
            self._by_id.pop(connection_id, None)
        address = client.validated_address
        if client.is_established and not was_established:
            self._half_open.pop(client, None)
            if address is not None:
                self._events.append(ClientConnected(address))
            if not self._count(client, address or self._clients[client][1]):
                client.refuse("too many connections of this host")
        elif client.is_established and address is not None:
            self._count(client, address)
        if client.terminated is not None:
            self._forget(client, now)
            return
        while client.cancelled:
            self._api.cancel(client, client.cancelled.popleft())
        if client.is_established:
            self._registrar.move(client, address, now)
        # Requests wait until the address is validated: a copy of a client's packet that overtakes
        # it from elsewhere would otherwise bind its IDs there.
        while client.requests and address is not None:
            self._api.handle(client, client.requests.popleft(), address, now)
            sent = False
        if not sent:
            self._send_soon(client)
        self._timers.set(client, client.quic.get_timer())

    def _count(self, client: HttpConnection, address: TransportAddress) -> bool:
        """Count a connection for the host of its address, if there is room; whether it counts."""
        share = self._shares[client]
        host = self._hosts.payer(share, host_key(address.host), 1)
        if host is not None:
            self._hosts.set(share, host, 1)
        return host is not None

    def _send_soon(self, client: HttpConnection) -> None:
        self._unsent[client] = None

    def _forget(self, client: HttpConnection, now: float) -> None:
        initial = self._clients.pop(client)
        self._by_initial.pop(initial, None)
        self._half_open.pop(client, None)
        self._hosts.set(self._shares.pop(client), None, 0)
        self._timers.set(client, None)
        for connection_id in client.connection_ids:
            self._by_id.pop(connection_id, None)
        for stream_id in client.unanswered:
            self._api.cancel(client, stream_id)
        self._registrar.leave(client, now)
        if client.terminated is not None and client.is_established:
            event = client.terminated
            address = client.quic.address or initial[1]
            self._events.append(ClientLost(address, event.error_code, event.reason_phrase))
