"""What routers did to packets, seen from outside: translations, and what they did not pass on.

Everything here is observed: a NAT's mappings are those by which its translated packets were seen.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from ipaddress import ip_address
from typing import NamedTuple

from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.model.nat import MappingRefresh
from quicpipe_lab.model.topology import (
    CORE,
    PUBLIC_POOL,
    SERVICE_ADDRESSES,
    Firewall,
    Host,
    Nat,
    Topology,
)
from quicpipe_lab.traffic.journeys import Sighting
from quicpipe_lab.traffic.outages import Outage


class Passage(NamedTuple):
    """A packet's way through a node; both are indices of sightings. ``left`` is None where it
    never came out again."""

    node: str
    came: int
    left: int | None


class Translation(NamedTuple):
    """A NAT changed an address. ``inside`` and ``external`` are the two that it joins, ``remote``
    is the other end. ``seen``: the index of the sighting that shows the result."""

    seen: int
    time_ns: int
    nat: str
    outbound: bool
    inside: TransportAddress
    external: TransportAddress
    remote: TransportAddress


class DropCause(StrEnum):
    """Why a router did not pass a packet on."""

    NO_MAPPING = "no-mapping"
    FILTERED = "filtered"
    EXPIRED = "expired"
    FORGOTTEN = "forgotten"
    NO_HAIRPIN = "no-hairpin"
    BLOCKED = "blocked"
    UNSOLICITED = "unsolicited"
    NO_ROUTE = "no-route"
    NOT_PASSED_ON = "not-passed-on"
    LOST = "lost"
    OFF = "off"


class Drop(NamedTuple):
    """A packet that was not seen any more after the sighting ``seen``, which is at ``node``.

    ``mapping``: that of the port which it was sent to, where there was one. ``idle_s``: for how
    long that had not been refreshed. ``rebooted_s``: how long before that the router had been
    rebooted, if it was.
    """

    seen: int
    time_ns: int
    node: str
    cause: DropCause
    source: TransportAddress
    destination: TransportAddress
    mapping: "NatMapping | None" = None
    idle_s: float | None = None
    rebooted_s: float | None = None


@dataclass
class NatMapping:
    """A mapping as it was seen; ``remotes``: what was sent to through it, and when last."""

    nat: str
    inside: TransportAddress
    external: TransportAddress
    refreshed_ns: int
    remotes: dict[TransportAddress, int] = field(default_factory=dict)


def passages(sightings: Sequence[Sighting]) -> list[Passage]:
    """Every way of every journey through a node, in the order in which they began."""
    waiting: dict[tuple[str, int], int] = {}
    found: dict[int, Passage] = {}
    for index, (frame, _, journey, _) in enumerate(sightings):
        key = frame.node, journey
        if frame.direction == "in":
            waiting[key] = index
            found[index] = Passage(frame.node, index, None)
        elif (came := waiting.pop(key, None)) is not None:
            found[came] = Passage(frame.node, came, index)
    return list(found.values())


def translations(
    sightings: Sequence[Sighting], ways: Sequence[Passage], topology: Topology
) -> list[Translation]:
    """What the topology's NATs translated, in order of time."""
    nats = {node.name for node in topology.of_kind(Nat)}
    found = []
    for node, came, left in ways:
        if left is None or node not in nats:
            continue
        before, after = sightings[came].datagram, sightings[left].datagram
        if before is None or after is None:
            continue
        time_ns = sightings[left].frame.time_ns
        if before.source != after.source:
            ends = before.source, after.source, after.destination
            found.append(Translation(left, time_ns, node, True, *ends))
        if before.destination != after.destination:
            ends = after.destination, before.destination, after.source
            found.append(Translation(left, time_ns, node, False, *ends))
    return sorted(found, key=lambda one: one.time_ns)


