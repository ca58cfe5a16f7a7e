"""The simulator's NATs, measured by the prober that measures the kernel's: as declared, all."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from quicpipe_lab.backends.sim.clock import Clock
from quicpipe_lab.backends.sim.network import Network
from quicpipe_lab.backends.sim.prober import certify, certify_network
from quicpipe_lab.model.address import Family
from quicpipe_lab.model.check_topology import topology_of
from quicpipe_lab.model.firewall import FirewallBehavior, UdpPolicy
from quicpipe_lab.model.link import LinkBehavior
from quicpipe_lab.model.nat import (
    FilteringBehavior,
    MappingBehavior,
)
from quicpipe_lab.model.nat_certificate import Certificate
from quicpipe_lab.model.nat_measurement import Property
from quicpipe_lab.model.nat_presets import PRESETS
from quicpipe_lab.model.topology import Firewall, Host, Link, Topology
from quicpipe_lab.resources import find_topology, topology_names
from tests.backends.nat_behaviors import (
    CELLS,
    FEW_MAPPINGS,
    LIES,
    OTHERS,
    PLAIN_LINUX,
    ROUTERS,
    STACKED,
    assert_few_are_kept,
    differing,
    far,
    measured,
)

EIM, ADM, APDM = MappingBehavior
EIF, ADF, APDF = FilteringBehavior
ALL = {**CELLS, **OTHERS, **{f"preset-{name}": one for name, one in PRESETS.items()}}


def built_and_declared(built: Topology, declared: Topology) -> list[Certificate]:
    """A network of the one that is said to be the other."""
    return certify_network(Network(built, Clock()), declared=declared)


@pytest.fixture(scope="module")
def certificates() -> Mapping[str, Certificate]:
    """Of all that there is, at once, with what takes minutes in real time."""
    return {one.nat: one for one in certify(topology_of(ALL), lifetime=True)}


@pytest.mark.parametrize("name", ALL)
def test_certified_as_declared(certificates: Mapping[str, Certificate], name: str) -> None:
    certificate = certificates[name]
    assert differing(certificate) == set()
    always = {Property.MAPPING, Property.FILTERING, Property.SAME_PORT, Property.REJECTION}
    always |= {Property.LIFETIME, Property.REFRESH}
    assert always <= {one.property for one in certificate.findings if one.ok}
    assert measured(certificate)[Property.REFRESH] == ALL[name].refresh.value


def test_each_lie_is_found_and_no_other() -> None:
    built = topology_of({name: was for name, (was, _, _) in LIES.items()})
    declared = topology_of({name: said for name, (_, said, _) in LIES.items()})
    found = {one.nat: differing(one) for one in built_and_declared(built, declared)}
    assert found == {name: differences for name, (_, _, differences) in LIES.items()}


def test_a_router_that_lets_nothing_through_is_found() -> None:
    def firewall(policy: UdpPolicy) -> Topology:
        nodes = (Firewall("wall", FirewallBehavior(udp=policy)), Host("a"))
        return Topology("wall", nodes, (Link(("core", "wall")), Link(("wall", "a"))))

    (certificate,) = built_and_declared(firewall(UdpPolicy.BLOCKED), firewall(UdpPolicy.OPEN))
    assert "external address is unknown" in (certificate.difference() or "")
    for policy in (UdpPolicy.OPEN, UdpPolicy.BLOCKED):
        (certificate,) = built_and_declared(firewall(policy), firewall(UdpPolicy.ONLY_443))
        assert measured(certificate) == {Property.UDP: policy.value}
        assert differing(certificate) == {Property.UDP}


@pytest.mark.parametrize(
    "link",
    [
        LinkBehavior(delay_s=0.05),
        LinkBehavior(
            delay_s=0.02, jitter_s=0.01, loss=0.05, reorder=0.05, duplicate=0.05, corrupt=0.05
        ),
    ],
    ids=["delayed", "lossy"],
)
def test_links_that_take_time_or_lose_change_no_verdict(link: LinkBehavior) -> None:
    topology = topology_of({**CELLS, "plain-linux": PLAIN_LINUX})
    certificates = certify(far(topology, link))
    assert {one.nat: differing(one) for one in certificates if not one.ok} == {}


def test_a_nat_with_few_mappings_keeps_them() -> None:
    assert_few_are_kept(certify(topology_of(FEW_MAPPINGS)))


def test_behind_several_nats_and_firewalls() -> None:
    found = {one.nat: one for one in certify(STACKED)}
    assert {one.nat for one in found.values() if not one.ok} == set()
    strict = measured(found["strict"])
    assert (strict[Property.MAPPING], strict[Property.FILTERING]) == ("APDM", "ADF")
    assert strict[Property.FILTER_SCOPE] == "mapping"
    assert measured(found["twin-1"])[Property.PORT_ASSIGNMENT] == "sequential, step 1"
    assert measured(found["blocked"]) == {Property.UDP: "blocked"}
    assert measured(found["office"]) == {Property.UDP: "only-443"}
    assert found["lonely"].host is None


def test_over_ipv6() -> None:
    found = certify(replace(topology_of(ROUTERS), dual_stack=True), lifetime=True)
    assert {one.name: differing(one) for one in found if not one.ok} == {}
    over_ipv6 = {one.nat: measured(one) for one in found if one.family is Family.IPV6}
    assert set(over_ipv6) == set(ROUTERS) - {"without"}
    assert {name: one[Property.TRANSLATION] for name, one in over_ipv6.items()} == {
        "routed": "no",
        "open": "no",
        "careful": "no",
        "both-ways": "no",
        "prefix": "prefix",
        "masks": "address and port",
    }


@pytest.mark.parametrize("name", topology_names())
def test_bundled_topologies(name: str) -> None:
    certificates = certify(find_topology(name))
    assert {one.name: one.difference() for one in certificates if not one.ok} == {}


def test_the_same_seed_measures_the_same() -> None:
    topology = topology_of(ALL)
    assert certify(topology, seed=5) == certify(topology, seed=5)
