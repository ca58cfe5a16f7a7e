"""The commands around running labs, as processes in a network namespace of the tests' own.

Labs are found by names that belong to a network namespace: in one of their own, the tests see no
other lab of this machine, and no other user of it sees theirs.
"""

import json
import os
import select
import signal
import subprocess
import sys
import termios
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

DEADLINE_S = 20.0
_MARK = "QUICPIPE_LAB_TEST_OF_COMMANDS"


class Place:
    """Where the commands run. All processes that come of them bear a mark in their environment."""

    def __init__(self, pid: int) -> None:
        self._enter = ["nsenter", f"--net=/proc/{pid}/ns/net"]
        if os.getuid() != 0:
            self._enter += [f"--user=/proc/{pid}/ns/user", "--preserve-credentials"]
        self._value = uuid.uuid4().hex
        self.env = {**os.environ, _MARK: self._value, "PYTHONUNBUFFERED": "1"}

    def argv(self, *arguments: str) -> list[str]:
        """Of a quicpipe-lab command."""
        return [*self._enter, sys.executable, "-P", "-m", "quicpipe_lab.cli", *arguments]

    def run(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a quicpipe-lab command to its end."""
        return subprocess.run(
            self.argv(*arguments),
            **{"capture_output": True, "stdin": subprocess.DEVNULL, **options},
            text=True,
            env=self.env,
            timeout=DEADLINE_S,
        )

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start one, with pipes."""
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        return subprocess.Popen(
            self.argv(*arguments), text=True, env=self.env, **{**pipes, **options}
        )

    def labs(self) -> list[dict[str, Any]]:
        """What ``ps --json`` tells."""
        labs: list[dict[str, Any]] = json.loads(self.run("ps", "--json").stdout)["labs"]
        return labs

    @contextmanager
    def lab(self, topology: str = "two-homes", *options: str) -> Iterator[None]:
        """A lab in the background."""
        result = self.run("up", topology, "--detach", *options)
        assert result.returncode == 0, result.stderr
        try:
            yield
        finally:
            for lab in self.labs():
                self.run("down", lab["name"])

    def processes(self) -> list[int]:
        """All that bear the mark, zombies not among them."""
        mark = f"{_MARK}={self._value}".encode()
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                if mark in path.read_bytes():
                    found.append(int(path.parent.name))
            except OSError:
                continue
        return found

    def await_processes(self, count: int) -> None:
        """Wait until so many are left."""
        end_s = time.monotonic() + DEADLINE_S
        while len(left := self.processes()) != count:
            assert time.monotonic() < end_s, left


@contextmanager
def place_of_our_own() -> Iterator[Place]:
    """Ends with nothing left in it."""
    as_root = [] if os.getuid() == 0 else ["--user", "--map-root-user"]
    argv = ["unshare", *as_root, "--net", "sh", "-c", "echo; exec cat"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(argv, **pipes) as holder:  # type: ignore[call-overload]
        assert holder.stdout.read(1)
        place = Place(holder.pid)
        try:
            yield place
            place.await_processes(0)
        finally:
            for pid in place.processes():
                os.kill(pid, signal.SIGKILL)


class Screen:
    """A script at a terminal of its own, and a person there who types and reads."""

    def __init__(self, script: str, env: dict[str, str]) -> None:
        self.fd, slave = os.openpty()
        self.resize(30, 90)
        self.text = ""
        self.process = subprocess.Popen(
            ["setsid", "--ctty", "bash", "-c", script],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=env,
        )
        os.close(slave)

    def __enter__(self) -> "Screen":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)
        self.process.kill()
        self.process.wait()

    def resize(self, rows: int, columns: int) -> None:
        """The window."""
        termios.tcsetwinsize(self.fd, (rows, columns))

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self.fd, text.encode())

    def expect(self, text: str) -> str:
        """Wait until it is shown; what was shown up to it is not looked at again."""
        end_s = time.monotonic() + DEADLINE_S
        while text not in self.text:
            left_s = end_s - time.monotonic()
            shown = select.select([self.fd], [], [], max(0.0, left_s))[0]
            assert shown, f"{text!r} did not come, but {self.text!r}"
            try:
                self.text += os.read(self.fd, 65536).decode(errors="replace")
            except OSError:  # all that was at the terminal has ended
                raise AssertionError(f"{text!r} did not come, but {self.text!r}") from None
        before, _, self.text = self.text.partition(text)
        return before
