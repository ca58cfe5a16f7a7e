"""How two peers anywhere in a topology must end, and why: direct, by the relay, or not at all.

Where each is behind one NAT of its own, expectation.py says it. Here is what comes on top: NATs and
firewalls in a row, peers that share some, hairpins, blocked UDP, IPv6. NAT-TRAVERSAL's rules: two
layers are the stricter of each axis; a firewall is a NAT of the kind EIM; peers behind one NAT need
their inside addresses or a hairpin; with UDP blocked, no relay over QUIC works either. Pure.
"""

from collections.abc import Sequence
from typing import NamedTuple

from quicpipe_lab.model.address import Family
from quicpipe_lab.model.expectation import can_go_direct
from quicpipe_lab.model.firewall import UdpPolicy
from quicpipe_lab.model.ipv6 import Ipv6Addresses, over_ipv6
from quicpipe_lab.model.nat import (
    FilteringBehavior,
    Hairpinning,
    MappingBehavior,
    NatBehavior,
    UnsolicitedReaction,
)
from quicpipe_lab.model.nat_declaration import filter_scope_of
from quicpipe_lab.model.scenario import Outcome
from quicpipe_lab.model.topology import CORE, Firewall, Nat, Topology


class Prediction(NamedTuple):
    """``outcome`` is None where chance decides between direct and relayed."""

    outcome: Outcome | None
    reason: str


def predict(
    topology: Topology,
    dialer: str,
    accepter: str,
    family: Family = Family.IPV4,
    *,
    search: bool = False,
) -> Prediction:
    """For a relay that is directly at the core, at port 443. ``search``: both peers would search
    ports; what comes of that by a hairpin nobody has looked at. Raises ScenarioError."""
    for peer in (dialer, accepter):
        if _policy(topology, peer) is UdpPolicy.BLOCKED:
            return Prediction(Outcome.FAILED, f"no UDP gets out from {peer}, nor to the relay")
    for peer in (dialer, accepter):
        if _policy(topology, peer) is UdpPolicy.ONLY_443:
            return Prediction(
                Outcome.RELAYED, f"UDP from {peer} gets to the relay's port 443 and to no other"
            )
    if family is Family.ANY:
        families = [_family_of(topology, peer) for peer in (dialer, accepter)]
        if families[0] is not families[1]:
            spoken = "the relay alone speaks both families"
            return Prediction(Outcome.RELAYED, f"one has IPv6 and the other IPv4: {spoken}")
        family = families[0]
    realms = [_realm(topology, peer, family) for peer in (dialer, accepter)]
    # Behind a NAT64 no host has an inside address for IPv4.
    if realms[0] == realms[1] and not (family is Family.IPV4 and topology.nat64_above(dialer)):
        return _within(topology, dialer, accepter, realms[0], family)
    shared = _outermost_translator(topology, dialer, family)
    apart = shared is None or shared != _outermost_translator(topology, accepter, family)
    if shared is not None and not apart:
        hairpinning = _behavior(shared, family).hairpinning
        if hairpinning is Hairpinning.NONE:
            return Prediction(Outcome.RELAYED, f"{shared.name}, which both share, has no hairpins")
        if hairpinning is Hairpinning.INTERNAL_SOURCE:
            return Prediction(
                None, f"{shared.name} shows inside sources, which only some NATs below it let in"
            )
    return _of_chains(
        chain_above(topology, dialer, family),
        chain_above(topology, accepter, family),
        search=search and apart,
    )


def chain_above(topology: Topology, host: str, family: Family) -> list[NatBehavior]:
    """The NATs and firewalls above a host, the nearest first, all in terms of NATs."""
    return [
        _behavior(node, family)
        for node in map(topology.by_name.get, topology.path_to_core(host)[1:-1])
        if isinstance(node, Nat | Firewall)
    ]


