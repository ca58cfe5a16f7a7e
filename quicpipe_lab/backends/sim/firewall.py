"""A firewall, of one IP version: a router that lets in what was asked for.

As the netns backend's rules have it (firewall_rules.py): all of it happens in ``forward``.
"""

from quicpipe_lab.backends.sim.clock import Clock
from quicpipe_lab.backends.sim.echoes import LIFETIME_S, Flow
from quicpipe_lab.backends.sim.link import Interface
from quicpipe_lab.backends.sim.memory import Memory
from quicpipe_lab.backends.sim.nat import COMPLAINTS
from quicpipe_lab.backends.sim.node import Hooks, Node
from quicpipe_lab.backends.sim.packet import Echo, IcmpError, Packet, Udp, has_bad_port
from quicpipe_lab.backends.sim.table import FilterSeen, Remote, Table
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.model.firewall import FirewallBehavior, UdpPolicy
from quicpipe_lab.model.nat import FilteringBehavior, MappingRefresh

_HTTP3_PORT = 443
_RELATED_S = 30.0
"""nf_conntrack_udp_timeout: so long after a datagram an ICMP error about it may come."""


class FirewallHooks(Hooks):
    """``wan`` leads to the outside."""

    def __init__(
        self, behavior: FirewallBehavior, node: Node, wan: Interface, clock: Clock
    ) -> None:
        self._behavior = behavior
        self._node = node
        self._wan = wan
        self._clock = clock
        self._contacts = Memory[tuple[TransportAddress, Remote]](behavior.state_lifetime_s)
        self._flows = Memory[tuple[TransportAddress, TransportAddress]](_RELATED_S)
        self._pings = Memory[Flow](LIFETIME_S)
        self._refreshed_by_both = behavior.refresh is MappingRefresh.BOTH

    def forward(self, packet: Packet, inward: Interface, outward: Interface) -> Packet | None:
        """From inside to inside all passes."""
        if outward is self._wan:
            return self._outbound(packet)
        return self._inbound(packet) if inward is self._wan else packet

    def _outbound(self, packet: Packet) -> Packet | None:
        now_s = self._clock.now
        if isinstance(packet, Echo):
            self._pings.note((packet.source, packet.identifier, packet.destination), now_s)
        if not isinstance(packet, Udp):
            return packet
        policy, is_elsewhere = self._behavior.udp, False
        if packet.flipped_bits:
            is_elsewhere = has_bad_port(packet, source=False)
        if policy is not UdpPolicy.OPEN and (
            policy is UdpPolicy.BLOCKED or is_elsewhere or packet.destination.port != _HTTP3_PORT
        ):
            return None
        if is_elsewhere or (packet.flipped_bits and has_bad_port(packet, source=True)):
            return packet  # it opens the way for somebody who is not there
        self._contacts.note(self._contact(packet.source, packet.destination), now_s)
        self._flows.note((packet.source, packet.destination), now_s)
        return packet

    def _inbound(self, packet: Packet) -> Packet | None:
        now_s = self._clock.now
        if isinstance(packet, Udp):
            if packet.flipped_bits and self._is_strange(packet):
                return None
            contact = self._contact(packet.destination, packet.source)
            if self._contacts.has(contact, now_s):
                if self._refreshed_by_both:
                    self._contacts.note(contact, now_s)
                return packet
            complaint = COMPLAINTS.get(self._behavior.unsolicited)
            if complaint is not None:
                self._node.complain(packet, complaint, self._wan.addresses)
            return None
        return packet if self._is_related(packet, now_s) else None

    def _is_strange(self, packet: Udp) -> bool:
        """Whether its flipped bits make it a packet that nobody asked for."""
        by_port = self._behavior.filtering is FilteringBehavior.ADDRESS_AND_PORT_DEPENDENT
        return has_bad_port(packet, source=False) or (by_port and has_bad_port(packet, source=True))

    def _is_related(self, packet: Packet, now_s: float) -> bool:
        """conntrack's ``established,related`` for what is not UDP."""
        if isinstance(packet, Echo):
            ping = packet.destination, packet.identifier, packet.source
            return packet.is_reply and self._pings.has(ping, now_s)
        assert isinstance(packet, IcmpError)
        about = packet.about
        if isinstance(about, Echo):
            return self._pings.has((about.source, about.identifier, about.destination), now_s)
        return self._flows.has((about.source, about.destination), now_s)

    def _contact(
        self, inside: TransportAddress, remote: TransportAddress
    ) -> tuple[TransportAddress, Remote]:
        match self._behavior.filtering:
            case FilteringBehavior.ENDPOINT_INDEPENDENT:
                return inside, None
            case FilteringBehavior.ADDRESS_DEPENDENT:
                return inside, remote.host
        return inside, remote

    def table(self, now_s: float) -> Table:
        """As data."""
        return Table(
            filters=tuple(
                FilterSeen(local, remote, expires_s)
                for (local, remote), expires_s in self._contacts.living(now_s)
            )
        )
