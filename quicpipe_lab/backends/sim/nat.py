"""A NAT with mappings of its own: RFC 4787's behaviours, and what the netns backend's rules do.

Outbound, a datagram gets the external endpoint of its mapping; which one that is says the mapping
behaviour, by the key. Inbound, it is filtered, and translated back, by nothing but the mapping and
whom it was used towards: what is dropped leaves nothing behind, and what is let in ties nothing.
"""

import random
from typing import TYPE_CHECKING

from quicpipe_lab.backends.sim.clock import Clock
from quicpipe_lab.backends.sim.echoes import Echoes
from quicpipe_lab.backends.sim.link import Interface
from quicpipe_lab.backends.sim.memory import Memory
from quicpipe_lab.backends.sim.node import Hooks
from quicpipe_lab.backends.sim.packet import (
    Complaint,
    Echo,
    IcmpError,
    Packet,
    Udp,
    has_bad_port,
)
from quicpipe_lab.backends.sim.ports import Pool
from quicpipe_lab.backends.sim.table import FilterSeen, MappingSeen, Remote, Table
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.model.nat import (
    AddressPooling,
    FilteringBehavior,
    FilterScope,
    Hairpinning,
    MappingBehavior,
    MappingRefresh,
    NatBehavior,
    UnsolicitedReaction,
)

if TYPE_CHECKING:
    from quicpipe_lab.backends.sim.place import NatPlace

COMPLAINTS = {
    UnsolicitedReaction.PORT_UNREACHABLE: Complaint.PORT_UNREACHABLE,
    UnsolicitedReaction.ADMIN_PROHIBITED: Complaint.ADMIN_PROHIBITED,
}
_LEAST_TO_SWEEP = 256

Flow = tuple[TransportAddress, TransportAddress]
"""An inside and a remote endpoint."""


class Mapping:
    """An inside endpoint, its external one, and whom it is for."""

    __slots__ = ("born_s", "external", "inside", "refreshed_s", "remote")

    def __init__(
        self, inside: TransportAddress, external: TransportAddress, remote: Remote, now_s: float
    ) -> None:
        self.inside = inside
        self.external = external
        self.remote = remote
        self.born_s = self.refreshed_s = now_s


