"""A QUIC client and a server, joined by a wire of two addresses."""

import random
from dataclasses import dataclass, field

import pytest
from aioquic.quic.events import StreamDataReceived

from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.protocol.connection_id import ConnectionIdGenerator
from quicpipe_lab.protocol.quic import Connection
from quicpipe_lab.protocol.quic_configuration import standard_configuration
from quicpipe_lab.protocol.wire import check_initial
from tests.protocol.pair import CERTIFICATE, PRIVATE_KEY

CLIENT = TransportAddress("203.0.113.10", 5000)
SERVER = TransportAddress("203.0.113.20", 6000)
OTHER = TransportAddress("203.0.113.30", 7000)
ONE_WAY_S = 0.02


@dataclass
class Wire:
    """Client and server, joined by a delay; the server is reachable at two addresses."""

    client: Connection
    server: Connection
    now: float = 100.0
    sent_to: list[TransportAddress] = field(default_factory=list)
    challenge_sizes: list[int] = field(default_factory=list)
    dead: set[TransportAddress] = field(default_factory=set)
    events: list[object] = field(default_factory=list)

    def step(self) -> bool:
        """One exchange; False when both are silent."""
        to_server = [(d, TransportAddress(*a)) for d, a in self.client.datagrams_to_send(self.now)]
        self.now += ONE_WAY_S
        for data, address in to_server:
            self.sent_to.append(address)
            if address not in self.dead:
                # The server sees another source for each of its addresses, as behind a NAT.
                self.server.receive_datagram(data, self.seen_from(address), self.now)
        to_client = self.server.datagrams_to_send(self.now)
        self.now += ONE_WAY_S
        for data, source in to_client:
            address = SERVER if source == tuple(CLIENT) else OTHER
            if address not in self.dead:
                self.client.receive_datagram(data, address, self.now)
        for one in (self.client, self.server):
            while (event := one.next_event()) is not None:
                self.events.append(event)
        return bool(to_server or to_client)

    @staticmethod
    def seen_from(address: TransportAddress) -> TransportAddress:
        return CLIENT if address == SERVER else TransportAddress("198.51.100.9", 5001)

    def settle(self) -> None:
        for _ in range(100):
            if not self.step():
                for one in (self.client, self.server):
                    timer = one.get_timer()
                    if timer is not None and timer < self.now + 1.0:
                        self.now = max(self.now, timer) + 1e-6
                        one.handle_timer(self.now)
                        break
                else:
                    return

    def settle_all(self) -> None:
        """Until flow control or the end of the data stops it: many round trips."""
        while True:
            before = len(self.events)
            self.settle()
            if len(self.events) == before:
                return

    def send(self, data: bytes) -> None:
        self.client.send_stream_data(0, data)

    def got(self) -> bytes:
        return b"".join(e.data for e in self.events if isinstance(e, StreamDataReceived))


def ids(seed: int) -> ConnectionIdGenerator:
    return ConnectionIdGenerator(random.Random(seed).randbytes(16), relay_leg=False)


def begun(seed: int, now: float = 0.0) -> tuple[Connection, bytes]:
    """A client, and the datagram with which it begins."""
    client = Connection(standard_configuration(is_client=True, alpn=["x"]), ids(seed))
    client.connect(SERVER, now)
    (initial, _), *_ = client.datagrams_to_send(now)
    return client, initial


def server_for(initial: bytes, seed: int) -> Connection:
    """Which has not received the datagram yet."""
    configuration = standard_configuration(is_client=False, alpn=["x"])
    configuration.certificate, configuration.private_key = CERTIFICATE, PRIVATE_KEY
    original = check_initial(initial).destination
    return Connection(configuration, ids(seed), original_destination_connection_id=original)


@pytest.fixture
def wire() -> Wire:
    client, initial = begun(1, 100.0)
    server = server_for(initial, 2)
    server.receive_datagram(initial, CLIENT, 100.0)
    made = Wire(client, server)
    made.settle()
    assert client.is_confirmed
    return made
