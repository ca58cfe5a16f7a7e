"""Links that lose, in bursts above all, or are slow: no NAT is accused of that, none gets away."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from quicpipe_lab.backends.sim.clock import Clock
from quicpipe_lab.backends.sim.network import Network
from quicpipe_lab.backends.sim.prober import certify, certify_network
from quicpipe_lab.model.check_topology import topology_of
from quicpipe_lab.model.link import BurstLoss, LinkBehavior, LinkPreset
from quicpipe_lab.model.link_presets import PRESETS
from quicpipe_lab.model.nat import FilteringBehavior, FilterScope, MappingBehavior, NatBehavior
from quicpipe_lab.model.nat_certificate import Certificate
from quicpipe_lab.model.nat_measurement import Property
from quicpipe_lab.model.topology import Topology
from tests.backends.nat_behaviors import CELLS, LIES, OTHERS, STACKED, differing, far, measured

NINE = {name: one for name, one in CELLS.items() if one.filter_scope is FilterScope.ENDPOINT}
ROUGH = LinkBehavior(delay_s=0.01, loss=0.02, burst_loss=BurstLoss(enter=0.03, leave=0.15))
"""A sixth is lost, seven packets in a row."""
HOPELESS = LinkBehavior(delay_s=0.01, burst_loss=BurstLoss(enter=0.001, leave=0.001))


def over(topology: Topology, kind: LinkPreset) -> Topology:
    """The same with such a link everywhere."""
    links = (replace(one, towards_lower=kind.down, towards_upper=kind.up) for one in topology.links)
    return replace(topology, links=tuple(links))


def rough(topology: Topology) -> Topology:
    return over(topology, LinkPreset(ROUGH, ROUGH))


def differences(certificates: list[Certificate]) -> Mapping[str, set[str]]:
    return {one.nat: differing(one) for one in certificates}


@pytest.mark.parametrize("seed", range(1, 6))
@pytest.mark.parametrize("preset", ["wifi", "leo-satellite"])
def test_bursts_are_no_differences(preset: str, seed: int) -> None:
    found = certify(over(topology_of(NINE), PRESETS[preset]), seed=seed)
    assert {one.nat: one.difference() for one in found if not one.ok} == {}
    undecided = {what for one in found for what in one.findings if what.ok is None}
    assert undecided == set()


@pytest.mark.parametrize("seed", range(1, 3))
def test_all_kinds_of_nats_over_links_that_are_worse(seed: int) -> None:
    found = certify(rough(topology_of(OTHERS)), seed=seed)
    assert {one.nat: one.difference() for one in found if not one.ok} == {}


def test_firewalls_and_several_nats_over_links_that_are_worse() -> None:
    found = {one.nat: one for one in certify(rough(STACKED))}
    assert {one.difference() for one in found.values() if not one.ok} == set()
    assert measured(found["office"]) == {Property.UDP: "only-443"}


def test_each_lie_is_found_over_links_that_lose() -> None:
    built = rough(topology_of({name: was for name, (was, _, _) in LIES.items()}))
    declared = rough(topology_of({name: said for name, (_, said, _) in LIES.items()}))
    found = certify_network(Network(built, Clock()), declared=declared)
    assert differences(found) == {name: which for name, (_, _, which) in LIES.items()}


@pytest.mark.parametrize(
    "kind", [PRESETS["wifi"], PRESETS["leo-satellite"], LinkPreset(ROUGH, ROUGH)]
)
def test_none_of_the_nine_passes_for_another_one(kind: LinkPreset) -> None:
    """Each is said to be the next one in both respects."""

    def next_to(one: NatBehavior) -> NatBehavior:
        mappings, filterings = list(MappingBehavior), list(FilteringBehavior)
        return replace(
            one,
            mapping=mappings[(mappings.index(one.mapping) + 1) % 3],
            filtering=filterings[(filterings.index(one.filtering) + 1) % 3],
        )

    built = topology_of(NINE)
    declared = topology_of({name: next_to(one) for name, one in NINE.items()})
    plain = differences(certify_network(Network(built, Clock()), declared=declared))
    lossy = Network(over(built, kind), Clock())
    found = certify_network(lossy, declared=over(declared, kind))
    assert differences(found) == plain
    assert all({Property.MAPPING, Property.FILTERING} <= which for which in plain.values())
    for one in found:
        was = NINE[one.nat]
        words = measured(one)
        assert (words[Property.MAPPING], words[Property.FILTERING]) == (was.mapping, was.filtering)


def test_links_that_lose_too_much_leave_a_doubt() -> None:
    topology = over(STACKED, LinkPreset(HOPELESS, HOPELESS))
    found = {one.nat: one for one in certify(topology)}
    assert [one.nat for one in found.values() if not one.ok or one.is_measured] == []
    assert found["strict"].doubt() == (
        f"external address {STACKED.external_addresses['carrier'][0]}:"
        " its links lose too much to tell that from what it does"
    )
    assert (found["office"].doubt() or "").startswith("UDP that may leave only-443: its links")


def test_a_port_that_the_second_host_has_is_not_asked_for() -> None:
    same, network = (Network(topology_of({"nat": NatBehavior()}), Clock()) for _ in range(2))
    for _ in range(20):  # those that the first host will draw
        drawn = same.host("nat-a").bind(on_receive=lambda *_: None)
        network.host("nat-b").bind(drawn.address.port, on_receive=lambda *_: None)
    (certificate,) = certify_network(network)
    assert measured(certificate)[Property.SAME_PORT] == "distinct ports, EIM"


@pytest.mark.parametrize(
    "slow",
    [
        LinkBehavior(delay_s=9.0),
        LinkBehavior(delay_s=6.0, jitter_s=2.0),
        LinkBehavior(rate_bps=500),
    ],
)
def test_slow_links_are_no_differences_and_hide_none(slow: LinkBehavior) -> None:
    found = certify(far(topology_of(NINE), slow))
    assert {one.nat: one.difference() for one in found if not one.ok} == {}
    assert {what for one in found for what in one.findings if what.ok is None} == set()
    built = far(topology_of({name: was for name, (was, _, _) in LIES.items()}), slow)
    declared = far(topology_of({name: said for name, (_, said, _) in LIES.items()}), slow)
    assert differences(certify_network(Network(built, Clock()), declared=declared)) == {
        name: which for name, (_, _, which) in LIES.items()
    }


def test_lifetimes_are_measured_over_slow_links() -> None:
    found = certify(far(topology_of(NINE), LinkBehavior(delay_s=9.0)), lifetime=True)
    assert {one.nat: one.difference() for one in found if not one.ok} == {}


@pytest.mark.parametrize(
    "link",
    [LinkBehavior(delay_s=40.0), LinkBehavior(rate_bps=1.0), LinkBehavior(mtu_bytes=68)],
)
def test_links_that_are_too_slow_or_too_narrow_leave_a_doubt(link: LinkBehavior) -> None:
    found = certify(far(STACKED, link))
    assert [one.nat for one in found if not one.ok or one.is_measured] == []
    doubts = [why for why in (one.doubt() for one in found) if why is not None]
    assert len(doubts) > 3
    assert all("its links carry" in why or "over its links" in why for why in doubts)
