"""Commands with worker processes are ended quietly, with the right status, and leave nothing."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

DEADLINE_S = 60
MARK = "QUICPIPE_LAB_TEST_OF_SIMULATORS"
COMMANDS = {
    "explore": ("explore", "nat-to-nat", "--seeds", "100000", "--jobs", "2"),
    "matrix": ("matrix", "--backend", "sim", "--jobs", "2", "--trials", "100"),
}
ENDS = {
    signal.SIGINT: (130, "quicpipe-lab: interrupted; nothing was left running\n"),
    signal.SIGTERM: (143, "quicpipe-lab: ended by SIGTERM; nothing was left running\n"),
    signal.SIGHUP: (129, "quicpipe-lab: ended by SIGHUP; nothing was left running\n"),
}
_SEMAPHORE = re.compile(r"(\d+) +/dev/shm/sem\.")
"""The number of its file. Who made it has it mapped by the name that glibc first gave it."""


def _of(value: str) -> list[Path]:
    """Processes with the mark in their environment, which is there from their first instruction."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"{MARK}={value}".encode() in path.read_bytes():
                found.append(path.parent)
        except OSError:
            continue
    return found


def _is_at_work(process: Path) -> bool:
    """Whether it has come as far as to import what simulations need."""
    return "_rust.abi3" in (process / "maps").read_text()


@pytest.mark.parametrize("is_early", [True, False], ids=["early", "at-work"])
@pytest.mark.parametrize("number", ENDS, ids=lambda one: one.name)
@pytest.mark.parametrize("command", COMMANDS)
def test_ended_by_a_signal_to_all_of_it(
    command: str, number: signal.Signals, is_early: bool, tmp_path: Path
) -> None:
    """As by a terminal: ``early`` is while workers are starting, with Python's own imports."""
    with subprocess.Popen(
        [sys.executable, "-m", "quicpipe_lab", *COMMANDS[command]],
        cwd=tmp_path,
        env={**os.environ, MARK: str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    ) as process:
        end_s = time.monotonic() + DEADLINE_S
        while True:  # the command, what unlinks semaphores, two workers
            assert time.monotonic() < end_s, process.poll()
            all_of_it = _of(str(tmp_path))
            if len(all_of_it) == 4 and (is_early or all(map(_is_at_work, all_of_it[2:]))):
                break
        mapped = _SEMAPHORE.findall(Path(f"/proc/{process.pid}/maps").read_text())
        os.killpg(process.pid, number)
        out, said = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, out, said) == (ENDS[number][0], "", ENDS[number][1])
    while _of(str(tmp_path)):
        assert time.monotonic() < end_s
    assert mapped
    left = {str(one.stat().st_ino) for one in Path("/dev/shm").iterdir()}
    assert left.isdisjoint(mapped)


UNGUARDED = """
from quicpipe_lab import explore, matrix
print(len(matrix("home", "home", trials=2, backend="sim").results))
print(len(explore("nat-to-nat", seeds=2, jobs=2).trials))
"""


@pytest.mark.parametrize("is_file", [True, False], ids=["file", "standard-input"])
def test_a_script_that_asks_for_no_name_is_not_run_by_workers(
    is_file: bool, tmp_path: Path
) -> None:
    (tmp_path / "script.py").write_text(UNGUARDED)
    done = subprocess.run(
        [sys.executable, "script.py" if is_file else "-"],
        input=UNGUARDED,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "2\n2\n", "")
