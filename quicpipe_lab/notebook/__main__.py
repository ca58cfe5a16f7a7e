"""``./lab notebook``: JupyterLab on a copy of the notebooks.

A copy, under ``runs/`` where everything goes that is made here: what is changed or run in it stays
the user's, and is found again at the next start.
"""

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

CANNOT = 3
_DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY")


def main(arguments: Sequence[str]) -> NoReturn:
    """``arguments``: the folder of the notebooks, then what JupyterLab is to be told."""
    source, *others = arguments
    folder = Path("runs/notebooks").absolute()
    try:
        copy_new(Path(source), folder)
    except OSError as error:
        print(f"lab: cannot copy the notebooks to {folder}: {error.strerror}", file=sys.stderr)
        sys.exit(CANNOT)
    print(f"lab: the notebooks are copies, in {folder}", file=sys.stderr)
    beside = Path(sys.executable).parent  # for commands in cells
    environment = {**os.environ, "PATH": f"{beside}{os.pathsep}{os.environ.get('PATH', '')}"}
    sys.stderr.flush()
    os.execve(sys.executable, command(folder, others, os.environ), environment)


def copy_new(source: Path, folder: Path) -> None:
    """What is not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    for notebook in sorted(source.glob("*.ipynb")):
        if not (folder / notebook.name).exists():
            shutil.copyfile(notebook, folder / notebook.name)


def command(folder: Path, others: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """How JupyterLab is started. It prints the address to open, and opens it where there is
    somebody to see it; browsers refuse to run for root."""
    is_root = os.geteuid() == 0
    argv = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={folder}"]
    if is_root:
        argv.append("--allow-root")
    sees = sys.platform == "darwin" or any(environment.get(name) for name in _DISPLAYS)
    if is_root or not sees:
        argv.append("--no-browser")
    return [*argv, *others]


if __name__ == "__main__":
    main(sys.argv[1:])
