"""The matrix and measured NATs for programs: what is misspelt is answered in one line."""

from pathlib import Path
from typing import Any

import pytest

from quicpipe_lab.api import Matrix, check_nats, matrix, picture
from quicpipe_lab.errors import QuicpipeLabError, ScenarioError

TOPOLOGY = """
[[nat]]
name = "home"
[[host]]
name = "alice"
[[link]]
between = ["core", "home"]
[[link]]
between = ["home", "alice"]
"""


def test_a_backend_that_there_is_not_measures_nothing() -> None:
    """Not on the kernel in its place."""
    with pytest.raises(ScenarioError, match="backend: 'simm' is none of auto, netns, sim"):
        check_nats("home", backend="simm")


def test_nats_that_there_are_not() -> None:
    """As nat-check says it: a preset is as likely to be meant as a topology."""
    with pytest.raises(ScenarioError, match=r"no preset or topology 'hoem'; did you mean 'home'"):
        check_nats("hoem", backend="sim")
    with pytest.raises(ScenarioError, match=r"presets are .*symmetric.*; topologies .*two-homes"):
        check_nats("zzz", backend="sim")


def test_nats_by_path(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(TOPOLOGY)
    assert [one.nat for one in check_nats(file, backend="sim")] == ["home"]


def test_pictures_that_there_are_not(tmp_path: Path) -> None:
    with pytest.raises(QuicpipeLabError, match=r"no picture 'time'; .*did you mean 'times'"):
        Matrix((), tmp_path, "sim").picture("time")
    with pytest.raises(QuicpipeLabError, match=r"no picture 'topolgy'; .*did you mean 'topology'"):
        picture(tmp_path, "topolgy")


def test_nats_may_be_a_list(tmp_path: Path) -> None:
    found = matrix(["home", "eim/eif"], ("symmetric",), backend="sim", run_dir=tmp_path)
    assert [(one.row, one.column) for one in found.results] == [
        ("home", "symmetric"),
        ("EIM/EIF", "symmetric"),
    ]
    assert len(matrix("home", iter(["home"]), backend="sim", run_dir=tmp_path).results) == 1


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([7], "rows: is names of NATs, as .* or None; 7 is no name"),
        (7, "rows: .*; 7 is no name"),
        (["hoem"], "'hoem' is no cell .* did you mean 'home'"),
        ([], "name at least one NAT"),
    ],
)
def test_what_names_no_nats_is_refused(given: Any, says: str, tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=says):
        matrix(given, "home", backend="sim", run_dir=tmp_path)
