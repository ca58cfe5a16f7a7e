"""Temporary folders that are gone afterwards, however the process that uses them ends."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_KEEPER = """
trap '' HUP INT TERM
folder=$(mktemp -d) || exit
echo "$folder"
cat
until rm -rf "$folder"; do :; done  # somebody may still write there
"""


@contextmanager
def vanishing_folder() -> Iterator[Path]:
    """Made and removed by a shell, which waits for the end of a pipe: that comes with the end of
    this process at the latest, and SIGKILL is no exception."""
    with subprocess.Popen(
        ["sh", "-c", _KEEPER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as keeper:
        assert keeper.stdout is not None
        name = keeper.stdout.readline().rstrip("\n")
        assert name, "mktemp made no folder"  # or the working directory would be taken for it
        yield Path(name)
