"""The matrix on the real kernel."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from quicpipe_lab.backends import base
from quicpipe_lab.backends.many import Manner, run_many
from quicpipe_lab.backends.matrix import (
    CELLS,
    CellResult,
    cells_of,
    parse_link,
    parse_nats,
    run_matrix,
)
from quicpipe_lab.errors import ScenarioError, UnsupportedBehaviorError
from quicpipe_lab.model.nat import FilterScope
from quicpipe_lab.model.scenario import Attack, Hostility, Outcome
from quicpipe_lab.resources import find_scenario
from tests.backends.netns.test_leaks import Caller

COMMAND = [sys.executable, "-m", "quicpipe_lab.cli", "matrix"]
DEADLINE_S = 110


@pytest.mark.netns
def test_the_table_for_a_program_and_the_figure(tmp_path: Path) -> None:
    """Every pair is run by tests/backends/test_contract.py, on both backends."""
    nats = "EIM/APDF,ADM/ADF,APDM/APDF"
    done = subprocess.run(
        [*COMMAND, "--rows", nats, "--cols", nats, "--run-dir", "m", "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.stdout.count("\n") == 1, done.stderr
    summary = json.loads(done.stdout)
    wrong = [cell for cell in summary["cells"] if not cell["ok"]]
    assert not wrong
    assert done.returncode == 0
    assert (summary["runs"], summary["direct"], summary["relayed"]) == (9, 2, 7)
    assert all(
        (cell["direct_s"] is not None) == (cell["outcome"] == "direct") for cell in summary["cells"]
    )
    for name in ("matrix.png", "matrix.svg"):
        assert (tmp_path / "m" / name).stat().st_size > 10_000


@pytest.mark.netns
@pytest.mark.parametrize("backend", ["netns", "sim"])
def test_a_full_disk_is_said_in_one_line(backend: str, tmp_path: Path) -> None:
    """By the process of one run to that of the matrix, which no disk keeps from it."""
    run = tmp_path / "m" / "eim-eif-eim-eif-0"
    run.mkdir(parents=True)
    (run / "events.jsonl").symlink_to("/dev/full")
    nats = ["--rows", "EIM/EIF", "--cols", "EIM/EIF"]
    done = subprocess.run(
        [*COMMAND, *nats, "--backend", backend, "--run-dir", tmp_path / "m"],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert done.returncode == 3, done.stderr
    (said,) = done.stderr.splitlines()
    assert said.startswith("quicpipe-lab: No space left on device; make room where runs are kept")


@pytest.mark.netns
def test_what_a_backend_cannot_do_is_told_as_by_a_run_alone(tmp_path: Path) -> None:
    """As the same exception, so that the command ends with the same status."""
    scenario = replace(find_scenario("nat-to-nat"), steps=(Attack(Hostility.GARBAGE),))
    with pytest.raises(UnsupportedBehaviorError) as alone:
        base.run(scenario, backend="netns", run_dir=tmp_path / "alone")
    with pytest.raises(UnsupportedBehaviorError) as among_many:
        list(run_many([(scenario, tmp_path / "among-many")], Manner("netns")))
    assert str(among_many.value) == str(alone.value)
    (tmp_path / "a file").touch()
    for backend in ("netns", "sim"):
        with pytest.raises(ScenarioError, match=r"run_dir: cannot make .*: File exists"):
            list(run_many([(scenario, tmp_path / "a file")], Manner(backend)))


_KILLED_IN_ITS_RUN = """
import os, signal, sys
from pathlib import Path
from quicpipe_lab.backends.many import Manner, run_many
from quicpipe_lab.errors import QuicpipeLabError
from quicpipe_lab.resources import find_scenario
os.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), signal.SIGKILL))
try:
    for _ in run_many([(find_scenario("nat-to-nat"), Path(sys.argv[1]))], Manner(backend="netns")):
        pass
except QuicpipeLabError as error:
    print(error)
