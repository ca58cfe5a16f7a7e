"""IPv6 addresses of a dual-stack topology, beside the IPv4 ones that every topology has.

The core's realm is 2001:db8::/32 (RFC 3849). Routers that do not translate extend it, one /64 for
each link; a node's interface identifier (the lower 64 bits) towards the core is its own. Behind
a router that does lies a realm of unique local addresses (RFC 4193); its prefix has
the same checksum as the one that NPTv6 puts in its place, so that RFC 6296's checksum-neutral
mapping (2.6) changes the prefix and not a bit more.
"""

from dataclasses import dataclass, replace
from ipaddress import IPv6Address, IPv6Network

from quicpipe_lab.errors import ScenarioError
from quicpipe_lab.model.firewall import FirewallBehavior
from quicpipe_lab.model.nat import (
    FilteringBehavior,
    Hairpinning,
    Ipv6Behavior,
    NatBehavior,
    PortAssignment,
    UnsolicitedReaction,
)
from quicpipe_lab.model.nat_presets import PRESETS
from quicpipe_lab.model.topology import CORE, Host, Nat, Topology

SERVICE_ADDRESSES_V6 = (IPv6Address("2001:db8:ffff::1"), IPv6Address("2001:db8:ffff::2"))
"""As topology.SERVICE_ADDRESSES: no link has them, and no NPTv6 router's prefix."""

_ROUTED = (Ipv6Behavior.ROUTED, Ipv6Behavior.NAT64)
_GLOBAL = IPv6Network("2001:db8::/48")
_SAME_CHECKSUM = 0x2300
"""The one's complement sum of 2001:db8:N and that of fd00:db8:2300+N are the same."""
_MOST_LINKS = 0xFFFF - _SAME_CHECKSUM


@dataclass(frozen=True, slots=True)
class Ipv6Uplink:
    """A link's addresses."""

    lower_address: IPv6Address
    upper_address: IPv6Address
    network: IPv6Network


class Ipv6Addresses:
    """All of a topology's. Raises ScenarioError.

    ``uplinks`` is empty where the topology is not dual-stack, and lacks the nodes that have no
    IPv6, by the name of the lower node.
    """

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._numbers = {name: number for number, name in enumerate(topology.uplinks, 1)}
        self.uplinks: dict[str, Ipv6Uplink] = {}
        if not topology.dual_stack:
            return
        if len(topology.uplinks) > _MOST_LINKS:
            raise ScenarioError("dual_stack", f"no more than {_MOST_LINKS} links have IPv6")
        for name, number in self._numbers.items():
            realm = self._realm(topology.uplinks[name].upper)
            if realm is not None:
                network = IPv6Network((int(realm.network_address) + (number << 64), 64))
                self.uplinks[name] = Ipv6Uplink(network[number + 1], network[1], network)
            if self._behavior(name) is Ipv6Behavior.NPTV6 and realm != _GLOBAL:
                raise ScenarioError(
                    f"node {name!r}",
                    "ipv6 = 'nptv6' (RFC 6296, 4.1) needs a prefix of its own, which nobody has"
                    " who is behind a router that translates or has no IPv6",
                )
            if self._behavior(name) is Ipv6Behavior.NAT64 and realm is None:
                raise ScenarioError(
                    f"node {name!r}", "ipv6 = 'nat64': no IPv6 comes from the router above"
                )

    def prefixes(self, name: str) -> tuple[IPv6Network, IPv6Network]:
        """The prefix inside a NAT that translates, and the one that NPTv6 puts in its place."""
        number = self._numbers[name]
        return (
            IPv6Network(f"fd00:db8:{_SAME_CHECKSUM + number:x}::/48"),
            IPv6Network(f"2001:db8:{number:x}::/48"),
        )

    def behind(self, name: str) -> list[IPv6Network]:
        """What is reached through a node, its uplink not counted."""
        if name not in self.uplinks or isinstance(self._topology.by_name[name], Host):
            return []
        behavior = self._behavior(name)
        if behavior is Ipv6Behavior.NPTV6:
            return [self.prefixes(name)[1]]
        found: list[IPv6Network] = []
        if behavior in _ROUTED:
            for uplink in self._topology.children(name):
                found += [self.uplinks[uplink.lower].network, *self.behind(uplink.lower)]
        return found

    def realm(self, name: str) -> str:
        """The router whose addresses a node's are of, or the core: who translates last on the way
        to it. As Topology.realm, but for IPv6."""
        for router in self._topology.path_to_core(name)[1:-1]:
            if self.translates(router):
                return router
        return CORE

    def translates(self, name: str) -> bool:
        """Whether a router puts other IPv6 addresses in the place of those below it."""
        return self._behavior(name) in (Ipv6Behavior.NPTV6, Ipv6Behavior.NAT66)

    def seen_as(self, name: str) -> IPv6Address:
        """The address that the internet sees a node's packets come from."""
        address = self.uplinks[name].lower_address
        for router in self._topology.path_to_core(name)[1:-1]:
            behavior = self._behavior(router)
            if behavior is Ipv6Behavior.NAT66:
                address = self.uplinks[router].lower_address
            elif behavior is Ipv6Behavior.NPTV6:
                inside, outside = self.prefixes(router)
                within = int(address) - int(inside.network_address)
                address = IPv6Address(int(outside.network_address) + within)
        return address

    def _realm(self, router: str) -> IPv6Network | None:
        """The prefix that links below a router are in: nodes come after those above them."""
        if router == CORE:
            return _GLOBAL
        if router not in self.uplinks or self._behavior(router) is Ipv6Behavior.NONE:
            return None
        if self._behavior(router) in _ROUTED:
            return self._realm(self._topology.uplinks[router].upper)
        return self.prefixes(router)[0]

    def _behavior(self, name: str) -> Ipv6Behavior:
        node = self._topology.by_name[name]
        return node.behavior.ipv6 if isinstance(node, Nat) else Ipv6Behavior.ROUTED


def firewall_of(nat: NatBehavior) -> FirewallBehavior:
    """RFC 6092: a home's router filters the IPv6 that it routes as its NAT filters IPv4."""
    reaction = nat.unsolicited
    plain = reaction is UnsolicitedReaction.CONNTRACK
    return FirewallBehavior(
        filtering=nat.filtering,
        state_lifetime_s=nat.mapping_lifetime_s,
        refresh=nat.refresh,
        unsolicited=UnsolicitedReaction.DROP if plain else reaction,
    )


def over_ipv6(nat: NatBehavior) -> NatBehavior:
    """The NAT that a peer cannot tell from what a router does to IPv6.

    NAT66 is plain masquerading, with all that it does to IPv4 as well, but for the lifetimes, of
    which a router's conntrack has one set. Not for routers that pass no IPv6.
    """
    match nat.ipv6:
        case Ipv6Behavior.NPTV6:
            return NatBehavior(
                filtering=FilteringBehavior.ENDPOINT_INDEPENDENT,
                port_assignment=PortAssignment.PRESERVING,
                hairpinning=Hairpinning.EXTERNAL_SOURCE,  # RFC 6296, 4.3
            )
        case Ipv6Behavior.NAT66:
            return replace(
                PRESETS["linux-masquerade"],
                mapping_lifetime_s=nat.mapping_lifetime_s,
                answered_lifetime_s=nat.answered_lifetime_s,
            )
        case _:
            return firewall_of(nat).as_nat()
