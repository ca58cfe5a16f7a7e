"""The runner behind ``./lab test``: every gate runs, none can hang it or be overlooked."""

import os
import signal
import sys
from pathlib import Path

import pytest

from tests import run


def _python(code: str, **settings: float) -> run.Gate:
    return run.Gate("gate", [sys.executable, "-c", code], **settings)  # type: ignore[arg-type]


def test_a_gate_is_judged_by_its_exit_status(capfd: pytest.CaptureFixture[str]) -> None:
    assert run._run(_python("print('all is well')")).result == "passed"
    assert run._run(_python("print('alas'); raise SystemExit(5)")).result == "FAILED"
    out = capfd.readouterr().out
    assert "alas" in out
    assert "all is well" not in out  # of those that pass nobody wants to read


def test_a_gate_that_hangs_is_ended_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "_GRACE_S", 0.2)
    fifo = tmp_path / "alive"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    child = f"import signal; signal.signal(2, signal.SIG_IGN); f = open({str(fifo)!r}, 'w');"
    child += "f.write('x'); f.flush(); signal.pause()"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    verdict = run._run(_python(parent, limit_s=4.0))
    assert verdict.result == "FAILED: not done after 4 s"
    os.set_blocking(reader, True)
    with os.fdopen(reader) as alive:
        assert alive.read() == "x"  # it ran, and the end of the file says that it has gone


def test_all_gates_run_and_one_failure_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(run.ROOT)
    monkeypatch.setattr(run, "gates", lambda: [_python("raise SystemExit(1)"), _python("")])
    assert run.main([]) == 1
    table = capfd.readouterr().out.splitlines()[-2:]
    assert [line.split()[-1] for line in table] == ["FAILED", "passed"]

    monkeypatch.setattr(run, "gates", lambda: [_python(""), _python("")])
    assert run.main([]) == 0


def test_a_gate_that_dies_of_a_signal_has_failed() -> None:
    verdict = run._run(_python(f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})"))
    assert verdict.result == "FAILED"


def test_paths_are_understood_from_where_the_user_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "test_x.py").touch()
    assert run._from_root("test_x.py::test_y[a::b]") == f"{tmp_path}/test_x.py::test_y[a::b]"
    assert run._from_root("-k") == "-k"
    assert run._from_root("tests/model") == "tests/model"