"""


@pytest.mark.netns
def test_a_run_whose_process_was_killed_is_named(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", _KILLED_IN_ITS_RUN, str(tmp_path / "run")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("the run of nat-to-nat ended by SIGKILL\n", "")


@pytest.mark.netns
def test_a_search_wins_what_punching_leaves(tmp_path: Path) -> None:
    """A few of the 25: either side hard, and both mappings not EIM. (Of the seven that luck alone
    can win no run says anything; virtual time does, with its seeds.)"""
    pairs = (
        ("EIM/APDF", "APDM/APDF"),
        ("APDM/APDF", "EIM/APDF"),
        ("ADM/APDF", "APDM/ADF"),
    )
    cells = [
        cell
        for row, column in pairs
        for cell in cells_of(parse_nats(row), parse_nats(column), search=True)
    ]
    results = run_matrix(cells, tmp_path)
    assert all(one.ok for one in results), results
    assert [one.outcome for one in results] == [Outcome.DIRECT] * 3
    assert all(one.search is not None and one.search.found for one in results)
    assert run_matrix(cells, tmp_path) == results  # read back, with what the searches took


@pytest.mark.netns
def test_goes_on_where_it_was_interrupted(tmp_path: Path) -> None:
    cells = cells_of(parse_nats("EIM/EIF"), parse_nats("EIM/EIF,APDM/APDF"), 1)
    seen: list[CellResult] = []
    run_matrix(cells[:1], tmp_path, observe=seen.append)
    with (tmp_path / "cells.jsonl").open("a") as file:
        file.write('{"row": "EIM/EIF", "col')  # a line that was cut off
        file.write("\n")
    results = run_matrix(cells, tmp_path, observe=seen.append)
    assert [(one.column, one.outcome) for one in results] == [
        ("EIM/EIF", Outcome.DIRECT),
        ("APDM/APDF", Outcome.DIRECT),
    ]
    assert len(seen) == 2  # nothing was run twice


@pytest.mark.netns
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGINT])
def test_killed_in_the_middle_nothing_is_left(signum: signal.Signals, tmp_path: Path) -> None:
    before = sorted(os.listdir("/sys/class/net"))  # noqa: PTH208
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    caller = Caller(["env", "-C", str(tmp_path), *COMMAND], {"TMPDIR": str(temporary)})
    with pytest.raises(subprocess.TimeoutExpired):
        caller.process.wait(1.5)
    caller.process.send_signal(signum)
    caller.assert_nothing_is_left(set())
    assert sorted(os.listdir("/sys/class/net")) == before  # noqa: PTH208
    assert list(temporary.iterdir()) == []
    assert [one.name for one in sorted(tmp_path.iterdir())] == ["runs", "temporary"]


_INTERRUPTED_AT_A_FORK = """
import os, signal, sys
from pathlib import Path
from quicpipe_lab.backends.many import Manner, run_many
from quicpipe_lab.resources import find_scenario
os.register_at_fork(after_in_parent=lambda: signal.raise_signal(signal.SIGINT))
try:
    for _ in run_many([(find_scenario("nat-to-nat"), Path(sys.argv[1]))], Manner(backend="netns")):
        pass
except KeyboardInterrupt:
    print("heard")
"""


@pytest.mark.netns
def test_ctrl_c_is_heard_in_the_middle_of_a_fork(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", _INTERRUPTED_AT_A_FORK, str(tmp_path / "run")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("heard\n", "")


def test_nats_by_name() -> None:
    assert parse_nats(None) == dict(CELLS)
    assert list(parse_nats("eim/apdf, APDM/EIF,home")) == ["EIM/APDF", "APDM/EIF", "home"]
    assert "symmetric" in parse_nats("presets")
    (narrow,) = parse_nats("ADM/ADF", FilterScope.MAPPING).values()
    assert narrow.filter_scope is FilterScope.MAPPING
    for wrong in ("", "EIM", "EIM/APDF;ADM/EIF", ","):
        with pytest.raises(ScenarioError):
            parse_nats(wrong)
    with pytest.raises(ScenarioError, match="did you mean 'symmetric'"):
        parse_nats("symetric")
    with pytest.raises(ScenarioError, match="did you mean 'fibre'"):
        parse_link("fiber")


def test_trials_come_one_after_another_so_that_a_half_matrix_is_even() -> None:
    cells = cells_of(CELLS, CELLS, 2)
    assert len(cells) == 162
    assert {cell.trial for cell in cells[:81]} == {0}
    assert len({cell.name for cell in cells}) == 162


@pytest.mark.netns
def test_over_links_that_lose_and_delay(tmp_path: Path) -> None:
    cells = cells_of(parse_nats("home"), parse_nats("home,symmetric"), 1, parse_link("lte"))
    results = run_matrix(cells, tmp_path)
    assert all(one.ok for one in results), results
    assert results[0].direct_s is not None
    assert results[0].direct_s > 0.02  # no faster than light over LTE
