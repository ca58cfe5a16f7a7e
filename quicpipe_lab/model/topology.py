"""Hosts, NATs, a relay and the links between them, as one tree that hangs off a core router.

A topology is checked when it is built: whoever holds one holds a possible network. Addresses
that the author did not give are assigned here, the same way every time, so that two backends
agree on them.
"""

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network
from typing import TypeVar

from quicpipe_lab.errors import ScenarioError
from quicpipe_lab.model.firewall import FirewallBehavior
from quicpipe_lab.model.link import LinkBehavior
from quicpipe_lab.model.nat import Ipv6Behavior, NatBehavior

CORE = "core"
"""The name of the router that every topology has: the internet."""

PUBLIC_POOL = IPv4Network("198.18.0.0/15")
"""The core's addresses: RFC 2544's benchmarking block, routed nowhere."""
CARRIER_POOL = IPv4Network("100.64.0.0/10")
"""Between a carrier's NAT and its subscribers' NATs: RFC 6598."""
BUILDING_POOL = IPv4Network("10.0.0.0/8")
"""Between NATs that are farther from the core: RFC 1918."""
HOME_POOL = IPv4Network("192.168.0.0/16")
"""Behind a home's NAT: RFC 1918. Every home uses the same addresses, as homes do."""

SERVICE_NETWORK = IPv4Network("198.19.255.252/30")
"""The end of the core's block, for servers of the lab itself: no link has addresses of it."""
SERVICE_ADDRESSES = tuple(SERVICE_NETWORK.hosts())
"""Two addresses that the core router answers at, whatever its links: RFC 5780 needs two."""

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Host:
    """An end host."""

    name: str


@dataclass(frozen=True, slots=True)
class Relay(Host):
    """The host that the relay program runs on."""


@dataclass(frozen=True, slots=True)
class Nat:
    """A router that translates between what hangs below it and its uplink."""

    name: str
    behavior: NatBehavior = field(default_factory=NatBehavior)


@dataclass(frozen=True, slots=True)
class Firewall:
    """A router that lets in what was asked for, and translates nothing.

    What is below it has addresses of the same realm as what is above.
    """

    name: str
    behavior: FirewallBehavior = field(default_factory=FirewallBehavior)


Node = Host | Nat | Firewall
N = TypeVar("N", bound=Node)


@dataclass(frozen=True, slots=True)
class Link:
    """A routed point-to-point link between two nodes.

    ``towards_lower`` is what it does to packets on their way from the end that is nearer to the
    core, ``towards_upper`` to those in the other direction. A link with neither is a plain cable:
    no delay, no loss, no limit. One that is to get a behaviour only later has an empty one,
    ``LinkBehavior()``, from the start.

    ``lower_address`` is the address, in CIDR form, of the end that is farther from the core;
    the other end gets the other address of the same /30 or /31.
    """

    between: tuple[str, str]
    towards_lower: LinkBehavior | None = None
    towards_upper: LinkBehavior | None = None
    lower_address: str | None = None

    @classmethod
    def both_ways(
        cls, between: tuple[str, str], behavior: LinkBehavior, lower_address: str | None = None
    ) -> "Link":
        """The same behaviour in both directions."""
        return cls(between, behavior, behavior, lower_address)

    @property
    def is_plain(self) -> bool:
        """Whether it has no behaviour at all."""
        return self.towards_lower is None and self.towards_upper is None


