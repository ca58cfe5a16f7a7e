"""The tables in the README say what the code does."""

import re
from dataclasses import Field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

from quicpipe_lab import resources
from quicpipe_lab.backends.base import run
from quicpipe_lab.model.firewall import FirewallBehavior
from quicpipe_lab.model.nat import NatBehavior, UnsolicitedReaction
from quicpipe_lab.model.nat_presets import PRESETS
from quicpipe_lab.model.scenario_data import STEP_NAMES

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def rows_after(sentence: str) -> dict[str, str]:
    """The first column's word and the second column of the table behind a sentence."""
    table = README[README.index(sentence) :].split("| --- |", 1)[1].split("\n\n", 1)[0]
    return dict(re.findall(r"^\| `([a-z0-9_]+)` \| ([^|]*) \|", table, re.MULTILINE))


NAT, FIREWALL = (
    rows_after("All that a `nat` can have"),
    rows_after("A `firewall` translates nothing"),
)


def words(values: str) -> list[str]:
    return re.findall(r"`([^`]+)`", values)


@pytest.mark.parametrize(
    ("behavior", "rows"), [(NatBehavior(), NAT), (FirewallBehavior(), FIREWALL)]
)
def test_fields_values_and_defaults(
    behavior: NatBehavior | FirewallBehavior, rows: dict[str, str]
) -> None:
    assert set(rows) - {"preset"} == {field.name for field in fields(behavior)}
    for field in fields(behavior):
        default, said = getattr(behavior, field.name), rows[field.name]
        assert_default(field, default, said)
        if isinstance(default, StrEnum):
            known = {str(one) for one in type(default)}
            if isinstance(behavior, FirewallBehavior):
                known.discard(UnsolicitedReaction.CONNTRACK)
            assert set(words(said)) - {"dual_stack = true"} == known


def assert_default(field: Field[Any], default: object, said: str) -> None:
    if default is None:
        assert said.startswith("none"), field.name
    elif isinstance(default, bool):
        assert words(said)[0] == str(default).lower(), field.name
    elif isinstance(default, tuple):
        assert words(said)[0] == str(list(default)), field.name
    elif isinstance(default, StrEnum):
        assert words(said)[0] == default.value, field.name
    else:
        assert isinstance(default, int | float)
        assert float(words(said)[0]) == default, field.name


def test_every_preset_is_named() -> None:
    assert set(words(NAT["preset"])) == set(PRESETS)


def test_every_bundled_scenario_is_named() -> None:
    table = README[README.index("| name | what happens | ends |") :].split("\n\n", 1)[0]
    assert set(words(table)) >= set(resources.scenario_names())


def test_every_step_is_named_with_its_fields() -> None:
    table = README[README.index("| `do` | with |") :].split("\n\n", 1)[0]
    rows = re.findall(r"^\| (`[a-z`, -]+`) \| ([^|]*)\|", table, re.MULTILINE)[1:]
    said = {name: set(words(given)) for names, given in rows for name in words(names)}
    assert said == {name: fields_of(step) for step, name in STEP_NAMES.items()}


def fields_of(step: type) -> set[str]:
    return {field.name for field in fields(step)}


def test_the_example_of_a_scenario_ends_as_it_says(tmp_path: Path) -> None:
    section = README[README.index("## Your own scenario") :]
    (tmp_path / "mine.toml").write_text(section.split("```toml\n", 1)[1].split("```", 1)[0])
    scenario = resources.find_scenario(str(tmp_path / "mine.toml"))
    result = run(scenario, backend="sim", run_dir=tmp_path / "run")
    assert result.ok, result.failure
    assert [one.what for one in result.disturbed] == ["cut", "restored"]
