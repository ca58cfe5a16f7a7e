"""Where a program writes what happens: lines of model.event.Event, to a descriptor or a file."""

import os
import re
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from quicpipe_lab.errors import QuicpipeLabError
from quicpipe_lab.model.event import Event, as_json, describe


class EventLog:
    """Writes each event at once, as one line. ``target``: ``fd:N``, a path, or None for nowhere.

    Whoever reads may go away: the program goes on without its log.
    """

    def __init__(self, target: str | None, node: str) -> None:
        self.node = node
        self._fd = None if target is None else _open(target)

    def __enter__(self) -> "EventLog":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def write(self, name: str, **data: Any) -> None:
        """An event that happened now."""
        if self._fd is None:
            return
        line = Event(time.monotonic(), self.node, name, as_json(data)).dumps() + "\n"
        try:
            _write_all(self._fd, line.encode())
        except OSError:
            self.close()

    def record(self, event: Any) -> None:
        """A machine's event, a dataclass: see model.event.describe."""
        name, data = describe(event)
        self.write(name, **data)

    def close(self) -> None:
        """No more events; the descriptor is closed."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _open(target: str) -> int:
    number = re.fullmatch(r"fd:(\d{1,9})", target)
    try:
        if number is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
            return os.open(Path(target), flags, 0o644)
        descriptor = int(number[1])
        os.fstat(descriptor)
        os.set_inheritable(descriptor, False)
    except OSError as error:
        raise QuicpipeLabError(f"events {target}: {error.strerror or error}") from None
    return descriptor


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