@dataclass(frozen=True, slots=True)
class Uplink:
    """A link as seen from its lower end, with the addresses in use."""

    lower: str
    upper: str
    link: Link
    lower_address: IPv4Address
    upper_address: IPv4Address
    network: IPv4Network


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
        _ = self.uplinks
        self._check_nat64()

    @cached_property
    def by_name(self) -> dict[str, Node]:
        """Every node but the core, by name."""
        return {node.name: node for node in self.nodes}

    @cached_property
    def uplinks(self) -> dict[str, Uplink]:
        """Each node's link towards the core, by node name, in order from the core outwards."""
        return _address(self, self._orient())

    def of_kind(self, kind: type[N]) -> Iterator[N]:
        """The nodes of one kind, in the author's order."""
        return (node for node in self.nodes if isinstance(node, kind))

    def path_to_core(self, name: str) -> list[str]:
        """``name`` and every node above it, the core last."""
        path = [name]
        while path[-1] != CORE:
            path.append(self.uplinks[path[-1]].upper)
        return path

    def children(self, name: str) -> list[Uplink]:
        """The links that hang below a node."""
        return self._below.get(name, [])

    @cached_property
    def _below(self) -> dict[str, list[Uplink]]:
        below: dict[str, list[Uplink]] = {}
        for uplink in self.uplinks.values():
            below.setdefault(uplink.upper, []).append(uplink)
        return below

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
        return _external_addresses(self)

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

    def _orient(self) -> list[tuple[str, str, int]]:
        """(lower, upper, index of link) breadth first from the core."""
        neighbours: dict[str, list[tuple[str, int]]] = {CORE: []}
        for node in self.nodes:
            neighbours[node.name] = []
        for index, link in enumerate(self.links):
            one, other = link.between
            neighbours[one].append((other, index))
            neighbours[other].append((one, index))
        oriented: list[tuple[str, str, int]] = []
        reached, used, queue = {CORE}, set[int](), [CORE]
        for upper in queue:
            for lower, index in neighbours[upper]:
                if index in used:
                    continue
                used.add(index)
                if lower in reached:
                    raise ScenarioError(
                        f"link[{index}]", f"{lower!r} is reached twice: the links must form a tree"
                    )
                if upper != CORE and isinstance(self.by_name[upper], Host):
                    raise ScenarioError(
                        f"link[{index}]", f"{upper!r} is a host: nothing hangs below a host"
                    )
                reached.add(lower)
                queue.append(lower)
                oriented.append((lower, upper, index))
        for node in self.nodes:
            if node.name not in reached:
                raise ScenarioError(f"node {node.name!r}", f"no link leads from it to {CORE!r}")
        return oriented


def _pool(topology: Topology, lower: str, realm: str, outer: str) -> IPv4Network:
    """Which block a link in a realm takes its addresses from; ``outer`` is the realm around it."""
    if realm == CORE:
        return PUBLIC_POOL
    if not isinstance(topology.by_name[lower], Nat):
        return HOME_POOL
    return CARRIER_POOL if outer == CORE else BUILDING_POOL


def _realms(topology: Topology, oriented: list[tuple[str, str, int]]) -> dict[str, str]:
    """``Topology.realm`` of every node, before there are uplinks."""
    realms = {CORE: CORE}
    for lower, upper, _ in oriented:
        translates = not isinstance(topology.by_name[lower], Firewall)
        realms[lower] = lower if translates else realms[upper]
    return realms


def _address(topology: Topology, oriented: list[tuple[str, str, int]]) -> dict[str, Uplink]:
    """Give every link its /30: the author's, or the next free one of its pool.

    Blocks behind different NATs are different realms: the same network may stand in both.
    """
    realms = _realms(topology, oriented)
    given = _given_addresses(topology, oriented, realms)
    given_in: dict[str, list[IPv4Network]] = {CORE: [SERVICE_NETWORK]}
    for _, upper, index in oriented:
        if index in given:
            given_in.setdefault(realms[upper], []).append(given[index].network)

    outer = {lower: realms[upper] for lower, upper, _ in oriented} | {CORE: CORE}
    uplinks: dict[str, Uplink] = {}
    blocks: dict[tuple[str, IPv4Network], Iterator[IPv4Network]] = {}
    for lower, upper, index in oriented:
        if index in given:
            address, network = given[index].ip, given[index].network
            if realms[upper] != CORE and network.overlaps(uplinks[realms[upper]].network):
                raise ScenarioError(
                    f"link[{index}].lower_address",
                    f"{realms[upper]!r} has {uplinks[realms[upper]].network} on its other side",
                )
        else:
            realm = realms[upper]
            pool = _pool(topology, lower, realm, outer[realm])
            # A NAT's two sides must differ, or it could not tell where to send.
            taken = given_in.get(realm, [])
            if realm != CORE:
                taken = [*taken, uplinks[realm].network]
            free = blocks.setdefault((realm, pool), _blocks(pool, taken))
            network = next(free, pool)
            if network is pool:
                raise ScenarioError(f"link[{index}]", f"{pool} has no free addresses left")
            address = _usable(network)[1]
        (upper_address,) = (one for one in _usable(network) if one != address)
        link = topology.links[index]
        uplinks[lower] = Uplink(lower, upper, link, address, upper_address, network)
    return uplinks


