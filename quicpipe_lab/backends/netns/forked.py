"""A supervisor that is forked from its caller: what the caller has imported need not be imported.

For many labs one after another (the matrix). The caller must have one thread and no running event
loop, as every program that forks without exec.
"""

import os
import sys
import traceback
from typing import BinaryIO, NoReturn


class ForkedSupervisor:
    """What Lab needs of subprocess.Popen. ``control``: the number of the supervisor's socket."""

    def __init__(self, control: int, name: str) -> None:
        reader, writer = os.pipe()
        self._ended = False
        self.pid = os.fork()
        if self.pid == 0:
            _become_supervisor(control, name, reader)
        os.close(reader)
        self.stdin: BinaryIO = os.fdopen(writer, "wb")

    def wait(self) -> None:
        """Until it has ended; twice is fine."""
        if not self._ended:
            os.waitpid(self.pid, 0)
            self._ended = True


def _become_supervisor(control: int, name: str, blueprint: int) -> NoReturn:
    """In the child: all that the caller had open is closed, but what a fresh start would have."""
    try:
        os.setsid()
        os.dup2(blueprint, 0)
        os.closerange(3, control)
        os.closerange(control + 1, os.sysconf("SC_OPEN_MAX"))
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
        sys.argv = [sys.argv[0], str(control), name]
        from quicpipe_lab.backends.netns.supervisor import main

        main()
    except SystemExit as stop:
        os._exit(stop.code if isinstance(stop.code, int) else 1)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)