def drops(
    sightings: Sequence[Sighting],
    ways: Sequence[Passage],
    translated: Sequence[Translation],
    topology: Topology,
    off: Sequence[Outage] = (),
) -> list[Drop]:
    """UDP that ended on its way, and why, as far as what was seen until then can tell."""
    tables = NatTables(topology)
    judge = _Judge(topology, tables, off)
    ended = [(sightings[way.came].frame.time_ns, way.came) for way in ways if way.left is None]
    lost = [(one.frame.time_ns, index) for index, one in _ends_outward(sightings)]
    # At the same nanosecond, the translation was first.
    events: list[tuple[int, int, Translation | Outage | int]] = [
        *((one.until_ns, -2, one) for one in off),
        *((one.time_ns, -1, one) for one in translated),
        *((time_ns, index, index) for time_ns, index in sorted([*ended, *lost])),
    ]
    found: list[Drop | None] = []
    for _, _, event in sorted(events, key=lambda one: one[:2]):
        if isinstance(event, Outage):
            tables.forget(event.node)
        elif isinstance(event, Translation):
            tables.take(event)
        else:
            found.append(judge.ended(sightings, event))
    return [one for one in found if one is not None]


class NatTables:
    """The mappings of all NATs of a topology as far as they have been seen."""

    def __init__(self, topology: Topology) -> None:
        self._behaviors = {
            node.name: node.behavior for node in topology.nodes if isinstance(node, Nat)
        }
        self._by_external: dict[tuple[str, TransportAddress], NatMapping] = {}
        self._forgotten: dict[tuple[str, TransportAddress], NatMapping] = {}

    def forget(self, nat: str) -> None:
        """It was rebooted."""
        gone = {key: one for key, one in self._by_external.items() if one.nat == nat}
        self._forgotten |= gone
        for key in gone:
            del self._by_external[key]

    def take(self, one: Translation) -> NatMapping:
        """One more translation; answers with its mapping."""
        key = one.nat, one.external
        mapping = self._by_external.get(key)
        if mapping is None or mapping.inside != one.inside or self.idle_s(mapping, one.time_ns)[1]:
            mapping = NatMapping(one.nat, one.inside, one.external, one.time_ns)
            self._by_external[key] = mapping
        if one.outbound:
            mapping.remotes[one.remote] = one.time_ns
        if one.outbound or self._behaviors[one.nat].refresh is MappingRefresh.BOTH:
            mapping.refreshed_ns = one.time_ns
        return mapping

    def of_external(self, nat: str, external: TransportAddress) -> NatMapping | None:
        """The mapping that has an external address, also where it has ended."""
        return self._by_external.get((nat, external))

    def forgotten(self, nat: str, external: TransportAddress) -> NatMapping | None:
        """The mapping that had an external address before a reboot."""
        return self._forgotten.get((nat, external))

    def idle_s(self, mapping: NatMapping, time_ns: int) -> tuple[float, bool]:
        """For how long a mapping has not been refreshed, and whether it ended by that."""
        behavior = self._behaviors[mapping.nat]
        lifetime_s = max(behavior.mapping_lifetime_s, behavior.answered_lifetime_s or 0.0)
        idle_s = (time_ns - mapping.refreshed_ns) / 1e9
        return idle_s, idle_s > lifetime_s

    def __iter__(self) -> Iterator[NatMapping]:
        return iter(self._by_external.values())


