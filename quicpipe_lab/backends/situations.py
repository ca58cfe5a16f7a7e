"""Situations that no pair of NATs describes: stacked and shared NATs, firewalls, IPv6.

``quicpipe-lab matrix --situations`` runs them all, with model/prediction.py's word on each.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from quicpipe_lab.backends.matrix import SETTLED_WITHIN_S, TRANSFER_BYTES
from quicpipe_lab.model.address import Family
from quicpipe_lab.model.firewall import FirewallBehavior, UdpPolicy
from quicpipe_lab.model.nat import (
    FilteringBehavior,
    FilterScope,
    Hairpinning,
    Ipv6Behavior,
    MappingBehavior,
    NatBehavior,
)
from quicpipe_lab.model.nat_presets import PRESETS
from quicpipe_lab.model.prediction import Prediction, predict
from quicpipe_lab.model.scenario import Outcome, Scenario, Transfer, WaitFor
from quicpipe_lab.model.topology import CORE, Firewall, Host, Link, Nat, Node, Relay, Topology

EIM, ADM, APDM = MappingBehavior
EIF, ADF, APDF = FilteringBehavior
_DIALER, _ACCEPTER, _RELAY = "alice", "bob", "relay"
_BLOCKED_DEADLINE_S = 6.0
"""Where nobody reaches the relay, nothing is gained by waiting for longer."""


@dataclass(frozen=True)
class Situation:
    """One run. ``scope`` is that of all its NATs' filters."""

    row: str
    scope: FilterScope
    topology: Topology
    family: Family = Family.IPV4
    trial: int = 0

    @property
    def column(self) -> str:
        """As a cell of the matrix."""
        return self.scope.value

    @property
    def name(self) -> str:
        """For files."""
        return f"{self.row}-{self.scope}-{self.trial}"

    @property
    def prediction(self) -> Prediction:
        """How it must end, and why."""
        return predict(self.topology, _DIALER, _ACCEPTER, self.family)

    @property
    def expected(self) -> Outcome | None:
        """Of the prediction."""
        return self.prediction.outcome

    @property
    def scope_matters(self) -> bool:
        """Whether any NAT filters and has several mappings for an endpoint."""
        return any(
            nat.behavior.mapping is not EIM and nat.behavior.filtering is not EIF
            for nat in self.topology.nodes
            if isinstance(nat, Nat)
        )

    def scenario(self) -> Scenario:
        """Connect, punch, and move data by whatever path there is."""
        blocked = self.expected is Outcome.FAILED
        return Scenario(
            name=self.name,
            topology=self.topology,
            dialer=_DIALER,
            accepter=_ACCEPTER,
            relay=_RELAY,
            expect=self.expected or Outcome.DIRECT,
            steps=(WaitFor(settled=True, within_s=SETTLED_WITHIN_S), Transfer(TRANSFER_BYTES)),
            oob_delay_s=0.0,
            seed=self.trial + 1,
            deadline_s=_BLOCKED_DEADLINE_S if blocked else 60.0,
            family=self.family,
        )


def situations(trials: int = 1) -> list[Situation]:
    """All there are, in both filter scopes where they differ."""
    found = []
    for trial in range(trials):
        for scope in FilterScope:
            for name, topology, family in _all(scope):
                one = Situation(name, scope, topology, family, trial)
                if scope is FilterScope.ENDPOINT or one.scope_matters:
                    found.append(one)
    return sorted(found, key=lambda one: one.trial)


_Named = tuple[str, Topology, Family]


def _all(scope: FilterScope) -> Iterator[_Named]:
    yield from _stacked(scope)
    yield from _shared(scope)
    yield from _firewalls()
    yield from _over_ipv6()


def _stacked(scope: FilterScope) -> Iterator[_Named]:
    def nat(mapping: MappingBehavior = EIM, filtering: FilteringBehavior = APDF) -> NatBehavior:
        return NatBehavior(mapping, filtering, filter_scope=scope)

    cgnat, home, symmetric = PRESETS["cgnat"], nat(), nat(APDM)
    yield _apart("cgnat", [home, cgnat], [home])
    yield _apart("cgnat-to-cgnat", [home, cgnat], [home, cgnat])
    yield _apart("cgnat-to-symmetric", [home, cgnat], [symmetric])
    yield _apart("open-home-cgnat-to-adm-adf", [nat(filtering=EIF), cgnat], [nat(ADM, ADF)])
    yield _apart("three-layers", [home, home, cgnat], [home])
    # The outer one filters for the inner one's mappings, whatever its scope is called.
    yield _apart("double-nat-to-adm-adf", [nat(APDM, EIF), nat(filtering=ADF)], [nat(ADM, ADF)])
    yield _apart("double-nat-symmetric-inside", [symmetric, nat(filtering=EIF)], [home])


