"""A run's folder is one run's at a time: two would write into each other's files, and end well.

The kernel keeps the lock with an open file, so that nothing of it is left by a run that is killed.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from quicpipe_lab.errors import ScenarioError


@contextmanager
def sole_use(directory: Path) -> Iterator[None]:
    """Within the block no other run has it. Raises ScenarioError where one has, or it is none.

    Where there are no such locks (Windows, some network file systems) nobody is kept out.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    try:
        folder = os.open(directory, os.O_RDONLY)
    except OSError as error:
        raise ScenarioError("run_dir", f"cannot open {directory}: {error.strerror}") from None
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ScenarioError("run_dir", f"another run is at work in {directory}") from None
        except OSError:
            pass
        yield
    finally:
        fcntl.flock(folder, fcntl.LOCK_UN)  # also for what has been forked meanwhile
        os.close(folder)