def _given_addresses(
    topology: Topology, oriented: list[tuple[str, str, int]], realms: dict[str, str]
) -> dict[int, ipaddress.IPv4Interface]:
    """The author's own addresses by link index, checked."""
    given: dict[int, ipaddress.IPv4Interface] = {}
    taken: dict[str, dict[IPv4Network, int]] = {}
    for _, upper, index in oriented:
        text = topology.links[index].lower_address
        if text is None:
            continue
        where = f"link[{index}].lower_address"
        try:
            interface = ipaddress.IPv4Interface(text)
        except ValueError as error:
            raise ScenarioError(where, str(error)) from None
        network = interface.network
        if network.prefixlen not in (30, 31) or interface.ip not in _usable(network):
            raise ScenarioError(where, "give a host address of a /30 or /31, as 198.18.0.2/30")
        if realms[upper] == CORE and network.overlaps(SERVICE_NETWORK):
            raise ScenarioError(where, f"{SERVICE_NETWORK} is for servers of the lab itself")
        realm = taken.setdefault(realms[upper], {})
        for other, other_index in realm.items():
            if network.overlaps(other):
                raise ScenarioError(where, f"link[{other_index}] has an address of {other} already")
        realm[network] = index
        given[index] = interface
    return given


def _external_addresses(topology: Topology) -> dict[str, tuple[IPv4Address, ...]]:
    taken: dict[str, list[IPv4Network]] = {CORE: [SERVICE_NETWORK]}
    for uplink in topology.uplinks.values():
        taken.setdefault(topology.realm(uplink.upper), []).append(uplink.network)
    free: dict[tuple[str, IPv4Network], Iterator[IPv4Address]] = {}
    external: dict[str, tuple[IPv4Address, ...]] = {}
    for name, uplink in topology.uplinks.items():
        node = topology.by_name[name]
        if not isinstance(node, Nat):
            continue
        realm = topology.realm(uplink.upper)
        outer = CORE if realm == CORE else topology.realm(topology.uplinks[realm].upper)
        pool = _pool(topology, name, realm, outer)
        last_first = free.setdefault((realm, pool), _backwards(pool, taken[realm]))
        others = [next(last_first) for _ in range(node.behavior.external_addresses - 1)]
        external[name] = (uplink.lower_address, *others)
    return external


def _backwards(pool: IPv4Network, taken: list[IPv4Network]) -> Iterator[IPv4Address]:
    """The pool's addresses from its end, without those that a link has."""
    address = pool.broadcast_address - 1
    while address in pool:
        if not any(address in network for network in taken):
            yield address
        address -= 1


def _blocks(pool: IPv4Network, given: list[IPv4Network]) -> Iterator[IPv4Network]:
    """The /30s of a pool that nobody has, without its first, which reads badly (192.168.0.0)."""
    subnets = pool.subnets(new_prefix=30)
    next(subnets)
    return (block for block in subnets if not any(block.overlaps(other) for other in given))


def _usable(network: IPv4Network) -> tuple[IPv4Address, IPv4Address]:
    """The two host addresses of a /30 or /31, the upper end's by default first."""
    first, second = network.hosts()
    return first, second
