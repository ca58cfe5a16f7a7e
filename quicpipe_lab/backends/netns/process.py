"""A program that runs in a lab, from the caller's side."""

import contextlib
import os
import select
import signal
import struct

from quicpipe_lab.errors import QuicpipeLabError

EXIT_STATUS = struct.Struct("=i")
"""What an exit pipe says at the end: the exit code, or minus the signal that killed it."""


class Process:
    """A program in the lab. ``exit_fd`` becomes readable when it has ended, for selectors.

    ``pid`` is its process id as this process sees it.
    """

    def __init__(
        self, node: str, argv: tuple[str, ...], pid: int, pidfd: int, exit_fd: int
    ) -> None:
        self.node = node
        self.argv = argv
        self.pid = pid
        self.exit_fd = exit_fd
        self._pidfd = pidfd
        self._exit_code: int | None = None
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
