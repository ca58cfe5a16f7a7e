"""When somebody is to blame for a run that came to nothing, and when what it expected was wrong."""

from dataclasses import replace

import pytest

from quicpipe_lab.backends.sim.liveness import LEAST_LIFE_S, PATIENCE_S, Liveness
from quicpipe_lab.backends.sim.trial import try_out
from quicpipe_lab.model.nat import FilteringBehavior, MappingBehavior, NatBehavior
from quicpipe_lab.model.scenario import Outcome, Scenario, WaitFor
from quicpipe_lab.model.topology import Nat
from quicpipe_lab.resources import find_scenario


def liveness() -> Liveness:
    return Liveness(find_scenario("nat-to-nat"))


def test_a_direct_path_outlives_the_relays() -> None:
    one = liveness()
    one.cut("alice", "relay", 10.0, were_direct=True)
    assert one.verdict(10.0 + LEAST_LIFE_S, ended=True)


def test_not_one_that_has_died_unnoticed() -> None:
    one = liveness()
    one.disturb(7.0)
    one.cut("alice", "relay", 10.0, were_direct=True)
    assert one.verdict(1000.0, ended=True) is None


def test_one_that_has_outlived_a_disturbance_does() -> None:
    one = liveness()
    one.disturb(10.0)
    one.cut("alice", "relay", 10.0 + LEAST_LIFE_S, were_direct=True)
    assert one.verdict(10.0 + 2 * LEAST_LIFE_S, ended=True)


def test_port_searches_that_were_spent_before_the_network_changed_leave_it_to_chance() -> None:
    one = liveness()
    one.cut("alice", "bob", 1.0, were_direct=False)
    one.search_began()
    one.restore("alice", "bob", 10.0)
    one.search_began()
    assert one.verdict(10.0 + PATIENCE_S, ended=False), "two were left"
    one.cut("alice", "bob", 11.0, were_direct=False)
    one.restore("alice", "bob", 20.0)
    assert one.verdict(20.0 + PATIENCE_S, ended=False) is None
    assert one.verdict(20.0 + PATIENCE_S, ended=True), "it could have lived on relayed"


EIM, ADM, APDM = MappingBehavior
EIF, ADF, APDF = FilteringBehavior
WAITING = WaitFor(path=Outcome.DIRECT, within_s=2 * PATIENCE_S)


def waiting(name: str, a: NatBehavior | None = None, b: NatBehavior | None = None) -> Scenario:
    """For the direct path. ``a``, ``b``: other NATs than the scenario has."""
    scenario = find_scenario(name)
    others = {"nat-a": a, "nat-b": b}
    nodes = tuple(
        Nat(one.name, other) if (other := others.get(one.name)) else one
        for one in scenario.topology.nodes
    )
    topology = replace(scenario.topology, nodes=nodes)
    return replace(
        scenario,
        topology=topology,
        expect=Outcome.DIRECT,
        steps=(WAITING,),
        deadline_s=10 * PATIENCE_S,
        meanwhile=(),
    )


MOBILE = NatBehavior(APDM, EIF), NatBehavior(EIM, APDF)


@pytest.mark.parametrize(
    "scenario",
    [
        waiting("nat-to-nat", *MOBILE),
        waiting("symmetric-to-symmetric"),
        waiting("ipv4-to-ipv6"),
        waiting("only-port-443"),
    ],
    ids=["mobile-to-home", "symmetric", "families", "only-443"],
)
def test_who_waits_for_a_direct_path_that_cannot_be_accuses_nobody(scenario: Scenario) -> None:
    trial = try_out(scenario)
    assert trial.broken is None
    assert trial.failure == ("waited in vain for both peers to use the direct path (240 s)")


def in_vain(scenario: Scenario) -> str | None:
    """The verdict on a wait for the direct path."""
    return Liveness(scenario).verdict(2 * PATIENCE_S, ended=False, for_direct=True)


def test_a_path_that_can_be_is_missed() -> None:
    assert in_vain(waiting("nat-to-nat"))


def test_connections_and_other_waits_need_no_direct_path() -> None:
    one = Liveness(waiting("nat-to-nat", *MOBILE))
    assert one.verdict(2 * PATIENCE_S, ended=True, for_direct=True)
    assert one.verdict(2 * PATIENCE_S, ended=False)


def test_where_theory_cannot_tell_machines_are_to_blame() -> None:
    searching = replace(waiting("nat-to-nat", *MOBILE), search=True)
    assert in_vain(searching)
    phone = waiting("handover")
    strict = replace(
        phone,
        topology=replace(
            phone.topology,
            nodes=tuple(
                Nat(one.name, NatBehavior(APDM, APDF)) if isinstance(one, Nat) else one
                for one in phone.topology.nodes
            ),
        ),
    )
    assert in_vain(strict)


def test_without_udp_nothing_comes_of_anything() -> None:
    blocked = waiting("udp-blocked")
    assert Liveness(blocked).verdict(2 * PATIENCE_S, ended=True) is None
