"""An actor of a scenario: a quicpipe-lab program inside the lab, its events read as they come."""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from quicpipe_lab.backends.ending import PREFIX, ending, last_line
from quicpipe_lab.backends.netns.lab import Lab, Process
from quicpipe_lab.model.event import Event

EVENTS_FD = 3
OOB_FD = 4


class Actor:
    """Spawned on construction. ``log``: what it says is added to that file."""

    def __init__(
        self,
        lab: Lab,
        node: str,
        command: Sequence[str],
        *,
        log: Path,
        stdin: int | None = None,
        stdout: int | None = None,
        oob: int | None = None,
    ) -> None:
        self.node = node
        self.role = command[0]
        self._log = log
        self._partial = b""
        self._complaint: str | None = None
        self.events_fd, write_end = os.pipe()
        os.set_blocking(self.events_fd, False)
        fds = {EVENTS_FD: write_end} | ({OOB_FD: oob} if oob is not None else {})
        argv = ["quicpipe-lab", *command, "--events", f"fd:{EVENTS_FD}", "--node", node]
        try:
            with log.open("ab") as file:
                self._log_begins_at = file.tell()
                self.process: Process = lab.spawn(
                    node,
                    argv,
                    stdin=stdin,
                    stdout=file.fileno() if stdout is None else stdout,
                    stderr=file.fileno(),
                    extra_fds=fds,
                )
        except BaseException:
            os.close(self.events_fd)
            raise
        finally:
            os.close(write_end)

    def read_events(self, take: Callable[[Event], None]) -> bool:
        """Hand over the events that have come; False at the end of the stream."""
        try:
            return self._read_events(take)
        except BlockingIOError:
            return True

    def read_rest(self, take: Callable[[Event], None]) -> None:
        """Hand over what a program that has ended has left; half a line is nothing."""
        with suppress(BlockingIOError):  # somebody else has the pipe's other end, but is silent
            while self._read_events(take):
                pass

    def _read_events(self, take: Callable[[Event], None]) -> bool:
        data = os.read(self.events_fd, 65536)
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            take(Event.loads(line.decode()))
        return bool(data)

    @property
    def exit_status(self) -> int | None:
        """None while it runs."""
        return self.process.poll()

    def complaint(self) -> str:
        """See script.Actor. Its log may be on a disk that is full, which then took none."""
        if self._complaint is None:
            self._complaint = self._look_for_complaint()
        return self._complaint

    def _look_for_complaint(self) -> str:
        try:
            with self._log.open("r+", encoding="utf-8", errors="replace") as log:
                log.seek(self._log_begins_at)
                said = [line for line in log if line.startswith(PREFIX)]
                if not said and self.exit_status:
                    log.write(f"ended {ending(self.exit_status, '')}\n")
        except OSError as error:
            return f"it could not say why: {error.strerror} ({self._log})"
        return last_line("".join(said))

    def close(self) -> None:
        """Close what belongs to it here."""
        os.close(self.events_fd)
        self.process.close()
