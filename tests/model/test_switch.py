"""The step that has a host use another of its links."""

from dataclasses import replace

import pytest

from quicpipe_lab.errors import ScenarioError
from quicpipe_lab.model.scenario import Meanwhile, Step, Switch
from quicpipe_lab.resources import find_scenario, find_topology
from quicpipe_lab.shell.scenario_file import as_read

TO_LTE, TO_WIFI = Switch("alice", "carrier"), Switch("alice", "nat-a")
HANDOVER = replace(find_scenario("handover"), steps=())


def with_steps(*steps: Step, beside: tuple[tuple[float, Switch], ...] = ()) -> None:
    meanwhile = tuple(Meanwhile(at_s, step) for at_s, step in beside)
    replace(HANDOVER, steps=steps, meanwhile=meanwhile)


def test_there_and_back() -> None:
    with_steps(TO_LTE, TO_WIFI, TO_LTE)
    with_steps(beside=((2.0, TO_WIFI), (1.0, TO_LTE)))


@pytest.mark.parametrize(
    ("step", "problem"),
    [
        (Switch("alicia", "carrier"), r"step\[0\].node: there is no node 'alicia'.*alice"),
        (Switch("bob", "nat-b"), r"step\[0\].node: 'bob' is no host with several links"),
        (Switch("carrier", "core"), r"step\[0\].node: 'carrier' is no host with several links"),
        (Switch("alice", "nat-b"), r"step\[0\].to: 'alice' has no link to 'nat-b'"),
        (TO_WIFI, r"step\[0\].to: 'alice' uses its link to 'nat-a' already"),
    ],
)
def test_what_cannot_be_is_refused_by_field(step: Switch, problem: str) -> None:
    with pytest.raises(ScenarioError, match=problem):
        with_steps(step)


def test_a_second_time_to_the_same_router() -> None:
    with pytest.raises(ScenarioError, match=r"step\[1\].to: .* 'carrier' already"):
        with_steps(TO_LTE, TO_LTE)
    with pytest.raises(ScenarioError, match=r"meanwhile\[0\].to: .* 'carrier' already"):
        with_steps(beside=((2.0, TO_LTE), (1.0, TO_LTE)))


def test_by_the_steps_or_beside_them() -> None:
    with pytest.raises(ScenarioError, match=r"meanwhile\[0\].node: steps switch 'alice' already"):
        with_steps(TO_LTE, beside=((1.0, TO_WIFI),))


def test_as_toml() -> None:
    meant = replace(HANDOVER, meanwhile=(Meanwhile(1.0, TO_LTE),))
    assert as_read(meant).meanwhile == meant.meanwhile
    assert TO_LTE in find_scenario("handover").steps
    assert find_topology("phone-and-home").standby["alice"][0].upper == "carrier"
