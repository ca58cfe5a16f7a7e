"""When somebody is to blame for a run that came to nothing."""

from quicpipe_lab.backends.sim.liveness import LEAST_LIFE_S, PATIENCE_S, Liveness
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
