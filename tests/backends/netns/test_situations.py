"""Stacked and shared NATs, firewalls and IPv6 on the real kernel, beside what is predicted."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "quicpipe_lab.cli", "matrix"]
DEADLINE_S = 100


def run_cli(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], cwd=cwd, capture_output=True, text=True, timeout=DEADLINE_S
    )


@pytest.mark.netns
def test_every_situation_ends_as_predicted(tmp_path: Path) -> None:
    done = run_cli("--situations", "--run-dir", "s", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == [
        "situation",
        "filters",
        "expected",
        "outcome",
        "to",
        "direct",
        "why",
    ]
    differing = [line for line in lines if line.startswith("double-nat-to-adm-adf")]
    assert [line.split()[2:5] for line in differing] == [
        ["endpoint", "direct", "direct"],
        ["mapping", "relayed", "relayed"],
    ]
    results = (tmp_path / "s" / "cells.jsonl").read_bytes()
    again = run_cli("--situations", "--run-dir", "s", "--json", cwd=tmp_path)
    assert (tmp_path / "s" / "cells.jsonl").read_bytes() == results  # nothing was run twice
    summary = json.loads(again.stdout)
    assert summary["as_expected"] == summary["runs"] == len(summary["situations"]) > 25
    assert {one["outcome"] for one in summary["situations"]} == {"direct", "relayed", "failed"}


@pytest.mark.netns
def test_every_pair_of_ipv6_routers_ends_as_predicted(tmp_path: Path) -> None:
    done = run_cli("--family", "ipv6", "--run-dir", "m", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    cells = json.loads(done.stdout)["cells"]
    expected = {(one["row"], one["column"]): one["expected"] for one in cells}
    assert len(expected) == 9
    chance = {pair for pair, outcome in expected.items() if outcome is None}
    assert chance == {("routed", "nat66"), ("nat66", "routed"), ("nat66", "nat66")}


def test_options_that_do_not_go_together(tmp_path: Path) -> None:
    done = run_cli("--situations", "--scope", "mapping", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "--scope does not apply" in done.stderr
    done = run_cli("--rows", "nptv6", cwd=tmp_path)
    assert done.returncode == 2
    assert "no cell" in done.stderr
