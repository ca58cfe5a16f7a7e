"""From where the NATs of a lab are looked at, and what is to be seen from there. Pure."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from quicpipe_lab.model.address import Family
from quicpipe_lab.model.firewall import UdpPolicy
from quicpipe_lab.model.ipv6 import SERVICE_ADDRESSES_V6, Ipv6Addresses, over_ipv6
from quicpipe_lab.model.nat import Ipv6Behavior, NatBehavior
from quicpipe_lab.model.nat_certificate import (
    MAPPINGS_NEEDED,
    Certificate,
    certify,
    certify_blocked,
    uncertified,
)
from quicpipe_lab.model.nat_declaration import (
    Declaration,
    declare,
    declare_ipv6,
    lifetime_of,
    room,
)
from quicpipe_lab.model.nat_measurement import NatMeasurement
from quicpipe_lab.model.topology import SERVICE_ADDRESSES, Firewall, Host, Nat, Topology

Hosts = tuple[str, str | None]
Router = Nat | Firewall

SERVICES: dict[Family, tuple[str, str]] = {
    Family.IPV4: (str(SERVICE_ADDRESSES[0]), str(SERVICE_ADDRESSES[1])),
    Family.IPV6: (str(SERVICE_ADDRESSES_V6[0]), str(SERVICE_ADDRESSES_V6[1])),
}
"""The two addresses of the core that the lab's STUN server has."""


class Vantage(NamedTuple):
    """A host, and perhaps a second one behind the same NATs, that look at them over a family.

    Each by the name of its link: a host with several looks by each of them.
    """

    first: str
    second: str | None
    family: Family


def vantage_points(topology: Topology) -> dict[str, Hosts]:
    """For each NAT and firewall the host behind it with the fewest others above, and a second one.

    The second has the same kinds of them above it, if not the same ones.
    """
    found: dict[str, Hosts] = {}
    in_use = [node.name for node in topology.nodes if isinstance(node, Host)]
    hosts = [*in_use, *(one.name for links in topology.standby.values() for one in links)]
    above = {host: routers_above(topology, host) for host in hosts}
    for router in routers(topology):
        behind = sorted((one for one in hosts if router in above[one]), key=lambda h: len(above[h]))
        if behind:
            first, *others = behind
            kinds = [one.behavior for one in above[first]]
            alike = (one for one in others if [r.behavior for r in above[one]] == kinds)
            found[router.name] = first, next(alike, None)
    return found


def routers(topology: Topology) -> list[Router]:
    """All NATs and firewalls, in the author's order."""
    return [node for node in topology.nodes if isinstance(node, Nat | Firewall)]


def routers_above(topology: Topology, host: str) -> list[Router]:
    """The nearest first; ``host`` may be the name of one of its links."""
    above = (topology.by_name.get(name) for name in topology.path_to_core(host)[1:])
    return [node for node in above if isinstance(node, Nat | Firewall)]


class Prospect:
    """What a topology shows, by vantage."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._ipv6 = Ipv6Addresses(topology)
        self._hosts = vantage_points(topology)

    def wanted(self) -> list[Vantage]:
        """From where the NATs are to be looked at."""
        pairs = dict.fromkeys(self._hosts.values())
        vantages = [one for pair in pairs for one in self.vantages(pair)]
        return [one for one in vantages if self.can_be_probed(one)]

    def certificates(self, measured: Mapping[Vantage, NatMeasurement]) -> list[Certificate]:
        """The verdict on each NAT and firewall, over each family."""
        return [
            certificate
            for router in routers(self._topology)
            for certificate in self._certificates(router, measured)
        ]

    def _certificates(
        self, router: Router, measured: Mapping[Vantage, NatMeasurement]
    ) -> Iterator[Certificate]:
        hosts = self._hosts.get(router.name)
        if hosts is None:  # nobody can be misled by it
            yield uncertified(router.name, None, [], [])
            return
        for vantage in self.vantages(hosts):
            yield self._certificate(router, vantage, measured.get(vantage))

    def _certificate(
        self, router: Router, vantage: Vantage, measured: NatMeasurement | None
    ) -> Certificate:
        host, family = vantage.first, vantage.family
        names = [one.name for one in routers_above(self._topology, host)]
        if measured is None:
            return uncertified(router.name, host, names, self.chain(vantage), family)
        policy = self.udp_policy(vantage)
        if policy is not UdpPolicy.OPEN:
            return certify_blocked(router.name, host, names, policy, measured, family)
        declared, external = self.declaration(vantage), self.external_addresses(vantage)
        return certify(router.name, host, names, declared, external, measured, family)

    def vantages(self, hosts: Hosts) -> list[Vantage]:
        """Those of a pair of hosts: over each family that they have."""
        families = [Family.IPV4] + ([Family.IPV6] if hosts[0] in self._ipv6.uplinks else [])
        return [Vantage(*hosts, family) for family in families]

    def chain(self, vantage: Vantage) -> list[NatBehavior]:
        """The NATs on the way, or what else is there in terms of NATs; the nearest first."""
        above = routers_above(self._topology, vantage.first)
        if vantage.family is Family.IPV4:
            return [o.behavior if isinstance(o, Nat) else o.behavior.as_nat() for o in above]
        return [over_ipv6(o.behavior) if isinstance(o, Nat) else o.behavior.as_nat() for o in above]

    def declaration(self, vantage: Vantage) -> Declaration:
        """What is to be seen of the chain."""
        external = self.external_addresses(vantage)
        if vantage.family is Family.IPV4:
            return declare(self.chain(vantage), external)
        nats = self._topology.nats_above(vantage.first)
        return declare_ipv6(self.chain(vantage), external, [one.behavior.ipv6 for one in nats])

    def udp_policy(self, vantage: Vantage) -> UdpPolicy:
        """The strictest on the way."""
        above = routers_above(self._topology, vantage.first)
        policies = [one.behavior.udp for one in above if isinstance(one, Firewall)]
        return max([UdpPolicy.OPEN, *policies], key=list(UdpPolicy).index)

    def inside_address(self, host: str, family: Family) -> str:
        """A host's own."""
        if family is Family.IPV6:
            return str(self._ipv6.uplinks[host].lower_address)
        return str(self._topology.by_link[host].lower_address)

    def external_addresses(self, vantage: Vantage) -> list[str]:
        """The outermost NAT's, or the host's own where nothing translates."""
        if vantage.family is Family.IPV6:
            return [str(self._ipv6.seen_as(vantage.first))]
        nats = self._topology.nats_above(vantage.first)
        if not nats:
            return [self.inside_address(vantage.first, vantage.family)]
        return [str(address) for address in self._topology.external_addresses[nats[-1].name]]

    def lifetime_s(self, vantage: Vantage) -> float | None:
        """Of a mapping; None where a translation without state is on the way, and none ends."""
        nats = self._topology.nats_above(vantage.first)
        over6 = vantage.family is Family.IPV6
        if over6 and any(one.behavior.ipv6 is Ipv6Behavior.NPTV6 for one in nats):
            return None
        return min(map(lifetime_of, self.chain(vantage)))

    def can_be_probed(self, vantage: Vantage) -> bool:
        """Not where the tests would use up the mappings that the lab's programs need."""
        narrowest = room(self.chain(vantage))
        return narrowest is None or narrowest.mappings >= MAPPINGS_NEEDED
