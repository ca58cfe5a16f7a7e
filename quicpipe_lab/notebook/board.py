"""What the live view shows of a lab and what can be pressed there, as plain data. Pure."""

from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

from quicpipe_lab.model.interface import interface_names, neighbours
from quicpipe_lab.model.topology import CORE, Firewall, Nat, Relay, Topology
from quicpipe_lab.shell.spool_tail import Arrival

_COLUMN, _ROW, _MARGIN = 110, 90, 60
_ETHERNET_BYTES, _IPV4, _UDP = 14, b"\x08\x00", 17


class Switch(NamedTuple):
    """``action``: cut or reboot; ``nodes``: between which, or which one. ``undo`` is what its
    button says while it is off, ``link`` the line that it interrupts."""

    key: str
    action: str
    nodes: tuple[str, ...]
    label: str
    undo: str = ""
    link: str = ""


def switches(topology: Topology) -> list[Switch]:
    """The relay's own, those of all other links, and of all NATs."""
    found = []
    for uplink in topology.all_links:
        is_relay = isinstance(topology.by_name[uplink.lower], Relay)
        name = "relay" if is_relay else f"link {uplink.upper} - {uplink.lower}"
        words = ("off", "on") if is_relay else ("down", "up")
        label, undo = (f"{name} {word}" for word in words)
        nodes = (uplink.upper, uplink.lower)
        found.append(Switch(f"cut {uplink.name}", "cut", nodes, label, undo, " ".join(nodes)))
    for node in topology.nodes:
        if isinstance(node, Nat | Firewall):
            key = f"reboot {node.name}"
            found.append(Switch(key, "reboot", (node.name,), key))
    return sorted(found, key=lambda one: not one.label.startswith("relay"))


def board(topology: Topology) -> dict[str, Any]:
    """Where everything stands: the core above, what hangs from it below."""
    places: dict[str, tuple[float, int]] = {}

    def place(name: str, left: float, level: int) -> float:
        right = left
        for lower in topology.tree_below(name):
            right = place(lower, right, level + 1)
        right = max(right, left + 1)
        places[name] = ((left + right) / 2, level)
        return right

    width = place(CORE, 0, 0)
    depth = max(level for _, level in places.values())
    nodes = [
        {
            "name": name,
            "kind": _kind(topology, name),
            "detail": _detail(topology, name),
            "x": x * _COLUMN,
            "y": _MARGIN / 2 + level * _ROW,
        }
        for name, (x, level) in places.items()
    ]
    return {
        "name": topology.name,
        "width": width * _COLUMN,
        "height": depth * _ROW + _MARGIN,
        "nodes": nodes,
        "links": [[uplink.upper, uplink.lower] for uplink in topology.all_links],
        "switches": [one._asdict() for one in switches(topology)],
    }


def _kind(topology: Topology, name: str) -> str:
    if name == CORE:
        return "core"
    return "nat" if isinstance(topology.by_name[name], Nat | Firewall) else "host"


def _detail(topology: Topology, name: str) -> str:
    node = topology.by_name.get(name)
    if node is None:
        return "internet"
    if isinstance(node, Nat):
        return str(node.behavior)
    if isinstance(node, Firewall):
        return f"firewall {node.behavior.filtering}"
    return ", ".join(str(one.lower_address) for one in topology.links_of(name))


def hops(topology: Topology, arrivals: Iterable[Arrival]) -> list[dict[str, Any]]:
    """Packets that went from node to node: how many, and of which kind. ``relayed`` are those to
    and from a relay, ``direct`` other UDP."""
    came_from = {
        (node, interface): neighbour
        for node in (CORE, *topology.uplinks)
        for neighbour, interface in interface_names(neighbours(topology, node)).items()
    }
    relays = {topology.uplinks[one.name].lower_address.packed for one in topology.of_kind(Relay)}
    counted: Counter[tuple[str, str, str]] = Counter()
    for one in arrivals:
        neighbour = came_from.get((one.node, one.interface))
        if neighbour is not None:
            counted[neighbour, one.node, _kind_of(one.data, relays)] += 1
    return [
        {"from": start, "to": end, "kind": kind, "count": count}
        for (start, end, kind), count in counted.items()
    ]


def _kind_of(frame: bytes, relays: set[bytes]) -> str:
    if frame[12:14] != _IPV4 or len(frame) < _ETHERNET_BYTES + 20:
        return "other"
    header = frame[_ETHERNET_BYTES:]
    if header[9] != _UDP:
        return "other"
    return "relayed" if {header[12:16], header[16:20]} & relays else "direct"