def _shared(scope: FilterScope) -> Iterator[_Named]:
    for hairpinning in Hairpinning:
        shared = NatBehavior(filter_scope=scope, hairpinning=hairpinning)
        yield _together(f"same-nat-hairpin-{hairpinning}", shared, [], [])
    home, careful = NatBehavior(filter_scope=scope), NatBehavior(ADM, ADF, filter_scope=scope)
    for hairpinning in (Hairpinning.NONE, Hairpinning.EXTERNAL_SOURCE):
        carrier = NatBehavior(filtering=EIF, hairpinning=hairpinning, filter_scope=scope)
        yield _together(f"same-carrier-hairpin-{hairpinning}", carrier, [home], [home])
    yield _together("same-carrier-adm-adf", carrier, [careful], [careful])


def _firewalls() -> Iterator[_Named]:
    home = NatBehavior()
    for name, firewall in {
        "firewall-to-home": FirewallBehavior(),
        "only-443-to-home": FirewallBehavior(udp=UdpPolicy.ONLY_443),
        "udp-blocked-to-home": FirewallBehavior(udp=UdpPolicy.BLOCKED),
    }.items():
        yield _apart(name, [firewall], [home])
    yield _apart("firewall-to-firewall", [FirewallBehavior()], [FirewallBehavior()])
    yield _apart("firewall-to-symmetric", [FirewallBehavior()], [PRESETS["symmetric"]])


def _over_ipv6() -> Iterator[_Named]:
    routed, nptv6, nat66 = (
        NatBehavior(ipv6=kind)
        for kind in (Ipv6Behavior.ROUTED, Ipv6Behavior.NPTV6, Ipv6Behavior.NAT66)
    )
    for name, ours, theirs in (
        ("ipv6-routed-to-routed", routed, routed),
        ("ipv6-routed-to-nptv6", routed, nptv6),
        ("ipv6-nptv6-to-nat66", nptv6, nat66),
        ("ipv6-routed-to-nat66", routed, nat66),
    ):
        yield _apart(name, [ours], [theirs], Family.IPV6)
    yield _apart("ipv6-routed-twice", [routed, routed], [routed], Family.IPV6)
    yield _together("ipv6-same-nptv6", nptv6, [routed], [routed], Family.IPV6)
    yield _together("ipv6-same-nat66", nat66, [], [], Family.IPV6)


_Chain = Sequence[NatBehavior | FirewallBehavior]


def _apart(name: str, ours: _Chain, theirs: _Chain, family: Family = Family.IPV4) -> _Named:
    """Two homes; the nearest router first."""
    nodes: list[Node] = []
    links: list[Link] = []
    _hang(nodes, links, CORE, Host(_DIALER), ours, "a")
    _hang(nodes, links, CORE, Host(_ACCEPTER), theirs, "b")
    return name, _topology(name, nodes, links, family), family


def _together(
    name: str, shared: NatBehavior, ours: _Chain, theirs: _Chain, family: Family = Family.IPV4
) -> _Named:
    """Both behind one NAT, and routers of their own below it."""
    nodes: list[Node] = [Nat("shared", shared)]
    links = [Link((CORE, "shared"))]
    _hang(nodes, links, "shared", Host(_DIALER), ours, "a")
    _hang(nodes, links, "shared", Host(_ACCEPTER), theirs, "b")
    return name, _topology(name, nodes, links, family), family


def _hang(
    nodes: list[Node], links: list[Link], below: str, host: Host, chain: _Chain, side: str
) -> None:
    for number, behavior in enumerate(reversed(chain)):
        router: Node
        if isinstance(behavior, NatBehavior):
            router = Nat(f"nat-{side}{number}", behavior)
        else:
            router = Firewall(f"wall-{side}{number}", behavior)
        nodes.append(router)
        links.append(Link((below, router.name)))
        below = router.name
    nodes.append(host)
    links.append(Link((below, host.name)))


def _topology(name: str, nodes: list[Node], links: list[Link], family: Family) -> Topology:
    return Topology(
        name,
        (*nodes, Relay(_RELAY)),
        (*links, Link((CORE, _RELAY))),
        dual_stack=family is Family.IPV6,
    )
