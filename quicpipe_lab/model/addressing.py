"""IPv4 addresses of a topology: the author's, checked, and the others, the same every time."""

import ipaddress
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING

from quicpipe_lab.errors import ScenarioError
from quicpipe_lab.model.nodes import CORE, Edge, Firewall, Nat, Uplink

if TYPE_CHECKING:
    from quicpipe_lab.model.topology import Topology

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


def _pool(topology: "Topology", lower: str, realm: str, outer: str) -> IPv4Network:
    """Which block a link in a realm takes its addresses from; ``outer`` is the realm around it."""
    if realm == CORE:
        return PUBLIC_POOL
    if not isinstance(topology.by_name[lower], Nat):
        return HOME_POOL
    return CARRIER_POOL if outer == CORE else BUILDING_POOL


def _realms(topology: "Topology", oriented: list[Edge]) -> dict[str, str]:
    """``Topology.realm`` of every node, before there are uplinks."""
    realms = {CORE: CORE}
    for lower, upper, _ in oriented:
        translates = not isinstance(topology.by_name[lower], Firewall)
        realms[lower] = lower if translates else realms[upper]
    return realms


def address(topology: "Topology", tree: list[Edge], standby: list[Edge]) -> tuple[Uplink, ...]:
    """Give every link its /30: the author's, or the next free one of its pool.

    Blocks behind different NATs are different realms: the same network may stand in both. But not
    on two links of one host, which could not tell them apart.
    """
    edges = [*tree, *standby]
    realms = _realms(topology, tree)
    given = _given_addresses(topology, edges, realms)
    given_in: dict[str, list[IPv4Network]] = {CORE: [SERVICE_NETWORK]}
    given_to: dict[str, list[IPv4Network]] = {}
    for lower, upper, index in edges:
        if index in given:
            given_in.setdefault(realms[upper], []).append(given[index].network)
            given_to.setdefault(lower, []).append(given[index].network)

    outer = {lower: realms[upper] for lower, upper, _ in tree} | {CORE: CORE}
    found: list[Uplink] = []
    uplinks: dict[str, Uplink] = {}
    blocks: dict[tuple[str, IPv4Network], Iterator[IPv4Network]] = {}
    for lower, upper, index in edges:
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
            own = [one.network for one in found if one.lower == lower] if lower in uplinks else []
            own += given_to.get(lower, [])
            network = next((one for one in free if not any(map(one.overlaps, own))), pool)
            if network is pool:
                raise ScenarioError(f"link[{index}]", f"{pool} has no free addresses left")
            address = _usable(network)[1]
        (upper_address,) = (one for one in _usable(network) if one != address)
        link = topology.links[index]
        name = f"{lower}/{upper}" if lower in uplinks else lower
        one = Uplink(lower, upper, link, address, upper_address, network, name)
        uplinks.setdefault(lower, one)
        found.append(one)
    return tuple(found)


def _given_addresses(
    topology: "Topology", edges: list[Edge], realms: dict[str, str]
) -> dict[int, ipaddress.IPv4Interface]:
    """The author's own addresses by link index, checked."""
    given: dict[int, ipaddress.IPv4Interface] = {}
    taken: dict[str, dict[IPv4Network, int]] = {}
    for lower, upper, index in edges:
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
        # By realm, and by host: the two links of one must not be alike.
        for alike in (taken.setdefault(place, {}) for place in (realms[upper], f"{lower}'s own")):
            for other, other_index in alike.items():
                if network.overlaps(other):
                    raise ScenarioError(
                        where, f"link[{other_index}] has an address of {other} already"
                    )
            alike[network] = index
        given[index] = interface
    return given


def external_addresses(topology: "Topology") -> dict[str, tuple[IPv4Address, ...]]:
    """Topology.external_addresses."""
    taken: dict[str, list[IPv4Network]] = {CORE: [SERVICE_NETWORK]}
    for uplink in topology.all_links:
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
