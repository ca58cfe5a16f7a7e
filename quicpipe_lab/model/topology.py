"""Hosts, NATs, a relay and the links between them, as one tree that hangs off a core router.

A host may have further links, each to another router, beside the one by which it is in the tree:
a phone with Wi-Fi and LTE. They stand by.

A topology is checked when it is built: whoever holds one holds a possible network. Addresses
that the author did not give are assigned, the same way every time, so that two backends agree on
them (addressing.py).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network
from typing import TypeVar

from quicpipe_lab.errors import ScenarioError
from quicpipe_lab.model.addressing import (
    BUILDING_POOL,
    CARRIER_POOL,
    HOME_POOL,
    PUBLIC_POOL,
    SERVICE_ADDRESSES,
    SERVICE_NETWORK,
    address,
    external_addresses,
)
from quicpipe_lab.model.nat import Ipv6Behavior
from quicpipe_lab.model.nodes import CORE, Edge, Firewall, Host, Link, Nat, Node, Relay, Uplink

__all__ = [
    "BUILDING_POOL",
    "CARRIER_POOL",
    "CORE",
    "HOME_POOL",
    "PUBLIC_POOL",
    "SERVICE_ADDRESSES",
    "SERVICE_NETWORK",
    "Firewall",
    "Host",
    "Link",
    "Nat",
    "Node",
    "Relay",
    "Topology",
    "Uplink",
]

N = TypeVar("N", bound=Node)

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")


@dataclass(frozen=True)
class Topology:
    """A tree of nodes below ``core``. Raises ScenarioError where the graph is impossible.

    With ``dual_stack`` there is IPv6 beside IPv4 (ipv6.py).
    """

    name: str
    nodes: tuple[Node, ...]
    links: tuple[Link, ...]
    dual_stack: bool = False

    def __post_init__(self) -> None:
        self._check_names()
        _ = self._addressed
        self._check_nat64()

    @cached_property
    def by_name(self) -> dict[str, Node]:
        """Every node but the core, by name."""
        return {node.name: node for node in self.nodes}

    @cached_property
    def uplinks(self) -> dict[str, Uplink]:
        """Each node's link towards the core, by node name, in order from the core outwards.

        Of a host with several the one that it uses, the first of the author's.
        """
        return {one.lower: one for one in self._addressed if one.name == one.lower}

    @cached_property
    def standby(self) -> dict[str, tuple[Uplink, ...]]:
        """The further links of hosts that have any. What a host sends from an address of one of
        its links leaves by that link."""
        found: dict[str, tuple[Uplink, ...]] = {}
        for one in self._addressed:
            if one.name != one.lower:
                found[one.lower] = (*found.get(one.lower, ()), one)
        return found

    @property
    def all_links(self) -> tuple[Uplink, ...]:
        """Those of the tree, from the core outwards, and then those that stand by."""
        return self._addressed

    def links_of(self, host: str) -> tuple[Uplink, ...]:
        """A node's links upwards, the one in use first."""
        return (self.uplinks[host], *self.standby.get(host, ()))

    @cached_property
    def _addressed(self) -> tuple[Uplink, ...]:
        return address(self, *self._orient())

    @cached_property
    def by_link(self) -> dict[str, Uplink]:
        """Every link by its name."""
        return {one.name: one for one in self._addressed}

    def of_kind(self, kind: type[N]) -> Iterator[N]:
        """The nodes of one kind, in the author's order."""
        return (node for node in self.nodes if isinstance(node, kind))

    def path_to_core(self, name: str) -> list[str]:
        """``name`` and every node above it, the core last. From a host by its link in use, unless
        ``name`` is that of another of its links."""
        path = [name]
        while path[-1] != CORE:
            path.append(self.by_link[path[-1]].upper)
        return path

    def children(self, name: str) -> list[Uplink]:
        """The links that hang below a node, whether they are in use or stand by."""
        return self._below.get(name, [])

    @cached_property
    def _below(self) -> dict[str, list[Uplink]]:
        below: dict[str, list[Uplink]] = {}
        for uplink in self._addressed:
            below.setdefault(uplink.upper, []).append(uplink)
        return below

    def tree_below(self, name: str) -> list[str]:
        """The nodes that hang below one in the tree: each is below one other only."""
        return [one.lower for one in self.children(name) if one.name == one.lower]

    def nats_above(self, name: str) -> list[Nat]:
        """The NATs between a node and the core, the nearest first."""
        above = (self.by_name.get(node) for node in self.path_to_core(name)[1:])
        return [node for node in above if isinstance(node, Nat)]

    def nat64_above(self, name: str) -> str | None:
        """The NAT64 that a host without IPv4 is behind; its IPv4 addresses then exist only there,
        where they stand for the host's IPv6 one."""
        uplink = self.uplinks.get(name)
        above = self.by_name.get(uplink.upper) if uplink else None
        is_nat64 = isinstance(above, Nat) and above.behavior.ipv6 is Ipv6Behavior.NAT64
        return above.name if above is not None and is_nat64 else None

    def realm(self, name: str) -> str:
        """The NAT, or the core, whose addresses are used below a router (RFC 4787, 2)."""
        while isinstance(self.by_name.get(name), Firewall):
            name = self.uplinks[name].upper
        return name

    @cached_property
    def external_addresses(self) -> dict[str, tuple[IPv4Address, ...]]:
        """Each NAT's addresses, that of its uplink first, the others from the end of its pool."""
        return external_addresses(self)

    def behind(self, name: str) -> list[IPv4Network]:
        """What is reached through a node without translation, its uplink not counted."""
        node = self.by_name[name]
        if isinstance(node, Nat):
            return [IPv4Network(address) for address in self.external_addresses[name][1:]]
        found: list[IPv4Network] = []
        for uplink in self.children(name):
            found += [uplink.network, *self.behind(uplink.lower)]
        return found

    def subscribers(self, name: str) -> list[IPv4Address]:
        """The inside addresses that send through a NAT, as it sees them."""
        found: list[IPv4Address] = []
        for uplink in self.children(name):
            if isinstance(self.by_name[uplink.lower], Firewall):
                found += self.subscribers(uplink.lower)
            else:
                found += self.external_addresses.get(uplink.lower, (uplink.lower_address,))
        return found

    def _check_names(self) -> None:
        seen: set[str] = {CORE}
        for node in self.nodes:
            where = f"node {node.name!r}"
            if not _NAME.fullmatch(node.name):
                raise ScenarioError(
                    where, "a name is up to 32 lower-case letters, digits and inner hyphens"
                )
            if node.name == CORE:
                raise ScenarioError(where, f"{CORE!r} is the core router's own name")
            if node.name in seen:
                raise ScenarioError(where, "two nodes have this name")
            seen.add(node.name)
        for index, link in enumerate(self.links):
            for end, name in enumerate(link.between):
                if name not in seen:
                    raise ScenarioError(
                        f"link[{index}].between[{end}]", f"there is no node {name!r}"
                    )
            if link.between[0] == link.between[1]:
                raise ScenarioError(f"link[{index}].between", "a link joins two different nodes")

    def _check_nat64(self) -> None:
        for nat in self.of_kind(Nat):
            assert isinstance(nat, Nat)
            if nat.behavior.ipv6 is not Ipv6Behavior.NAT64:
                continue
            if not self.dual_stack:
                raise ScenarioError(
                    f"node {nat.name!r}", "ipv6 = 'nat64' needs a topology with dual_stack = true"
                )
            for uplink in self.children(nat.name):
                if not isinstance(self.by_name[uplink.lower], Host):
                    raise ScenarioError(
                        f"node {uplink.lower!r}",
                        "routers below a NAT64 would need IPv4: only hosts",
                    )

    def _orient(self) -> tuple[list[Edge], list[Edge]]:
        """The tree's links, breadth first from the core, and in the author's order those that
        stand by."""
        neighbours: dict[str, list[tuple[str, int]]] = {CORE: []}
        for node in self.nodes:
            neighbours[node.name] = []
        for index, link in enumerate(self.links):
            one, other = link.between
            neighbours[one].append((other, index))
            neighbours[other].append((one, index))
        tree: list[Edge] = []
        standby: list[Edge] = []
        used, queue = set[int](), [CORE]
        for upper in queue:
            for lower, index in neighbours[upper]:
                if index in used:
                    continue
                used.add(index)
                edge = Edge(lower, upper, index)
                if isinstance(self.by_name.get(lower), Host):
                    self._check_host(edge, [*tree, *standby])
                    is_first = index == neighbours[lower][0][1]
                    (tree if is_first else standby).append(edge)
                    continue
                if lower in queue:
                    raise ScenarioError(
                        f"link[{index}]",
                        f"{lower!r} is reached twice: only a host may have several links upwards",
                    )
                queue.append(lower)
                tree.append(edge)
        self._check_reached({edge.lower for edge in (*tree, *standby)}, used)
        return tree, sorted(standby, key=lambda edge: edge.link_index)

    def _check_reached(self, reached: set[str], used: set[int]) -> None:
        """Every node is, by links that all lead on from a router; ``used`` are those that do."""
        for index, link in enumerate(self.links):
            for end in link.between:
                if index not in used and end in reached:
                    raise ScenarioError(
                        f"link[{index}]", f"{end!r} is a host: nothing hangs below a host"
                    )
        for node in self.nodes:
            if node.name not in reached:
                raise ScenarioError(f"node {node.name!r}", f"no link leads from it to {CORE!r}")

    def _check_host(self, edge: Edge, others: list[Edge]) -> None:
        """A further link of a host, if it is one."""
        uppers = [one.upper for one in others if one.lower == edge.lower]
        if not uppers:
            return
        if edge.upper in uppers:
            raise ScenarioError(
                f"link[{edge.link_index}].between",
                f"{edge.lower!r} has a link to {edge.upper!r} already",
            )
        if isinstance(self.by_name[edge.lower], Relay):
            raise ScenarioError(
                f"link[{edge.link_index}].between", f"{edge.lower!r} is a relay, which has one link"
            )
        if self.dual_stack:
            raise ScenarioError(
                f"link[{edge.link_index}].between",
                f"{edge.lower!r} has a link already, and with dual_stack no host has several",
            )
