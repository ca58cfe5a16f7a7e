"""Every notebook runs from top to bottom, and is committed with what it shows."""

import os
import subprocess
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.folders import vanishing_folder
from tests.nobody import UID, python_of_nobody
from tests.notebook.execute import FOLDER, execute, names

_MOST_BYTES = 3_000_000
_MARKS = {"04-the-relay-and-xdp": [pytest.mark.bpf], "06-your-own-program": [pytest.mark.ping]}

pytestmark = pytest.mark.netns


def _shown(notebook: nbformat.NotebookNode) -> list[set[str]]:
    """Of each code cell, the kinds of what it shows."""
    found = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            kinds: set[Any] = set()
            for output in cell.outputs:
                kinds |= set(output.get("data", {})) or {output.output_type}
            found.append(kinds)
    return found


@pytest.mark.timeout(240)  # two minutes are a notebook's own limit, without the kernel's start
@pytest.mark.parametrize(
    "name",
    [pytest.param(one, marks=_MARKS.get(one, [])) for one in names()],
)
def test_runs_and_shows_what_is_committed(name: str, tmp_path: Path) -> None:
    fresh = execute(name, tmp_path)
    committed = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    assert [cell.source for cell in fresh.cells] == [cell.source for cell in committed.cells]
    assert _shown(fresh) == _shown(committed), "python -m tests.notebook.execute renews them"
    assert "error" not in {kind for kinds in _shown(committed) for kind in kinds}


@pytest.mark.ping
@pytest.mark.usefixtures("user_namespaces")
def test_runs_in_a_kernel_that_is_not_root() -> None:
    python, environment = python_of_nobody()
    code = "import sys, pathlib; from tests.notebook.execute import execute;"
    code += "print(len(execute(sys.argv[1], pathlib.Path('.')).cells))"
    with vanishing_folder() as folder:  # others may not enter pytest's
        os.chown(folder, UID, UID)
        done = subprocess.run(
            [*python, "-c", code, "06-your-own-program"],
            env={**environment, "HOME": str(folder), "MPLCONFIGDIR": str(folder)},
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=110,
        )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 10


def test_there_are_seven_and_they_are_small() -> None:
    assert [name[:3] for name in names()] == [f"0{number}-" for number in range(1, 8)]
    assert sum(path.stat().st_size for path in FOLDER.glob("*.ipynb")) < _MOST_BYTES


@pytest.mark.parametrize("name", names())
def test_no_traces_of_the_machine_that_made_them(name: str) -> None:
    text = (FOLDER / f"{name}.ipynb").read_text("utf-8")
    assert "/tmp/" not in text
    assert str(FOLDER.parent) not in text
    assert "widget-view" not in text  # which only a running kernel shows
