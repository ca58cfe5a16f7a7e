"""A program that runs in a lab, from the side of whoever started it."""

import contextlib
import os
import select
import signal
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from quicpipe_lab.backends.netns.channel import Message
from quicpipe_lab.errors import LocalProtocolError, QuicpipeLabError

Ask = Callable[[Message, Sequence[int]], tuple[Message, list[int]]]
"""Sends a request with files to a supervisor and receives its answer."""

EXIT_STATUS = struct.Struct("=i")
"""What an exit pipe says at the end, as ``os.waitstatus_to_exitcode`` gives it: the exit code, or
minus the signal that killed it."""


class Process:
    """A program in the lab. ``exit_fd`` becomes readable when it has ended, for selectors.

    ``pid`` is its process id as this process sees it, ``inner_pid`` as the lab's processes do.
    ``went_with_lab`` tells, once it has ended, whether it was the end of its lab that took it.
    """

    def __init__(
        self, node: str, argv: tuple[str, ...], inner_pid: int, pidfd: int, exit_fd: int
    ) -> None:
        self.node = node
        self.argv = argv
        self.pid = pid_of(pidfd)
        self.inner_pid = inner_pid
        self.exit_fd = exit_fd
        self._pidfd = pidfd
        self._exit_code: int | None = None
        self.went_with_lab = False
        self._closed = False

    def __del__(self) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Process {self.argv[0]!r} on {self.node!r}, pid {self.pid}>"

    def poll(self) -> int | None:
        """The exit code, minus a signal's number where one killed it, or None while it runs.

        A program that the end of its lab took along counts as killed by SIGKILL.
        """
        if self._exit_code is None and self._readable(0):
            data = os.read(self.exit_fd, EXIT_STATUS.size)
            self.went_with_lab = not data
            self._exit_code = EXIT_STATUS.unpack(data)[0] if data else -signal.SIGKILL
        return self._exit_code

    def wait(self, timeout_s: float | None = None) -> int:
        """The exit code, as ``poll`` gives it. Raises QuicpipeLabError when the time is over."""
        if self._exit_code is None and not self._readable(timeout_s):
            raise QuicpipeLabError(
                f"{self.argv[0]} on {self.node} still runs after {timeout_s:g} s"
            )
        code = self.poll()
        assert code is not None
        return code

    def send_signal(self, signum: int) -> None:
        """Does nothing where the program has ended."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signum)

    def close(self) -> None:
        """Give back the two open files; the program is left alone. Idempotent."""
        if not self._closed:
            self._closed = True
            os.close(self._pidfd)
            os.close(self.exit_fd)

    def _readable(self, timeout_s: float | None) -> bool:
        poller = select.poll()
        poller.register(self.exit_fd, select.POLLIN)
        return bool(poller.poll(None if timeout_s is None else timeout_s * 1000))


def start_program(
    ask: Ask,
    node: str,
    argv: Sequence[str],
    fds: Mapping[int, int],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    terminal: int | None = None,
) -> Process:
    """Have a supervisor start a program. Raises ProgramNotStartedError, LocalProtocolError.

    ``fds``: a file's number in the program to its number here. ``terminal`` is the number in the
    program of its controlling terminal. See Lab.spawn for the rest.
    """
    if not argv:
        raise LocalProtocolError("a program's argv begins with its name")
    request: Message = {
        "request": "spawn",
        "node": node,
        "argv": list(argv),
        "fds": list(fds),
        "env": None if env is None else dict(env),
        "cwd": str(Path.cwd() if cwd is None else Path(cwd).absolute()),
        "terminal": terminal,
    }
    answer, (pidfd, exit_fd) = ask(request, list(fds.values()))
    return Process(node, tuple(argv), answer["pid"], pidfd, exit_fd)


def pid_of(pidfd: int) -> int:
    """The process id behind a pidfd, as this process's PID namespace counts."""
    for line in Path(f"/proc/self/fdinfo/{pidfd}").read_text().splitlines():
        if line.startswith("Pid:"):
            return int(line.split()[1])
    raise QuicpipeLabError("the kernel does not tell a pidfd's process id: Linux 5.3 or later does")