class _Judge:
    """Why a packet ended at a router, by what was seen until then."""

    def __init__(self, topology: Topology, tables: NatTables, off: Sequence[Outage]) -> None:
        self._off = off
        self._topology = topology
        self._tables = tables
        self._external: Mapping[str, set[str]] = {
            name: {str(address) for address in addresses}
            for name, addresses in topology.external_addresses.items()
        }
        self._cores = {
            *map(str, SERVICE_ADDRESSES),
            *(str(uplink.upper_address) for uplink in topology.children(CORE)),
        }
        self._inside = {
            node.name: {str(address) for address in topology.subscribers(node.name)}
            for node in topology.nodes
            if not isinstance(node, Host)
        }

    def ended(self, sightings: Sequence[Sighting], index: int) -> Drop | None:
        """None where it may have arrived, or is not UDP."""
        sighting = sightings[index]
        name, datagram = sighting.frame.node, sighting.datagram
        if datagram is None:
            return None
        if sighting.frame.direction == "out":
            return _drop(sightings, index, DropCause.LOST)
        node = self._topology.by_name.get(name)
        if isinstance(node, Nat | Firewall):
            drop = self._at_router(node, sightings, index)
            return drop and drop._replace(rebooted_s=self._rebooted_s(sighting))
        if name != CORE or datagram.destination.host in self._cores:
            return None
        private = ":" not in datagram.destination.host and not _is_public(datagram.destination)
        cause = DropCause.NO_ROUTE if private else DropCause.NOT_PASSED_ON
        return _drop(sightings, index, cause)

    def _rebooted_s(self, sighting: Sighting) -> float | None:
        """How long before; None where it never was."""
        node, time_ns = sighting.frame.node, sighting.frame.time_ns
        ends_ns = [one.until_ns for one in self._off if one.node == node]
        past_ns = [time_ns - end_ns for end_ns in ends_ns if end_ns <= time_ns]
        return min(past_ns) / 1e9 if past_ns else None

    def _at_router(
        self, node: Nat | Firewall, sightings: Sequence[Sighting], index: int
    ) -> Drop | None:
        sighting = sightings[index]
        time_ns = sighting.frame.time_ns
        if any(one.node == node.name and one[1] <= time_ns < one[2] for one in self._off):
            return _drop(sightings, index, DropCause.OFF)
        if isinstance(node, Nat):
            return self._at_nat(sightings, index)
        outbound = self._is_outbound(sighting)
        return _drop(sightings, index, DropCause.BLOCKED if outbound else DropCause.UNSOLICITED)

    def _at_nat(self, sightings: Sequence[Sighting], index: int) -> Drop | None:
        sighting = sightings[index]
        name, datagram = sighting.frame.node, sighting.datagram
        assert datagram is not None
        ours = datagram.destination.host in self._external[name]
        if self._is_outbound(sighting):
            cause = DropCause.NO_HAIRPIN if ours else DropCause.BLOCKED
            return _drop(sightings, index, cause)
        mapping = self._tables.of_external(name, datagram.destination)
        if mapping is None and (gone := self._tables.forgotten(name, datagram.destination)):
            drop = _drop(sightings, index, DropCause.FORGOTTEN)
            return drop and drop._replace(mapping=gone)
        if mapping is None:
            # IPv6 is filtered, but seldom translated.
            is_filter = ":" in datagram.destination.host
            cause = DropCause.UNSOLICITED if is_filter else DropCause.NO_MAPPING
            return _drop(sightings, index, cause)
        idle_s, ended = self._tables.idle_s(mapping, sighting.frame.time_ns)
        drop = _drop(sightings, index, DropCause.EXPIRED if ended else DropCause.FILTERED)
        as_it_was = replace(mapping, remotes=dict(mapping.remotes))
        return drop and drop._replace(mapping=as_it_was, idle_s=idle_s)

    def _is_outbound(self, sighting: Sighting) -> bool:
        """Whether it came from below."""
        name = sighting.frame.node
        if sighting.datagram is not None and ":" not in sighting.datagram.source.host:
            return sighting.datagram.source.host in self._inside[name]
        # Interfaces bear the name of the node at their other end.
        return sighting.frame.interface != self._topology.uplinks[name].upper


def _is_public(address: TransportAddress) -> bool:
    return ip_address(address.host) in PUBLIC_POOL


def _ends_outward(sightings: Sequence[Sighting]) -> Iterator[tuple[int, Sighting]]:
    """The last sightings of journeys that left a node and arrived nowhere."""
    last: dict[int, int] = {}
    for index, sighting in enumerate(sightings):
        last[sighting.journey] = index
    for index in last.values():
        if sightings[index].frame.direction == "out" and sightings[index].datagram is not None:
            yield index, sightings[index]


def _drop(sightings: Sequence[Sighting], index: int, cause: DropCause) -> Drop | None:
    frame, datagram, _, _ = sightings[index]
    if datagram is None:
        return None
    ends = datagram.source, datagram.destination
    return Drop(index, frame.time_ns, frame.node, cause, *ends)
