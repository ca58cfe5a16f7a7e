"""The bundled files: all load, and a user's own are found the same way."""

from pathlib import Path

import pytest

from quicpipe_lab import resources
from quicpipe_lab.errors import ScenarioError

ROOT = Path(__file__).resolve().parents[1]


def test_a_checkout_uses_its_own_files() -> None:
    assert resources.folder("netns") == ROOT / "netns"
    assert resources.folder("xdp") == ROOT / "xdp"


def test_the_scenarios_that_are_promised_are_there() -> None:
    assert {
        "direct-dies",
        "nat-to-nat",
        "public-to-nat",
        "same-nat",
        "symmetric-to-symmetric",
    } <= set(resources.scenario_names())


@pytest.mark.parametrize("name", resources.scenario_names())
def test_bundled_scenario_loads_and_says_in_one_line_what_it_is(name: str) -> None:
    scenario = resources.find_scenario(name)
    assert scenario.name == name
    assert scenario.summary
    assert "\n" not in scenario.summary
    assert scenario.steps


@pytest.mark.parametrize("name", resources.topology_names())
def test_bundled_topology_loads(name: str) -> None:
    assert resources.find_topology(name).nodes


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ScenarioError, match=r"no scenario 'nat'; there are .*nat-to-nat"):
        resources.find_scenario("nat")
    with pytest.raises(ScenarioError, match=r"no topology 'homes'; did you mean 'two-homes'\?"):
        resources.find_topology("homes")
    with pytest.raises(ScenarioError, match="cannot read nowhere/x: No such file"):
        resources.find_scenario("nowhere/x")


def test_a_users_scenario_finds_topologies_beside_it_and_bundled_ones(tmp_path: Path) -> None:
    netns = resources.folder("netns")
    (tmp_path / "mine.toml").write_bytes((netns / "topologies/two-homes.toml").read_bytes())
    text = (netns / "scenarios/nat-to-nat.toml").read_text()
    (tmp_path / "bundled.toml").write_text(text)
    (tmp_path / "beside.toml").write_text(text.replace('"two-homes"', '"mine.toml"'))

    bundled = resources.find_scenario(str(tmp_path / "bundled.toml"))
    beside = resources.find_scenario(str(tmp_path / "beside.toml"))
    assert (bundled.topology.name, beside.topology.name) == ("two-homes", "mine")
    assert bundled.topology.nodes == beside.topology.nodes
    assert bundled.steps == resources.find_scenario("nat-to-nat").steps
