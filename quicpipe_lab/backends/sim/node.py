"""A node's IP: what arrives is delivered, forwarded, translated or refused, as Linux does it.

The order of things is netfilter's: ``prerouting``, the routing decision, then ``accepts`` for what
is the node's own, or ``forward`` and ``postrouting`` for what goes on. What a NAT or firewall does
there is its ``Hooks``; a node without them has none.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

from quicpipe_lab.backends.sim.clock import Clock
from quicpipe_lab.backends.sim.icmp_limit import IcmpLimit
from quicpipe_lab.backends.sim.link import Interface
from quicpipe_lab.backends.sim.packet import (
    Complaint,
    Echo,
    IcmpError,
    Packet,
    Udp,
    destination_of,
    has_bad_ip_header,
    source_of,
    version_of,
)
from quicpipe_lab.backends.sim.routes import Dead, Routes, Way
from quicpipe_lab.backends.sim.udp_socket import Sockets
from quicpipe_lab.model.interface import LOOPBACK


class FrameSeen(NamedTuple):
    """A packet at an interface, as a capture of the lab has it."""

    time_s: float
    node: str
    interface: str
    direction: Literal["in", "out"]
    packet: Packet


Observe = Callable[[FrameSeen], None]


class Hooks:
    """What a router does with packets of one IP version, beside routing them: here, nothing.

    Each answers with the packet to go on with, or None where it is dropped.
    """

    def prerouting(self, packet: Packet, _inward: Interface) -> Packet | None:
        """It has arrived."""
        return packet

    def reroute(self, _packet: Packet, _inward: Interface) -> Interface | None:
        """Another way than that of the routes."""
        return None

    def accepts(self, _packet: Packet, _inward: Interface) -> bool:
        """Whether the node itself may have it."""
        return True

    def forward(self, packet: Packet, _inward: Interface, _outward: Interface) -> Packet | None:
        """It goes from one interface to another."""
        return packet

    def postrouting(self, packet: Packet, _outward: Interface) -> Packet | None:
        """It leaves."""
        return packet


class Node:
    """``forwards``: it is a router."""

    def __init__(
        self,
        name: str,
        clock: Clock,
        routes: Routes,
        sockets: Sockets,
        forwards: bool,
        observe: Observe | None,
    ) -> None:
        self.name = name
        self.routes = routes
        self.sockets = sockets
        self.interfaces: dict[str, Interface] = {}
        """By the neighbour's name."""
        self.hooks: dict[int, Hooks] = {}
        """By IP version."""
        self.accept_local = False
        """Linux's setting: whether what arrives may bear an address of the node's own as its
        source. IPv4 only: of IPv6 Linux takes it in any case."""
        self._clock = clock
        self._forwards = forwards
        self._observe = observe
        self._icmp_limit = IcmpLimit()
        self._deaf: list[Interface] = []
        self._parted: list[tuple[Interface, Interface]] = []

    def cut(self, dead: list[Interface], parted: list[tuple[Interface, Interface]]) -> None:
        """Interfaces through which nothing passes, and pairs between which nothing does."""
        self._deaf = dead
        self._parted = parted + [(other, one) for one, other in parted]

    def receive(self, packet: Packet, inward: Interface) -> None:
        """A packet has arrived at an interface."""
        if self._observe is not None:
            self._see(packet, inward.name, "in")
        if self._deaf and inward in self._deaf:
            return
        if packet.flipped_bits and has_bad_ip_header(packet):
            return
        host = destination_of(packet)
        hooks = self.hooks.get(version_of(host)) if self.hooks else None
        if hooks is None:
            way = self.routes.way_to(host)
        else:
            changed = hooks.prerouting(packet, inward)
            if changed is None:
                return
            packet = changed
            way = hooks.reroute(packet, inward) or self.routes.way_to(destination_of(packet))
        if not self.accept_local and self.routes.is_own_ipv4(source_of(packet)):
            return  # a martian (RFC 1812, 5.3.7), which Linux's routing drops
        if isinstance(way, Interface):
            if self._forwards:
                self._forward(packet, inward, way, hooks)
        elif way is Dead.HERE:
            if hooks is None or hooks.accepts(packet, inward):
                self._deliver(packet)
        elif way is Dead.UNREACHABLE and self._forwards:
            self.complain(packet, Complaint.NO_ROUTE, inward.addresses)

    def _forward(
        self, packet: Packet, inward: Interface, outward: Interface, hooks: Hooks | None
    ) -> None:
        if packet.ttl <= 1:
            self.complain(packet, Complaint.TIME_EXCEEDED, inward.addresses)
            return
        if self._parted and (inward, outward) in self._parted:
            return
        if isinstance(packet, Udp):  # the common case, without the cost of _replace
            source, destination, data, ttl, flipped_bits = packet
            packet = Udp(source, destination, data, ttl - 1, flipped_bits)
        else:
            packet = packet._replace(ttl=packet.ttl - 1)
        if hooks is not None:
            changed = hooks.forward(packet, inward, outward)
            if changed is not None:
                changed = hooks.postrouting(changed, outward)
            if changed is None:
                return
            packet = changed
        self._emit(packet, outward)

    def _emit(self, packet: Packet, outward: Interface) -> None:
        if self._deaf and outward in self._deaf:
            return
        if self._observe is not None:
            self._see(packet, outward.name, "out")
        outward.carry(packet)

    def send(self, packet: Packet) -> Dead | None:
        """One of the node's own; why it could not, where it could not."""
        way = self.routes.way_from(source_of(packet), destination_of(packet))
        if isinstance(way, Interface):
            hooks = self.hooks.get(version_of(destination_of(packet))) if self.hooks else None
            # An ICMP error or an echo reply belongs to what it answers, and is not translated.
            if hooks is not None and not isinstance(packet, IcmpError | Echo):
                changed = hooks.postrouting(packet, way)
                if changed is None:
                    return None
                packet = changed
            self._emit(packet, way)
            return None
        if way is Dead.HERE:
            if self._observe is not None:
                self._see(packet, LOOPBACK, "out")
                self._see(packet, LOOPBACK, "in")
            self._deliver(packet)
            return None
        return way

    def complain(
        self, about: Packet, complaint: Complaint, addresses: dict[int, str] | None = None
    ) -> None:
        """Send an ICMP error to a packet's sender: from the address that it was sent to, or from
        that of ``addresses`` which has its version. Not about ICMP errors (RFC 1122, 3.2.2).
        """
        if isinstance(about, IcmpError) or about.flipped_bits:
            return
        destination = source_of(about)
        version = version_of(destination)
        source = destination_of(about) if addresses is None else addresses.get(version)
        if source is not None and self._icmp_limit.allows(destination, self._clock.now):
            kind, code = complaint.value[version == 6]
            self.send(IcmpError(source, destination, kind, code, about))

    def _deliver(self, packet: Packet) -> None:
        if packet.flipped_bits:
            return  # its checksum is wrong
        if isinstance(packet, Udp):
            if not self.sockets.deliver(packet):
                self.complain(packet, Complaint.PORT_UNREACHABLE)
        elif isinstance(packet, IcmpError):
            self.sockets.deliver_error(packet)
        elif isinstance(packet, Echo):
            self._deliver_echo(packet)

    def _deliver_echo(self, echo: Echo) -> None:
        if echo.is_reply:
            self.sockets.deliver_echo(echo)
        else:
            self.send(
                Echo(echo.destination, echo.source, echo.identifier, echo.sequence, True, echo.data)
            )

    def way_to(self, host: str) -> Way:
        """Where what is sent to an address goes."""
        return self.routes.way_to(host)

    def _see(self, packet: Packet, interface: str, direction: Literal["in", "out"]) -> None:
        assert self._observe is not None
        self._observe(FrameSeen(self._clock.now, self.name, interface, direction, packet))
