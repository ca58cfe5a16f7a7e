"""A relay machine on a real socket of this process, and clients on others, in one thread."""

import os
import select
import socket
import time
from collections.abc import Callable
from pathlib import Path

from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.protocol.connection_id import ConnectionIdGenerator, is_relay_connection_id
from quicpipe_lab.protocol.events import EndpointEvent, RelayRefused, RelayRegistered
from quicpipe_lab.protocol.quic_configuration import standard_configuration
from quicpipe_lab.protocol.relay import Relay
from quicpipe_lab.protocol.relay_leg import RelayLeg, RelayTrust
from quicpipe_lab.protocol.relay_limits import RelayLimits
from quicpipe_lab.protocol.wire import parse_invariants
from quicpipe_lab.shell.certificates import load_or_create
from quicpipe_lab.shell.relay_socket import (
    RelayTransport,
    from_socket,
    open_socket,
    to_socket,
)

DEADLINE_S = 5.0
LOOPBACK = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}


class Client:
    """A socket with a connection to the relay, which registers one key."""

    def __init__(self, relay: TransportAddress, key: bytes, host: str) -> None:
        self.key = key
        self.socket = open_socket(host, 0)
        self.address = from_socket(self.socket.getsockname())
        self.relay = relay
        self.received: list[bytes] = []
        self.events: list[EndpointEvent] = []
        self.leg = RelayLeg(
            address=relay,
            authority=str(relay),
            configuration=standard_configuration(is_client=True, alpn=[]),
            trust=RelayTrust(insecure=True),
            key=key,
            random=os.urandom,
        )
        self.leg.connect(time.monotonic())

    def connection_id(self, index: int = 1) -> bytes:
        return ConnectionIdGenerator(self.key, relay_leg=False).at(index)

    def send(self, data: bytes) -> None:
        """To the relay, outside of the connection with it."""
        self.socket.sendto(data, to_socket(self.relay, self.socket.family))

    def turn(self) -> None:
        """Receive and send what there is."""
        now = time.monotonic()
        timer_s = self.leg.get_timer()
        if timer_s is not None and timer_s <= now:
            self.leg.handle_timer(now)
        while True:
            try:
                data, _ = self.socket.recvfrom(65535)
            except BlockingIOError:
                break
            header = parse_invariants(data)
            if header is not None and is_relay_connection_id(header.destination):
                self.leg.receive_datagram(data, self.relay, now)
            else:
                self.received.append(data)
        for data, _ in self.leg.datagrams_to_send(now):
            self.send(data)
        while (event := self.leg.next_event()) is not None:
            self.events.append(event)


class Scene:
    """``transport``: from the relay's socket to a RelayTransport. A context manager."""

    def __init__(
        self,
        transport: Callable[[socket.socket], RelayTransport],
        directory: Path,
        host: str = "127.0.0.1",
        limits: RelayLimits | None = None,
    ) -> None:
        certificate, private_key = load_or_create(directory)
        self.socket = open_socket(host, 0)
        self.address = from_socket(self.socket.getsockname())
        self.transport = transport(self.socket)
        self.later_s = 0.0
        """How far the relay's clock is ahead."""
        self.relay = Relay(
            certificate=certificate, private_key=private_key, random=os.urandom, limits=limits
        )
        self.clients: list[Client] = []

    def __enter__(self) -> "Scene":
        return self

    def __exit__(self, *_: object) -> None:
        for opened in (self.socket, *(client.socket for client in self.clients)):
            opened.close()

    def now(self) -> float:
        return time.monotonic() + self.later_s

    def turn(self) -> None:
        """One turn of the relay's loop."""
        relay = self.relay
        self.transport.receive(relay, self.now)
        timer_s = relay.get_timer()
        if timer_s is not None and timer_s <= self.now():
            relay.handle_timer(self.now())
        self.transport.send(relay.datagrams_to_send(self.now()))

    def drain(self) -> None:
        """The relay takes all that has arrived."""
        while select.select([self.socket], [], [], 0)[0]:
            self.turn()

    def until(self, holds: Callable[[], bool]) -> None:
        """Let everybody work until a condition holds."""
        end_s = time.monotonic() + DEADLINE_S
        while not holds():
            assert time.monotonic() < end_s, "the deadline is over"
            sockets = [self.socket, *(client.socket for client in self.clients)]
            select.select(sockets, [], [], 0.01)
            self.turn()
            for client in self.clients:
                client.turn()

    def client(self, key: bytes, host: str | None = None) -> Client:
        """A registered client."""
        family = socket.AF_INET6 if ":" in (host or self.address.host) else socket.AF_INET
        host = host or LOOPBACK[family]
        client = Client(TransportAddress(host, self.address.port), key, host)
        self.clients.append(client)
        client.leg.register(4)
        self.until(lambda: bool(client.events))
        assert not isinstance(client.events[0], RelayRefused), client.events
        assert isinstance(client.events[0], RelayRegistered)
        assert client.events[0].observed == client.address
        return client
