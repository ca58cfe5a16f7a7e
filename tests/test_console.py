"""The summary of a run for people."""

from dataclasses import replace
from pathlib import Path

import pytest

from quicpipe_lab import run
from quicpipe_lab.console import print_summary


def test_what_looks_like_markup_is_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = run("public-to-nat", backend="sim", run_dir=tmp_path)
    print_summary(replace(result, failure="no [red] path", run_dir="runs/[bold]"))
    lines = [line.split(maxsplit=1)[-1].rstrip() for line in capsys.readouterr().out.splitlines()]
    assert {"no [red] path", "runs/[bold]"} <= set(lines)
