"""A terminal for a program elsewhere, joined to the one that this process is at.

The program gets a pseudoterminal of its own. Ours is put into raw mode, so that every key, Ctrl-C
and Ctrl-Z included, is the program's affair, and the size of its window follows ours.
"""

import contextlib
import fcntl
import os
import select
import signal
import socket
import struct
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from quicpipe_lab.shell.raw_mode import RawMode

_FORWARDED = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
_CHUNK_SIZE_BYTES = 65536
_LAST_OUTPUT_S = 0.1
"""How long to wait for more where a program's children hold its terminal after its end."""
_LAST_OUTPUT_LIMIT_S = 1.0


class Terminal:
    """A context manager, during which our terminal is in raw mode once ``start`` was called.

    ``slave`` is the program's end, to be given to it before ``start``.
    """

    def __init__(self, outer: int, outer_output: int) -> None:
        self._outer = outer
        self._outer_output = outer_output
        self._raw_mode = RawMode(outer)
        self.master, self.slave = os.openpty()
        termios.tcsetattr(self.slave, termios.TCSANOW, self._raw_mode.before)
        os.set_blocking(self.master, False)
        self._typed = bytearray()
        self._master_is_open = True
        self.follow_size()

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close_slave()
        os.close(self.master)
        self._raw_mode.leave()

    def start(self) -> None:
        """The program is running and holds its end."""
        self._close_slave()
        self._raw_mode.enter()

    def follow_size(self) -> None:
        """Make the program's window as large as ours; it gets SIGWINCH where that is a change."""
        size = fcntl.ioctl(self._outer, termios.TIOCGWINSZ, struct.pack("HHHH", 0, 0, 0, 0))
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, size)

    def register(self, poll: "select.poll") -> None:
        """Ask for what can be carried now."""
        poll.register(self._outer, 0 if self._typed else select.POLLIN)
        if self._master_is_open:
            poll.register(self.master, select.POLLIN | (select.POLLOUT if self._typed else 0))

    def carry(self, ready: dict[int, int]) -> bool:
        """Move bytes both ways; False where our terminal is gone."""
        if ready.get(self.master, 0) & select.POLLOUT:
            with contextlib.suppress(BlockingIOError):
                del self._typed[: os.write(self.master, self._typed)]
        if ready.get(self.master, 0) & (select.POLLIN | select.POLLHUP) and not self._show():
            # No process has the other end open any more, though the program may still run.
            self._master_is_open = False
        if ready.get(self._outer, 0) & (select.POLLHUP | select.POLLERR):
            return False
        if ready.get(self._outer, 0) & select.POLLIN:
            try:
                data = os.read(self._outer, _CHUNK_SIZE_BYTES)
            except OSError:
                return False
            self._typed += data
            return bool(data)
        return True

    def show_the_rest(self) -> None:
        """After the program's end: what it still had to say."""
        end_s = time.monotonic() + _LAST_OUTPUT_LIMIT_S
        while time.monotonic() < end_s:
            if not select.select([self.master], [], [], _LAST_OUTPUT_S)[0] or not self._show():
                return

    def _show(self) -> bool:
        try:
            data = os.read(self.master, _CHUNK_SIZE_BYTES)
            while data:
                data = data[os.write(self._outer_output, data) :]
        except BlockingIOError:
            return True
        except OSError:  # the program's end has nobody any more, or ours is gone
            return False
        return True

    def _close_slave(self) -> None:
        if self.slave >= 0:
            os.close(self.slave)
            self.slave = -1


def terminal_of_caller() -> Terminal | None:
    """Where a person at a terminal uses this process.

    Where its output goes elsewhere, the next in the pipeline may write to our terminal, which must
    not be in raw mode then.
    """
    in_use = is_terminal(0) and is_terminal(1) and not is_in_background()
    return Terminal(0, 1) if in_use else None


def is_in_background() -> bool:
    """Whether standard input is a terminal at which another job is the one to be typed to."""
    with contextlib.suppress(OSError):  # no terminal, or not that of our session
        return os.tcgetpgrp(0) != os.getpgrp()
    return False


def is_terminal(number: int) -> bool:
    """Whether an open file is one."""
    with contextlib.suppress(OSError):
        return os.isatty(number)
    return False


@contextmanager
def caught_signals(terminal: Terminal | None) -> Iterator[socket.socket]:
    """For ``attend``: from before the program starts, signals to us are its affair."""
    numbers = [*_FORWARDED, *([signal.SIGWINCH, signal.SIGHUP] if terminal else [])]
    woken, waker = socket.socketpair()
    waker.setblocking(False)
    with woken, waker:
        before = {number: signal.signal(number, lambda *_: None) for number in numbers}
        previous = signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        try:
            yield woken
        finally:
            signal.set_wakeup_fd(previous)
            for number, handler in before.items():
                signal.signal(number, handler)


def attend(
    ended: int, terminal: Terminal | None, signals: socket.socket, forward: Callable[[int], None]
) -> bool:
    """Until a program has ended, which makes ``ended`` readable, be its terminal, if it has one.

    Signals to this process are given to ``forward``. Returns False where the terminal went first.
    """
    while True:
        poll = select.poll()
        poll.register(ended, select.POLLIN)
        poll.register(signals, select.POLLIN)
        if terminal is not None:
            terminal.register(poll)
        ready = dict(poll.poll())
        if signals.fileno() in ready:
            for number in signals.recv(_CHUNK_SIZE_BYTES):
                if number == signal.SIGHUP:
                    return False
                if number == signal.SIGWINCH and terminal is not None:
                    terminal.follow_size()
                else:
                    forward(number)
        if terminal is not None and not terminal.carry(ready):
            return False
        if ended in ready:
            if terminal is not None:
                terminal.show_the_rest()
            return True
