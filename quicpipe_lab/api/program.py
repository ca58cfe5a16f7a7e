"""A program in a lab, whose end an event loop waits for."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from quicpipe_lab.backends.ending import ending
from quicpipe_lab.backends.netns.process import Process
from quicpipe_lab.errors import LabEndedError, QuicpipeLabError

_LOOK_S = 0.02


@dataclass(frozen=True, slots=True)
class ProgramResult:
    """A program that has ended. ``exit_code`` is minus a signal's number where one killed it."""

    node: str
    argv: tuple[str, ...]
    exit_code: int
    stdout: str
    stderr: str
    duration_s: float

    @property
    def ok(self) -> bool:
        """Whether it says that it succeeded."""
        return self.exit_code == 0

    def check(self) -> "ProgramResult":
        """Itself. Raises QuicpipeLabError where the program did not succeed."""
        if self.ok:
            return self
        how = ending(self.exit_code, self.stderr.strip() or self.stdout)
        raise QuicpipeLabError(f"{self.argv[0]} on {self.node} ended {how}")


class Program:
    """A program on a node. As an ``async with`` block, it is killed at the end of the block."""

    def __init__(
        self,
        process: Process,
        output: "Output",
        started_s: float,
        kill: Callable[[Process], Awaitable[None]],
        note_end: Callable[["Program", ProgramResult], None],
    ) -> None:
        self.node = process.node
        self.argv = process.argv
        self.pid = process.pid
        self.output = output
        self._process = process
        self._kill = kill
        self._note_end = note_end
        self._started_s = started_s
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[ProgramResult] = self._loop.create_future()
        self._loop.add_reader(process.exit_fd, self.finish)

    def __repr__(self) -> str:
        state = f"ended with {self._ended.result().exit_code}" if self._ended.done() else "runs"
        return f"<Program {self.argv[0]!r} on {self.node!r}, {state}>"

    async def __aenter__(self) -> "Program":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kill()

    @property
    def stdout(self) -> str:
        """What it has written so far."""
        return self._ended.result().stdout if self._ended.done() else self.output.text(0)

    @property
    def stderr(self) -> str:
        """What it has written so far."""
        return self._ended.result().stderr if self._ended.done() else self.output.text(1)

    async def wrote(self, text: str, *, within_s: float = 10.0) -> str:
        """Wait until it has written this on its standard output, such as that it is ready; all
        that it has written. Raises QuicpipeLabError where it ends before, or does not in time.
        """
        end_s = time.monotonic() + within_s
        while text not in (said := self.stdout):
            if self._ended.done():
                raise QuicpipeLabError(f"{self.argv[0]} on {self.node} ended without {text!r}")
            if time.monotonic() >= end_s:
                raise QuicpipeLabError(
                    f"{self.argv[0]} on {self.node} has not written {text!r} in {within_s:g} s"
                )
            await asyncio.sleep(_LOOK_S)  # files and memory wake nobody
        return said

    async def wait(self) -> ProgramResult:
        """Its end. One who is cancelled meanwhile leaves the program running."""
        return await asyncio.shield(self._ended)

    def send_signal(self, signum: int) -> None:
        """Does nothing where the program has ended."""
        if not self._ended.done():
            self._process.send_signal(signum)

    async def kill(self) -> ProgramResult:
        """Kill it and all that it started but daemons, and wait for its end."""
        if not self._ended.done():
            with suppress(LabEndedError):  # which has killed it
                await self._kill(self._process)
        return await self.wait()

    def finish(self) -> None:
        """Its exit pipe is readable: take its result."""
        if self._ended.done():
            return
        self._loop.remove_reader(self._process.exit_fd)
        result = ProgramResult(
            self.node,
            self.argv,
            self._process.wait(),
            self.output.text(0),
            self.output.text(1),
            time.monotonic() - self._started_s,
        )
        self._process.close()
        self.output.close()
        self._ended.set_result(result)
        self._note_end(self, result)


class Output:
    """Where a program writes: two files, in a folder or in memory. Nobody has to read on meanwhile.

    ``paths`` are those of standard output and standard error, or nothing.
    """

    def __init__(self, folder: Path | None, stem: str) -> None:
        self.paths = tuple(
            folder / f"{stem}.{stream}" for stream in ("stdout", "stderr") if folder is not None
        )
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
        self.files = (
            [os.open(path, flags, 0o666) for path in self.paths]
            if self.paths
            else [os.memfd_create(name) for name in ("stdout", "stderr")]
        )

    def text(self, number: int) -> str:
        """What stands in the first or the second, at no cost to the writer's position."""
        file = self.files[number]
        return os.pread(file, os.fstat(file).st_size, 0).decode("utf-8", "replace")

    def since(self, number: int, at: int) -> bytes:
        """What stands there from a position on; nothing once the program has ended."""
        return os.pread(self.files[number], 1 << 20, at) if self.files else b""

    def close(self) -> None:
        """The files stay where they are in a folder."""
        for file in self.files:
            os.close(file)
        self.files = []

    def discard(self) -> None:
        """Close them, and leave nothing."""
        self.close()
        for path in self.paths:
            path.unlink(missing_ok=True)


def memory_file(data: str | bytes) -> int:
    """A program's standard input."""
    file = os.memfd_create("stdin")
    with open(file, "wb", closefd=False) as writer:
        writer.write(data.encode() if isinstance(data, str) else data)
    os.lseek(file, 0, os.SEEK_SET)
    return file
