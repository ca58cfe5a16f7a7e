"""Whether a scenario's relay forwards in the kernel."""

import dataclasses

import pytest

from quicpipe_lab.errors import ScenarioError
from quicpipe_lab.model.load import scenario_from_toml
from quicpipe_lab.model.scenario import Scenario, Xdp
from quicpipe_lab.resources import find_scenario, find_topology

TEXT = """\
topology = "two-homes"
roles = { dialer = "alice", accepter = "bob", relay = "relay" }
expect = "direct"
step = []
"""


def load(line: str) -> Scenario:
    return scenario_from_toml(TEXT + line, "s", "s.toml", find_topology)


@pytest.mark.parametrize("word", ["off", "on", "generic"])
def test_it_is_a_field_of_a_scenario_file(word: str) -> None:
    assert load(f'xdp = "{word}"\n').xdp is Xdp(word)
    assert load("").xdp is Xdp.OFF


def test_another_word_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ScenarioError, match=r"s\.toml:5: xdp: 'yes' is none of off, on, generic"):
        load('xdp = "yes"\n')
    with pytest.raises(ScenarioError, match="xdp: 'yes' is none of off, on, generic"):
        dataclasses.replace(find_scenario("relayed"), xdp="yes")  # type: ignore[arg-type]


def test_bundled_scenarios_run_on_machines_without_it() -> None:
    assert find_scenario("relayed").xdp is Xdp.OFF
    assert dataclasses.replace(find_scenario("relayed"), xdp="on").xdp is Xdp.ON  # type: ignore[arg-type]
