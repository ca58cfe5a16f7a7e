"""A terminal in raw mode that does not stay so, however this process ends.

Who is killed with -9 restores nothing. So a child of ours waits for the end of a pipe, and looks
after the terminal then. Nothing of it stays: the pipe ends with this process.
"""

import os
import select
import signal
import termios
import tty
from contextlib import suppress
from typing import Any, NoReturn


class RawMode:
    """``enter`` and ``leave``, which may be called without the other."""

    def __init__(self, terminal: int) -> None:
        self.before = termios.tcgetattr(terminal)
        self._terminal = terminal
        self._guard: tuple[int, int] | None = None

    def enter(self) -> None:
        """Only where this process has a single thread, as it forks."""
        reader, writer = os.pipe()
        guard = os.fork()
        if guard == 0:
            _be_a_guard(self._terminal, self.before, reader)
        os.close(reader)
        self._guard = guard, writer
        tty.setraw(self._terminal)

    def leave(self) -> None:
        """Back to what it was."""
        with suppress(termios.error):  # where it is gone
            termios.tcsetattr(self._terminal, termios.TCSADRAIN, self.before)
        if self._guard is not None:
            guard, writer = self._guard
            self._guard = None
            os.close(writer)
            os.waitpid(guard, 0)


def _be_a_guard(terminal: int, before: list[Any], reader: int) -> NoReturn:
    """In the child. Nothing else that the parent had open may live on in it."""
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        os.setsid()  # neither Ctrl-C nor job control are for it
        low, high = sorted((terminal, reader))
        for first, end in ((0, low), (low + 1, high), (high + 1, os.sysconf("SC_OPEN_MAX"))):
            if first < end:  # Python's closerange(0, 0) closes all
                os.closerange(first, end)
        select.select([reader], [], [])
        if _is_raw(terminal):  # and not what the shell has made of it meanwhile for its next line
            termios.tcsetattr(terminal, termios.TCSADRAIN, before)
    finally:
        os._exit(0)


def _is_raw(terminal: int) -> bool:
    """Shells' own editing of lines leaves signals and output as they are."""
    _, output, _, local, *_ = termios.tcgetattr(terminal)
    cooked = termios.ICANON | termios.ECHO | termios.ISIG
    return not output & termios.OPOST and not local & cooked
