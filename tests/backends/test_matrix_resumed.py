"""A matrix that goes on in a directory takes from it what was run the same way, and no more."""

import json
from pathlib import Path

import pytest

from quicpipe_lab.backends.many import Manner
from quicpipe_lab.backends.matrix import (
    Cell,
    CellResult,
    cells_of,
    parse_link,
    parse_nats,
    read_results,
    run_matrix,
)
from quicpipe_lab.errors import ScenarioError
from quicpipe_lab.model.nat import FilterScope
from quicpipe_lab.model.result import PortSearched
from quicpipe_lab.model.scenario import Outcome


def pair(scope: FilterScope = FilterScope.ENDPOINT, link: str | None = None) -> list[Cell]:
    one = parse_nats("ADM/ADF", scope)
    return cells_of(one, one, link=parse_link(link))


def test_results_of_other_conditions_are_not_taken(tmp_path: Path) -> None:
    """ADM/ADF against itself goes direct in one filter scope and not in the other."""
    seen: list[CellResult] = []

    def run(cells: list[Cell]) -> CellResult:
        return run_matrix(cells, tmp_path, manner=Manner("sim"), observe=seen.append)[0]

    plain = run(pair())
    assert plain.outcome is Outcome.DIRECT
    assert run(pair()) == plain
    assert len(seen) == 1
    assert run(pair(FilterScope.MAPPING)).outcome is Outcome.RELAYED
    assert run(pair(FilterScope.MAPPING)).outcome is Outcome.RELAYED
    assert len(seen) == 2
    slow = run(pair(link="geo-satellite"))
    assert slow.direct_s is not None and plain.direct_s is not None
    assert slow.direct_s > plain.direct_s + 0.2
    assert len(seen) == 3


def test_a_directory_that_cannot_be_had(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ScenarioError, match="run_dir: cannot write in"):
            run_matrix(pair(), place, manner=Manner("sim"))


def test_results_of_an_earlier_version_are_taken(tmp_path: Path) -> None:
    """What a search took was called ``seconds`` in them."""
    told = {"row": "a", "column": "b", "trial": 0, "outcome": "direct", "expected": None}
    search = {"found": True, "hit": 3, "probes": 4, "opened": 5, "seconds": 6.5}
    line = json.dumps({**told, "direct_s": 7.0, "failure": None, "search": search})
    broken = json.dumps({**told, "trial": 1, "direct_s": 7.0, "failure": None, "search": [1]})
    (tmp_path / "cells.jsonl").write_text(f"{line}\n{broken}\n")
    found = read_results(tmp_path)
    assert list(found) == [("a", "b", 0)]
    assert found["a", "b", 0].search == PortSearched(True, 3, 4, 5, 6.5)
