"""What NATs and firewalls remembered, over time: from the packets that were seen on both sides.

The kernel gives no history of its tables; each packet that came in on one side and left on the
other tells what the router must have known.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from quicpipe_lab.analysis.packets import Packet
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.model.firewall import FirewallBehavior
from quicpipe_lab.model.interface import HAIRPIN_IN, interface_name
from quicpipe_lab.model.nat import FilteringBehavior, MappingRefresh, NatBehavior
from quicpipe_lab.model.topology import Firewall, Nat, Topology
from quicpipe_lab.traffic.outages import Outage


@dataclass
class Permission:
    """Who was let in through a mapping, for its inside host had sent there at these times."""

    remote: str
    sent_s: list[float] = field(default_factory=list)


@dataclass
class MappingLife:
    """One mapping, or a firewall's state for one inside endpoint, from its birth to its end.

    ``ends_s``: when it ended, or will have ended unless something refreshes it. ``refused_s``:
    when somebody was not let in. ``permissions`` are empty where anybody is let in.
    """

    inside: TransportAddress
    external: TransportAddress
    born_s: float
    ends_s: float
    refreshed_s: list[float] = field(default_factory=list)
    refused_s: list[float] = field(default_factory=list)
    permissions: dict[str, Permission] = field(default_factory=dict)


@dataclass
class RouterLife:
    """All that a router remembered. ``stopped_s``: when something came that belonged to nothing in
    it, or that was not let out."""

    name: str
    behavior: NatBehavior
    translates: bool
    mappings: list[MappingLife] = field(default_factory=list)
    stopped_s: list[float] = field(default_factory=list)
    latest: dict[TransportAddress, MappingLife] = field(default_factory=dict, repr=False)
    """By external endpoint."""


def router_lives(
    topology: Topology, packets: Sequence[Packet], off: Sequence[Outage] = ()
) -> list[RouterLife]:
    """Of each NAT and firewall that any of these packets came to. ``off``: which of them were
    rebooted, on the packets' clock."""
    found = []
    passages = _passages(topology, packets)
    for node in topology.nodes:
        if isinstance(node, Nat | Firewall) and passages.get(node.name):
            life = RouterLife(node.name, _as_nat(node.behavior), isinstance(node, Nat))
            upper = topology.uplinks[node.name].upper
            outside = interface_name(topology, node.name, upper)
            reboots_s = [one.since_ns / 1e9 for one in off if one.node == node.name]
            for came, left in passages[node.name]:
                while reboots_s and reboots_s[0] <= came.time_s:
                    _forget(life, reboots_s.pop(0))
                _take(life, outside, came, left)
            for t_s in reboots_s:
                _forget(life, t_s)
            found.append(life)
    return found


def _as_nat(behavior: NatBehavior | FirewallBehavior) -> NatBehavior:
    return behavior if isinstance(behavior, NatBehavior) else behavior.as_nat()


def _passages(
    topology: Topology, packets: Sequence[Packet]
) -> dict[str, list[tuple[Packet, Packet | None]]]:
    """(as it came, as it left) of each packet at each router; None where it did not leave."""
    routers = {node.name for node in topology.nodes if isinstance(node, Nat | Firewall)}
    found: dict[str, list[tuple[Packet, Packet | None]]] = {name: [] for name in routers}
    waiting: dict[tuple[str, int], int] = {}
    for packet in packets:
        if packet.node not in routers or packet.kind not in ("quic", "punch"):
            continue
        key = packet.node, packet.journey
        if packet.direction == "in":
            waiting[key] = len(found[packet.node])
            found[packet.node].append((packet, None))
        elif (index := waiting.pop(key, None)) is not None:
            came, _ = found[packet.node][index]
            found[packet.node][index] = came, packet
    return found


def _forget(life: RouterLife, t_s: float) -> None:
    """Everything, at a reboot."""
    for mapping in life.latest.values():
        mapping.ends_s = min(mapping.ends_s, t_s)
    life.latest.clear()


def _take(life: RouterLife, outside: str, came: Packet, left: Packet | None) -> None:
    """One more packet."""
    if came.source is None or came.destination is None:
        return
    if came.interface not in (outside, HAIRPIN_IN):  # on its way out
        if left is None or left.source is None or left.destination is None:
            life.stopped_s.append(came.time_s)
        else:
            _send(life, came.source, left.source, left.destination, left.time_s)
        return
    mapping = _living(life, came.destination, came.time_s)
    if mapping is None:
        life.stopped_s.append(came.time_s)
    elif left is None:
        mapping.refused_s.append(came.time_s)
    elif life.behavior.refresh is MappingRefresh.BOTH:
        _refresh(life, mapping, came.time_s)


def _send(
    life: RouterLife,
    inside: TransportAddress,
    external: TransportAddress,
    remote: TransportAddress,
    t_s: float,
) -> None:
    mapping = _living(life, external, t_s)
    if mapping is None or mapping.inside != inside:
        mapping = MappingLife(inside, external, t_s, t_s)
        life.mappings.append(mapping)
        life.latest[external] = mapping
    _refresh(life, mapping, t_s)
    for name in _let_in(life.behavior.filtering, remote):
        mapping.permissions.setdefault(name, Permission(name)).sent_s.append(t_s)


def _let_in(filtering: FilteringBehavior, remote: TransportAddress) -> Iterator[str]:
    """Who may answer once something was sent to ``remote`` (RFC 4787, 5)."""
    match filtering:
        case FilteringBehavior.ADDRESS_DEPENDENT:
            yield remote.host
        case FilteringBehavior.ADDRESS_AND_PORT_DEPENDENT:
            yield str(remote)


def _refresh(life: RouterLife, mapping: MappingLife, t_s: float) -> None:
    mapping.refreshed_s.append(t_s)
    mapping.ends_s = t_s + lifetime_s(life.behavior)


def lifetime_s(behavior: NatBehavior) -> float:
    """How long a mapping lives after its last use; where that differs, one that was answered."""
    return max(behavior.mapping_lifetime_s, behavior.answered_lifetime_s or 0.0)


def _living(life: RouterLife, external: TransportAddress, t_s: float) -> MappingLife | None:
    """The mapping that has this external endpoint now."""
    mapping = life.latest.get(external)
    return mapping if mapping is not None and t_s <= mapping.ends_s else None