class MappingNat(Hooks):
    """For IPv4."""

    def __init__(self, behavior: NatBehavior, place: "NatPlace", clock: Clock, seed: str) -> None:
        self._behavior = behavior
        self._place = place
        self._clock = clock
        self._lifetime_s = behavior.mapping_lifetime_s
        self._pool = Pool(behavior, place.addresses, place.subscribers, random.Random(seed))
        self._by_key: dict[tuple[TransportAddress, Remote], Mapping] = {}
        self._by_external: dict[TransportAddress, Mapping] = {}
        self._sweep_at = _LEAST_TO_SWEEP
        self._flows: dict[Flow, Mapping] = {}
        """The mapping of each flow, as long as both live: what conntrack is on the kernel."""
        self._flow_memory = Memory[Flow](self._lifetime_s)
        self._contacts = Memory[tuple[TransportAddress, Remote]](self._lifetime_s)
        self._filters = behavior.filtering is not FilteringBehavior.ENDPOINT_INDEPENDENT
        self._by_address = behavior.filtering is FilteringBehavior.ADDRESS_DEPENDENT
        self._by_mapping = behavior.filter_scope is FilterScope.MAPPING
        self._refreshed_by_both = behavior.refresh is MappingRefresh.BOTH
        self._echoes = Echoes()

    # Hooks

    def prerouting(self, packet: Packet, inward: Interface) -> Packet | None:
        """From outside: filter and translate."""
        if inward in self._place.inward:
            return self._inbound(packet) if isinstance(packet, Udp) else self._inbound_icmp(packet)
        if self._behavior.hairpinning is Hairpinning.INTERNAL_SOURCE and isinstance(packet, Udp):
            mapping = self._living(packet.destination)
            if mapping is not None:
                return packet._replace(destination=mapping.inside)
        return packet

    def reroute(self, packet: Packet, inward: Interface) -> Interface | None:
        """Hairpins with external source leave by one end of a cable, and come in by the other."""
        hairpin = self._place.hairpin_out
        if hairpin is None or inward in self._place.inward or not isinstance(packet, Udp):
            return None
        return hairpin if packet.destination.host in self._place.addresses else None

    def accepts(self, packet: Packet, inward: Interface) -> bool:
        """Nothing of UDP that comes from inside; what comes from outside has been let in."""
        return not isinstance(packet, Udp) or inward in self._place.inward

    def postrouting(self, packet: Packet, outward: Interface) -> Packet | None:
        """To the outside: translate."""
        if outward not in self._place.outward:
            return packet
        if isinstance(packet, Udp):
            return self._outbound(packet)
        return self._outbound_icmp(packet)

    # Datagrams

    def _outbound(self, packet: Udp) -> Udp | None:
        source, destination, data, ttl, flipped_bits = packet
        if flipped_bits:
            return None  # conntrack calls it invalid
        now_s = self._clock.now
        flow = source, destination
        mapping = self._flows.get(flow)
        if mapping is None or now_s >= mapping.refreshed_s + self._lifetime_s:
            mapping = self._mapping_for(source, destination, now_s)
            if mapping is None:
                return None
            self._flows[flow] = mapping
        mapping.refreshed_s = now_s
        self._flow_memory.note(flow, now_s)
        if self._filters:
            self._contacts.note(self._contact(mapping, destination), now_s)
        return Udp(mapping.external, destination, data, ttl)

    def _mapping_for(
        self, inside: TransportAddress, remote: TransportAddress, now_s: float
    ) -> Mapping | None:
        """That there is, or a new one; None where there can be none."""
        wanted = self._remote_key(remote)
        mapping = self._by_key.get((inside, wanted))
        if mapping is not None and self._lives(mapping, now_s):
            return mapping
        external = self._pool.choose(inside, self._is_free)
        if external is None or not self._may_have_more(inside.host, now_s):
            return None
        mapping = Mapping(inside, external, wanted, now_s)
        self._by_key[inside, wanted] = self._by_external[external] = mapping
        if len(self._by_key) >= self._sweep_at:
            self._sweep(now_s)
        return mapping

    def _remote_key(self, remote: TransportAddress) -> Remote:
        match self._behavior.mapping:
            case MappingBehavior.ENDPOINT_INDEPENDENT:
                return None
            case MappingBehavior.ADDRESS_DEPENDENT:
                return remote.host
        return remote

    def _may_have_more(self, host: str, now_s: float) -> bool:
        """RFC 6888, REQ-4."""
        limit = self._behavior.mappings_per_subscriber
        if limit is None or host not in self._place.subscribers:
            return True
        theirs = (one for one in self._by_key.values() if one.inside.host == host)
        return sum(self._lives(one, now_s) for one in theirs) < limit

    def _inbound(self, packet: Udp) -> Udp | None:
        source, destination, data, ttl, flipped_bits = packet
        now_s = self._clock.now
        if flipped_bits and (
            has_bad_port(packet, source=False)
            or (has_bad_port(packet, source=True) and self._filters and not self._by_address)
        ):
            return None  # nobody has the port, or has sent there; it is not worth an error
        mapping = self._by_external.get(destination)
        if mapping is None or now_s >= mapping.refreshed_s + self._lifetime_s:
            self._refuse(packet)
            return None
        if self._filters:
            contact = self._contact(mapping, source)
            if not self._contacts.has(contact, now_s):
                self._refuse(packet)
                return None
            if self._refreshed_by_both:
                self._contacts.note(contact, now_s)
        if self._refreshed_by_both:
            mapping.refreshed_s = now_s
        return Udp(source, mapping.inside, data, ttl, flipped_bits)

    def _contact(
        self, mapping: Mapping, remote: TransportAddress
    ) -> tuple[TransportAddress, Remote]:
        """What the filter's state is kept under."""
        of = mapping.external if self._by_mapping else mapping.inside
        return of, remote.host if self._by_address else remote

    def _refuse(self, packet: Udp) -> None:
        complaint = COMPLAINTS.get(self._behavior.unsolicited)
        if complaint is None:
            return
        mapping = self._living(packet.source)
        if mapping is None or packet.source.host not in self._place.addresses:
            self._place.node.complain(packet, complaint)
            return
        # It was turned round here: the error is about what its inside host has sent.
        self._place.node.complain(packet._replace(source=mapping.inside), complaint)

    def _living(self, external: TransportAddress) -> Mapping | None:
        mapping = self._by_external.get(external)
        return mapping if mapping and self._lives(mapping, self._clock.now) else None

    def _is_free(self, external: TransportAddress) -> bool:
        """REQ-3: no mapping has it."""
        return self._living(external) is None

    def _lives(self, mapping: Mapping, now_s: float) -> bool:
        return now_s < mapping.refreshed_s + self._lifetime_s

    def _sweep(self, now_s: float) -> None:
        """Forget what has ended."""
        living = [one for one in self._by_key.values() if self._lives(one, now_s)]
        self._by_key = {(one.inside, one.remote): one for one in living}
        self._by_external = {one.external: one for one in living}
        self._flows = {
            flow: one for flow, one in self._flows.items() if self._flow_memory.has(flow, now_s)
        }
        self._sweep_at = max(_LEAST_TO_SWEEP, 2 * len(living))

    # ICMP: errors about datagrams that went through (RFC 5508, REQ-4 and REQ-5), and pings

    def _inbound_icmp(self, packet: Packet) -> Packet | None:
        """What belongs to nothing that went out stays as it is, and is for the NAT itself."""
        now_s = self._clock.now
        if isinstance(packet, Echo):
            inbound = self._echoes.inbound(packet, now_s) if packet.is_reply else None
            return inbound or packet
        assert isinstance(packet, IcmpError)
        about = packet.about
        if isinstance(about, Echo):
            return self._echoes.inbound_error(packet, about, now_s) or packet
        mapping = self._living(about.source)
        if mapping is None or not self._flow_memory.has((mapping.inside, about.destination), now_s):
            return packet
        inside = mapping.inside
        return packet._replace(destination=inside.host, about=about._replace(source=inside))

    def _outbound_icmp(self, packet: Packet) -> Packet | None:
        now_s = self._clock.now
        if isinstance(packet, Echo):
            return self._echoes.outbound(packet, self._address_of(packet.source), now_s)
        assert isinstance(packet, IcmpError)
        about = packet.about
        if isinstance(about, Echo):
            return None
        flow = about.destination, about.source
        mapping = self._flows.get(flow)
        if mapping is None or not self._flow_memory.has(flow, now_s):
            return None
        return packet._replace(
            source=mapping.external.host, about=about._replace(destination=mapping.external)
        )

    def _address_of(self, host: str) -> str:
        """REQ-2: paired for all that is not UDP as well."""
        addresses, subscribers = self._place.addresses, self._place.subscribers
        if self._behavior.pooling is AddressPooling.PAIRED and host in subscribers:
            return addresses[subscribers.index(host) % len(addresses)]
        return addresses[0]

    # What it remembers

    def table(self, now_s: float) -> Table:
        """As data."""
        mappings = tuple(
            MappingSeen(
                one.inside,
                one.external,
                one.remote,
                one.born_s,
                one.refreshed_s,
                one.refreshed_s + self._lifetime_s,
            )
            for one in self._by_key.values()
            if self._lives(one, now_s)
        )
        filters = tuple(
            FilterSeen(local, remote, expires_s)
            for (local, remote), expires_s in self._contacts.living(now_s)
        )
        return Table(mappings, filters)
