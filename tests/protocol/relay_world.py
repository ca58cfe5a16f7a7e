"""A relay and real HTTP/3 clients of aioquic in memory, in virtual time."""

import functools
import itertools
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.events import ConnectionTerminated, HandshakeCompleted
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.protocol.connection_id import ConnectionIdGenerator
from quicpipe_lab.protocol.quic import Connection
from quicpipe_lab.protocol.quic_configuration import standard_configuration
from quicpipe_lab.protocol.relay import Relay
from quicpipe_lab.protocol.relay_events import RelayEvent
from quicpipe_lab.protocol.relay_limits import RelayLimits
from quicpipe_lab.protocol.store import AssociationNotFoundError, MapStore
from quicpipe_lab.protocol.wire import Registration, encode_registration, parse_invariants
from quicpipe_lab.shell.certificates import load_or_create
from tests.folders import vanishing_folder

RELAY = TransportAddress("198.18.0.1", 4433)
TICK_S = 1e-6


@functools.cache
def certificate() -> tuple[x509.Certificate, Ed25519PrivateKey]:
    """One for all tests."""
    with vanishing_folder() as directory:
        return load_or_create(directory)


@dataclass
class Answer:
    """An HTTP response, as far as it has come; ``at_s`` when it was complete."""

    status: int = 0
    headers: dict[bytes, bytes] = field(default_factory=dict)
    body: bytes = b""
    at_s: float | None = None


class Client:
    """An HTTP/3 client. ``address`` may be changed at any time: then it has moved."""

    def __init__(self, network: "Network", address: TransportAddress, seed: int) -> None:
        self.network = network
        self.address = address
        ids = ConnectionIdGenerator(random.Random(seed).randbytes(16), relay_leg=True)
        self.quic = Connection(standard_configuration(is_client=True, alpn=H3_ALPN), ids)
        self.quic.configuration.verify_mode = 0
        self.quic.connect(RELAY, network.now)
        self.http: H3Connection | None = None
        self.answers: dict[int, Answer] = {}
        self.terminated: ConnectionTerminated | None = None

    def handle_events(self) -> None:
        while (event := self.quic.next_event()) is not None:
            if isinstance(event, HandshakeCompleted):
                self.http = H3Connection(self.quic)
            elif isinstance(event, ConnectionTerminated):
                self.terminated = event
            elif self.http is not None:
                for http_event in self.http.handle_event(event):
                    self._handle(http_event)

    def _handle(self, event: object) -> None:
        if not isinstance(event, HeadersReceived | DataReceived):
            return
        answer = self.answers[event.stream_id]
        if isinstance(event, HeadersReceived):
            answer.headers = dict(event.headers)
            answer.status = int(answer.headers[b":status"])
        else:
            answer.body += event.data
        if event.stream_ended:
            answer.at_s = self.network.now

    def request(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> Answer:
        """Ask; the answer fills itself while time passes."""
        assert self.http is not None
        stream_id = self.quic.get_next_available_stream_id()
        head = [
            (b":method", method.encode()),
            (b":scheme", b"https"),
            (b":authority", b"relay"),
            (b":path", path.encode()),
            *((name.encode(), value.encode()) for name, value in (headers or {}).items()),
        ]
        self.http.send_headers(stream_id, head, end_stream=not body)
        if body:
            self.http.send_data(stream_id, body, end_stream=True)
        self.answers[stream_id] = Answer()
        return self.answers[stream_id]

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> Answer:
        """Ask and let so much time pass as an answer takes that is given at once."""
        answer = self.request(method, path, body, headers)
        self.network.settle()
        self.network.advance(0.1)
        return answer

    def post(self, body: bytes | dict[str, Any], headers: dict[str, str] | None = None) -> Answer:
        """POST /v1/register."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.ask("POST", "/v1/register", data, headers)

    def register(
        self, key: bytes, num: int, headers: dict[str, str] | None = None, *, first: int = 1
    ) -> Answer:
        return self.post(encode_registration(Registration(key, num, first)), headers)


class Network:
    """Everything arrives at once; only timers make time pass."""

    def __init__(self, *, store: MapStore | None = None, **options: Any) -> None:
        self.now = 1000.0
        self.clients: list[Client] = []
        self.events: list[RelayEvent] = []
        self.delivered: dict[TransportAddress, list[bytes]] = {}
        """What the relay sent that belongs to no client's HTTP/3 connection, by address."""
        self.to_relay: Callable[[bytes, TransportAddress], bool] = lambda _data, _source: True
        """Asked before a client's datagram reaches the relay; False drops it."""
        self._seeds = itertools.count(1)
        if store is None:
            store = MapStore(options.get("limits", RelayLimits()).bindings)
        self.store = store
        pem, key = certificate()
        source = random.Random(7)
        self.relay = Relay(
            certificate=pem,
            private_key=key,
            random=source.randbytes,
            own_addresses=(RELAY,),
            store=self.store,
            **options,
        )

    def client(self, host: str = "203.0.113.1", port: int = 5000) -> Client:
        """A connected client."""
        client = self.begin(host, port)
        self.settle()
        assert client.http is not None
        return client

    def begin(self, host: str = "203.0.113.1", port: int = 5000) -> Client:
        """A client whose handshake has yet to happen."""
        client = Client(self, TransportAddress(host, port), next(self._seeds))
        self.clients.append(client)
        return client

    def inject(self, data: bytes, source: TransportAddress) -> None:
        """Any datagram from anywhere to the relay."""
        self.relay.receive_datagram(data, source, self.now)
        self.settle()

    def settle(self) -> None:
        """Carry datagrams about until nobody has any."""
        busy = True
        while busy:
            busy = False
            for client in self.clients:
                for data, _ in client.quic.datagrams_to_send(self.now):
                    busy = True
                    if self.to_relay(data, client.address):
                        self.relay.receive_datagram(data, client.address, self.now)
            for data, address in self.relay.datagrams_to_send(self.now):
                busy = True
                self._deliver(data, address)
            while (event := self.relay.next_event()) is not None:
                self.events.append(event)

    def advance(self, seconds: float) -> None:
        """Let time pass, timer by timer."""
        end = self.now + seconds
        self.settle()
        while True:
            timers = [self.relay.get_timer(), *(one.quic.get_timer() for one in self.clients)]
            next_s = min((time for time in timers if time is not None), default=end + 1)
            if next_s + TICK_S > end:
                self.now = end
                return
            self.now = max(self.now, next_s + TICK_S)
            for client in self.clients:
                timer = client.quic.get_timer()
                if timer is not None and timer <= self.now:
                    client.quic.handle_timer(self.now)
                    client.handle_events()
            self.relay.handle_timer(self.now)
            self.settle()

    def bound_to(self, key: bytes, index: int = 1) -> TransportAddress | None:
        """Where datagrams to an ID of a key go."""
        connection_id = ConnectionIdGenerator(key, relay_leg=False).at(index)
        try:
            return self.store.get_association(connection_id).address
        except AssociationNotFoundError:
            return None

    def of(self, kind: type[RelayEvent]) -> list[Any]:
        """The events of one kind, so far."""
        return [event for event in self.events if isinstance(event, kind)]

    def _deliver(self, data: bytes, address: TransportAddress) -> None:
        header = parse_invariants(data)
        assert header is not None
        for client in self.clients:
            if client.address == address and header.destination in client.quic.current_ids:
                client.quic.receive_datagram(data, RELAY, self.now)
                client.handle_events()
                return
        self.delivered.setdefault(address, []).append(data)
