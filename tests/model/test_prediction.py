"""What is expected of peers anywhere in a topology; the kernel says so in test_situations."""

import itertools

import pytest

from quicpipe_lab import resources
from quicpipe_lab.backends.situations import situations
from quicpipe_lab.model.expectation import can_go_direct
from quicpipe_lab.model.nat import FilteringBehavior, FilterScope, MappingBehavior, NatBehavior
from quicpipe_lab.model.prediction import predict, seen_from_outside
from quicpipe_lab.model.scenario import Outcome
from quicpipe_lab.model.topology import CORE, Host, Link, Nat, Topology

CELLS = [
    NatBehavior(mapping, filtering, filter_scope=scope)
    for mapping, filtering, scope in itertools.product(
        MappingBehavior, FilteringBehavior, FilterScope
    )
]


@pytest.mark.parametrize("name", resources.scenario_names())
def test_bundled_scenarios_expect_what_is_predicted(name: str) -> None:
    """Each author wrote down what should come of it; no relay of theirs is below a router."""
    scenario = resources.find_scenario(name)
    found = predict(
        scenario.topology,
        scenario.dialer,
        scenario.accepter,
        scenario.family,
        search=scenario.search,
    )
    assert found.outcome is scenario.expect, found.reason


def test_a_nat_alone_is_seen_as_what_it_is() -> None:
    """But for the scope of a filter that has but one mapping to look at."""
    for one, other in itertools.product(CELLS, repeat=2):
        seen = seen_from_outside([one])
        assert (seen.mapping, seen.filtering) == (one.mapping, one.filtering)
        assert can_go_direct(seen, other) == can_go_direct(one, other)


def test_another_nat_in_a_row_opens_no_way() -> None:
    for inner, outer, other in itertools.product(CELLS, repeat=3):
        if can_go_direct(seen_from_outside([inner, outer]), other):
            assert can_go_direct(inner, other)
            assert can_go_direct(outer, other)


def test_it_does_not_matter_who_dials() -> None:
    for one in situations():
        there = predict(one.topology, "alice", "bob", one.family)
        back = predict(one.topology, "bob", "alice", one.family)
        assert there.outcome is back.outcome


def test_situations_have_every_outcome_and_show_where_scopes_differ() -> None:
    outcomes: dict[str, list[Outcome | None]] = {}
    for one in situations():
        outcomes.setdefault(one.row, []).append(one.expected)
    assert {*itertools.chain(*outcomes.values())} == {*Outcome, None}
    assert {name for name, both in outcomes.items() if len(set(both)) == 2} == {
        "double-nat-to-adm-adf",
        "same-carrier-adm-adf",
    }


def test_neighbours_under_one_roof_and_on_the_internet() -> None:
    nodes = (Nat("home"), Host("a"), Host("b"), Host("c"), Host("d"))
    ends = [(CORE, "home"), ("home", "a"), ("home", "b"), (CORE, "c"), (CORE, "d")]
    topology = Topology("t", nodes, tuple(map(Link, ends)))
    assert predict(topology, "a", "b").reason == "they meet on their own addresses behind home"
    assert predict(topology, "c", "d").outcome is Outcome.DIRECT
