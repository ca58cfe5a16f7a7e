"""A phone with Wi-Fi, LTE and a cable, on either backend, and sockets in the hands of a test."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from typing import Protocol

from quicpipe_lab.backends.netns.certification import Certification
from quicpipe_lab.backends.netns.lab import Lab
from quicpipe_lab.backends.sim.network import Network
from quicpipe_lab.backends.sim.packet import Echo
from quicpipe_lab.backends.sim.prober import certify_network
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.model.link import LinkBehavior
from quicpipe_lab.model.nat_certificate import Certificate
from quicpipe_lab.model.topology import Host, Link, Nat, Topology
from tests.backends.netns.remote import Sockets, sockets_of, take_all
from tests.backends.sim.wiring import Wiring

# LTE's NAT is farther from the core than the phone itself is by its Wi-Fi.
TOPOLOGY = Topology(
    "several-links",
    (Host("phone"), Host("tablet"), Host("server"), Nat("home"), Nat("carrier"), Nat("lte")),
    (
        Link(("core", "server")),
        Link(("phone", "home")),
        Link(("home", "core")),
        Link(("core", "carrier")),
        Link(("carrier", "lte")),
        Link.both_ways(("lte", "phone"), LinkBehavior()),
        Link(("phone", "core")),
        Link(("carrier", "tablet")),
    ),
)
HOME, CARRIER = (str(TOPOLOGY.uplinks[name].lower_address) for name in ("home", "carrier"))
SERVER = str(TOPOLOGY.uplinks["server"].lower_address)
WIFI, LTE, CABLE = (str(one.lower_address) for one in TOPOLOGY.links_of("phone"))
LTE_GATEWAY = str(TOPOLOGY.standby["phone"][0].upper_address)


class Endpoint(Protocol):
    """A UDP socket. ``receive`` waits for a datagram that is under way."""

    @property
    def address(self) -> TransportAddress:
        """Where it is bound."""

    def send(self, data: bytes, to: TransportAddress) -> None:
        """At once."""

    def receive(self) -> tuple[bytes, TransportAddress]:
        """It, and whom it is from."""

    def receive_now(self) -> list[bytes]:
        """All that has come."""


class Scene(Protocol):
    """A running network."""

    net: Lab | Network

    def udp(self, node: str, host: str | None = None, port: int = 0) -> Endpoint:
        """Bound to one address of the node, or to all."""

    def ping(self, node: str, host: str) -> str:
        """Who answers."""

    def certify(self) -> list[Certificate]:
        """All NATs."""


class KernelEndpoint:
    def __init__(self, sockets: Sockets, node: str, host: str | None, port: int) -> None:
        self._sock = sockets.udp(node, port, host)

    @property
    def address(self) -> TransportAddress:
        return TransportAddress(*self._sock.getsockname())

    def send(self, data: bytes, to: TransportAddress) -> None:
        self._sock.sendto(data, to)

    def receive(self) -> tuple[bytes, TransportAddress]:
        data, source = self._sock.recvfrom(2048)
        return data, TransportAddress(*source)

    def receive_now(self) -> list[bytes]:
        return take_all(self._sock)


class KernelScene:
    def __init__(self, lab: Lab, sockets: Sockets) -> None:
        self.net: Lab | Network = lab
        self._lab = lab
        self._sockets = sockets

    def udp(self, node: str, host: str | None = None, port: int = 0) -> Endpoint:
        return KernelEndpoint(self._sockets, node, host, port)

    def ping(self, node: str, host: str) -> str:
        pinger = self._sockets.icmp(node)
        body = struct.pack(">HH", 77, 1)
        checksum = 0xFFFF - (sum(struct.unpack(">2H", body)) + (8 << 8))
        pinger.sendto(struct.pack(">BBH", 8, 0, checksum) + body, (host, 0))
        while (packet := pinger.recv(2048))[20] != 0:
            pass
        return str(IPv4Address(packet[12:16]))

    def certify(self) -> list[Certificate]:
        return Certification(self._lab).finish()


class SimulatedEndpoint:
    def __init__(self, wiring: Wiring, node: str, host: str | None, port: int) -> None:
        self._wiring = wiring
        self._sock = wiring.udp(node, port, host)

    @property
    def address(self) -> TransportAddress:
        return self._sock.address

    def send(self, data: bytes, to: TransportAddress) -> None:
        self._sock.send(data, to)
        self._wiring.clock.run(self._wiring.clock.now)

    def receive(self) -> tuple[bytes, TransportAddress]:
        return self._sock.came.pop(0)

    def receive_now(self) -> list[bytes]:
        came, self._sock.came[:] = [data for data, _ in self._sock.came], []
        return came


class SimulatedScene:
    def __init__(self) -> None:
        self._wiring = Wiring(TOPOLOGY)
        self.net: Lab | Network = self._wiring.network

    def udp(self, node: str, host: str | None = None, port: int = 0) -> Endpoint:
        return SimulatedEndpoint(self._wiring, node, host, port)

    def ping(self, node: str, host: str) -> str:
        replies: list[Echo] = []
        self._wiring.network.host(node).ping(host, replies.append)
        self._wiring.clock.run(self._wiring.clock.now)
        (reply,) = replies
        return reply.source

    def certify(self) -> list[Certificate]:
        return certify_network(self._wiring.network)


@contextmanager
def scene_on(backend: str) -> Iterator[Scene]:
    """For the length of a ``with`` block."""
    if backend == "sim":
        yield SimulatedScene()
        return
    with Lab(TOPOLOGY) as lab, sockets_of(lab) as sockets:
        yield KernelScene(lab, sockets)
