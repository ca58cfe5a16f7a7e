"""The frame of the benchmarks: limits, alternation, and what is found by name."""

import json
import sys
from subprocess import CalledProcessError

import pytest

from tests.bench import Row, __main__, alternate, skipped, time_program_s


@pytest.mark.parametrize(
    ("row", "ok"),
    [
        (Row("only reported", 5.0), True),
        (Row("within", 5.0, limit=5.0), True),
        (Row("beyond", 5.1, limit=5.0), False),
        (Row("the ratio counts", 99.0, ratio=0.5, against="x", limit=1.0), True),
        (Row("the ratio counts", 0.1, ratio=1.5, against="x", limit=1.0), False),
        (skipped("coturn", "not installed"), True),
    ],
)
def test_limits(row: Row, ok: bool) -> None:
    assert row.ok is ok


def test_runs_alternate_and_the_first_round_does_not_count() -> None:
    order: list[str] = []

    def run(name: str) -> float:
        order.append(name)
        return float(len(order))

    answers = alternate(2, ours=lambda: run("ours"), theirs=lambda: run("theirs"))
    assert order == ["ours", "theirs"] * 3
    assert answers == {"ours": [3.0, 5.0], "theirs": [4.0, 6.0]}


def test_a_program_that_fails_is_not_timed() -> None:
    assert time_program_s([sys.executable, "-c", "pass"]) > 0
    with pytest.raises(CalledProcessError):
        time_program_s([sys.executable, "-c", "raise SystemExit(1)"])


def test_json_and_exit_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.bench import cli_startup

    monkeypatch.setattr(cli_startup, "run", lambda: [Row("slow", 2.0, "s", limit=1.0)])
    assert __main__.main(["--json", "cli_startup"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["cli_startup"]["title"] == cli_startup.TITLE
    assert answer["cli_startup"]["rows"][0]["ok"] is False

    assert __main__.main(["cli_startup"]) == 1
    assert "TOO MUCH" in capsys.readouterr().out


def test_an_unknown_benchmark_is_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        __main__.main(["nonsense"])
    assert stop.value.code == 2
    assert "there is no benchmark 'nonsense'" in capsys.readouterr().err
