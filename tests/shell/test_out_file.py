"""``-o``: what would keep a command waiting is refused by every command that has it.
``--run-dir``: so is the empty name of a shell variable that is not set."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from quicpipe_lab import cli
from quicpipe_lab.api import BlockingLab, Lab, matrix, run, simulate
from quicpipe_lab.backends import base
from quicpipe_lab.errors import QuicpipeLabError, ScenarioError
from quicpipe_lab.resources import find_scenario
from quicpipe_lab.shell.out_file import require_file

COMMANDS = {
    "capture": ("capture", "RUN", "--node", "alice"),
    "plot": ("plot", "RUN", "topology"),
    "report": ("report", "RUN"),
    "explore": ("explore", "relayed", "--seeds", "1"),
}


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("run")
    base.run(find_scenario("public-to-nat"), backend="sim", run_dir=folder, certify=False)
    return str(folder)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_fifo_that_nobody_reads(name: str, run_dir: str, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo.svg"
    os.mkfifo(fifo)
    words = [run_dir if one == "RUN" else one for one in COMMANDS[name]]
    done = subprocess.run(
        [sys.executable, "-m", "quicpipe_lab", *words, "-o", fifo],
        capture_output=True,
        text=True,
        timeout=60,
    )
    said = f"quicpipe-lab: cannot write {fifo}: it is not a regular file\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", said)


def test_what_there_is_and_what_there_is_not(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("file", "new", "nowhere/new"):
        require_file(tmp_path / name)
    require_file(Path(os.devnull))
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "socket"))
        with pytest.raises(QuicpipeLabError, match="it is not a regular file"):
            require_file(tmp_path / "socket")


@pytest.mark.parametrize(
    "command",
    [
        ["scenario", "public-to-nat", "--backend", "sim"],
        ["matrix", "--rows", "home", "--cols", "home", "--backend", "sim"],
        ["matrix", "--situations", "--backend", "sim"],
    ],
)
def test_a_run_dir_without_a_name_is_not_the_current_directory(
    command: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main([*command, "--run-dir", ""]) == cli.BAD_INPUT
    said = "argument --run-dir: is empty; the current directory is '.'"
    assert capsys.readouterr().err == f"quicpipe-lab: {command[0]}: {said}\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "leave",
    [
        lambda: run("public-to-nat", backend="sim", run_dir=""),
        lambda: simulate("public-to-nat", run_dir=""),
        lambda: matrix("home", "home", backend="sim", run_dir=""),
        lambda: Lab("two-homes", run_dir=""),
        lambda: BlockingLab("two-homes", run_dir=""),
    ],
    ids=["run", "simulate", "matrix", "lab", "blocking-lab"],
)
def test_nor_is_it_for_programs(
    leave: Callable[[], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ScenarioError, match=r"^run_dir: is empty; the current directory is '\.'$"):
        leave()
    assert list(tmp_path.iterdir()) == []