def seen_from_outside(chain: Sequence[NatBehavior]) -> NatBehavior:
    """The one NAT that a peer cannot tell from several in a row; nearest first, none is none."""
    open_to_all = FilteringBehavior.ENDPOINT_INDEPENDENT
    filtering = max((one.filtering for one in chain), key=_strictness, default=open_to_all)
    eim = MappingBehavior.ENDPOINT_INDEPENDENT
    mapping = max((one.mapping for one in chain), key=_changeability, default=eim)
    return NatBehavior(mapping, filtering, filter_scope=filter_scope_of(chain))


_strictness = list(FilteringBehavior).index
_changeability = list(MappingBehavior).index


def _of_chains(
    ours: Sequence[NatBehavior], theirs: Sequence[NatBehavior], *, search: bool = False
) -> Prediction:
    one, other = seen_from_outside(ours), seen_from_outside(theirs)
    pair = f"{one} against {other}"
    if not can_go_direct(one, other):
        if search and can_go_direct(one, other, search=True):
            plain = any(
                nat.unsolicited is UnsolicitedReaction.CONNTRACK for nat in (*ours, *theirs)
            )
            reason = f"{pair}: of 256 ports that were opened, one is found"
            return Prediction(None if plain else Outcome.DIRECT, reason)
        if search:
            return Prediction(None, f"{pair}: both would have to guess a port, and seldom can")
        return Prediction(
            Outcome.RELAYED, f"{pair}: a filter waits for a port that nobody can know"
        )
    races = (
        any(nat.unsolicited is UnsolicitedReaction.CONNTRACK for nat in chain)
        and peer.filtering is FilteringBehavior.ADDRESS_AND_PORT_DEPENDENT
        for chain, peer in ((ours, other), (theirs, one))
    )
    if any(races):
        return Prediction(None, f"{pair}: a punch that comes too early moves plain Linux's port")
    return Prediction(Outcome.DIRECT, f"{pair}: a port that is known, or is learnt from a punch")


def _within(
    topology: Topology, dialer: str, accepter: str, realm: str, family: Family
) -> Prediction:
    """Both have addresses of one realm: what filters is between them, if anything does."""
    ways = [_up_to(topology, peer, realm) for peer in (dialer, accepter)]
    chains = [
        [_behavior(node, family) for node in way if node not in ways[1 - place]]
        for place, way in enumerate(ways)
    ]
    if not any(chains):
        where = "of the internet" if realm == CORE else f"behind {realm}"
        return Prediction(Outcome.DIRECT, f"they meet on their own addresses {where}")
    return _of_chains(*chains)


def _up_to(topology: Topology, host: str, realm: str) -> list[Nat | Firewall]:
    """The routers between a host and the one whose realm it is in, the nearest first."""
    path = topology.path_to_core(host)
    between = (topology.by_name.get(name) for name in path[1 : path.index(realm)])
    return [node for node in between if isinstance(node, Nat | Firewall)]


def _policy(topology: Topology, host: str) -> UdpPolicy:
    """The strictest on the way to the core."""
    above = map(topology.by_name.get, topology.path_to_core(host))
    policies = [node.behavior.udp for node in above if isinstance(node, Firewall)]
    return max([UdpPolicy.OPEN, *policies], key=list(UdpPolicy).index)


def _family_of(topology: Topology, host: str) -> Family:
    """As Scenario.family_of, for a relay that has all."""
    return Family.IPV6 if host in Ipv6Addresses(topology).uplinks else Family.IPV4


def _realm(topology: Topology, host: str, family: Family) -> str:
    if family is Family.IPV6:
        return Ipv6Addresses(topology).realm(host)
    return topology.realm(topology.uplinks[host].upper)


def _outermost_translator(topology: Topology, host: str, family: Family) -> Nat | None:
    nats = topology.nats_above(host)
    if family is Family.IPV6:
        addresses = Ipv6Addresses(topology)
        nats = [nat for nat in nats if addresses.translates(nat.name)]
    return nats[-1] if nats else None


def _behavior(node: Nat | Firewall, family: Family) -> NatBehavior:
    if isinstance(node, Firewall):
        return node.behavior.as_nat()
    return node.behavior if family is Family.IPV4 else over_ipv6(node.behavior)
