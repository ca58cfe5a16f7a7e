"""NATs that leave it to conntrack: plain Linux masquerading, and port overloading.

The netns backend has them as nftables' ``masquerade`` (masquerade_rules.py); this is what it does.
"""

import random

from quicpipe_lab.backends.sim.clock import Clock
from quicpipe_lab.backends.sim.conntrack import Conntrack
from quicpipe_lab.backends.sim.echoes import Echoes
from quicpipe_lab.backends.sim.link import Interface
from quicpipe_lab.backends.sim.memory import Memory
from quicpipe_lab.backends.sim.node import Hooks
from quicpipe_lab.backends.sim.packet import Echo, IcmpError, Packet, Udp
from quicpipe_lab.backends.sim.place import NatPlace
from quicpipe_lab.backends.sim.table import FilterSeen, Table
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.model.nat import MappingRefresh, NatBehavior


class Masquerade(Hooks):
    """Plain Linux, of one IP version."""

    def __init__(self, behavior: NatBehavior, place: NatPlace, clock: Clock, seed: str) -> None:
        self._behavior = behavior
        self._place = place
        self._clock = clock
        (self._wan,) = place.outward
        lifetime_s = behavior.mapping_lifetime_s
        answered_s = behavior.answered_lifetime_s or lifetime_s
        self._conntrack = Conntrack(lifetime_s, answered_s, random.Random(seed))
        self._echoes = Echoes()

    def prerouting(self, packet: Packet, inward: Interface) -> Packet | None:
        """Answers find their way; the rest is for the router itself."""
        if inward is not self._wan:
            return packet
        now_s = self._clock.now
        if isinstance(packet, Udp):
            if packet.flipped_bits:
                return packet
            flow = self._conntrack.inbound(packet.source, packet.destination, now_s)
            if flow is not None and flow.inside is not None:
                return packet._replace(destination=flow.inside)
            return self._unsolicited(packet)
        if isinstance(packet, Echo):
            inbound = self._echoes.inbound(packet, now_s) if packet.is_reply else None
            return inbound or packet
        assert isinstance(packet, IcmpError)
        return self._inbound_error(packet, now_s)

    def _unsolicited(self, packet: Udp) -> Udp | None:
        """The entry that it leaves occupies the port towards its sender (DESIGN.md, trap 1)."""
        self._conntrack.unsolicited(packet.source, packet.destination, self._clock.now)
        return packet

    def postrouting(self, packet: Packet, outward: Interface) -> Packet | None:
        """Masquerade."""
        if outward is not self._wan:
            return packet
        host, now_s = self._place.addresses[0], self._clock.now
        if isinstance(packet, Udp):
            return self._outbound(packet, host, now_s)
        if isinstance(packet, Echo):
            return self._echoes.outbound(packet, host, now_s)
        assert isinstance(packet, IcmpError)
        return self._outbound_error(packet, now_s)

    def _outbound(self, packet: Udp, host: str, now_s: float) -> Udp | None:
        if packet.flipped_bits:
            return packet  # conntrack calls it invalid, and does not translate it
        flow = self._conntrack.outbound(packet.source, packet.destination, host, now_s)
        return None if flow is None else packet._replace(source=flow.external)

    def _inbound_error(self, packet: IcmpError, now_s: float) -> Packet | None:
        about = packet.about
        if isinstance(about, Echo):
            return self._echoes.inbound_error(packet, about, now_s) or packet
        flow = self._conntrack.answered_by(about.destination, about.source, now_s)
        if flow is None or flow.inside is None:
            return packet
        about = about._replace(source=flow.inside)
        return packet._replace(destination=flow.inside.host, about=about)

    def _outbound_error(self, packet: IcmpError, now_s: float) -> Packet | None:
        about = packet.about
        if isinstance(about, Echo):
            return None
        flow = self._conntrack.begun_by(about.destination, about.source, now_s)
        if flow is None:
            return None
        about = about._replace(destination=flow.external)
        return packet._replace(source=flow.external.host, about=about)

    def table(self, now_s: float) -> Table:
        """As data. Each flow is a mapping, and lets in its remote endpoint."""
        mappings = tuple(self._conntrack.mappings(now_s))
        filters = (FilterSeen(one.external, one.remote, one.expires_s) for one in mappings)
        return Table(mappings, tuple(filters))


class OverloadingNat(Masquerade):
    """The same, with a filter in front that knows whom inside hosts have sent to."""

    def __init__(self, behavior: NatBehavior, place: NatPlace, clock: Clock, seed: str) -> None:
        super().__init__(behavior, place, clock, seed)
        self._peers = Memory[tuple[TransportAddress, TransportAddress]](behavior.mapping_lifetime_s)
        self._refreshed_by_both = behavior.refresh is MappingRefresh.BOTH

    def prerouting(self, packet: Packet, inward: Interface) -> Packet | None:
        """What nobody asked for is dropped before conntrack sees it."""
        if inward is self._wan and isinstance(packet, Udp):
            flow = packet.destination, packet.source
            if not self._peers.has(flow, self._clock.now):
                return None
            if self._refreshed_by_both:
                self._peers.note(flow, self._clock.now)
        return super().prerouting(packet, inward)

    def _unsolicited(self, _: Udp) -> Udp | None:
        return None

    def accepts(self, packet: Packet, inward: Interface) -> bool:
        """Nothing of UDP."""
        return not isinstance(packet, Udp) or inward is self._wan

    def _outbound(self, packet: Udp, host: str, now_s: float) -> Udp | None:
        translated = super()._outbound(packet, host, now_s)
        if translated is not None and translated is not packet:
            self._peers.note((translated.source, translated.destination), now_s)
        return translated

    def table(self, now_s: float) -> Table:
        """As data."""
        filters = (
            FilterSeen(local, remote, expires_s)
            for (local, remote), expires_s in self._peers.living(now_s)
        )
        return Table(tuple(self._conntrack.mappings(now_s)), tuple(filters))
