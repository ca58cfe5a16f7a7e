"""Files and folders that a person names for a command to write (``-o``, ``--run-dir``)."""

import os
import stat
from pathlib import Path

from quicpipe_lab.errors import QuicpipeLabError, ScenarioError


def run_folder(named: str | os.PathLike[str]) -> Path:
    """Where a run leaves its files. Raises ScenarioError for nothing: a shell variable that is
    not set would be the current directory, and that no run's."""
    if not os.fspath(named):
        raise ScenarioError("run_dir", "is empty; the current directory is '.'")
    return Path(named)


def require_file(path: Path) -> None:
    """Before it is opened. Raises QuicpipeLabError where that would wait for a reader, or write
    over a disk.

    Not asked whether a FIFO has a reader: who opens it to find out, and closes it, has ended what
    is read there. Terminals and /dev/null take what they are given.
    """
    try:
        mode = path.stat().st_mode
    except OSError:  # a new one, or whoever writes will say what is wrong
        return
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISBLK(mode):
        raise QuicpipeLabError(f"cannot write {path}: it is not a regular file")
