"""A lab for programs and tests without asyncio: the same lab, in an event loop of its own.

with BlockingLab("two-homes") as lab:
    assert lab["alice"].run(["ping", "-c", "3", "relay"]).ok

Every wait has a deadline, for tests must not hang. Several threads may use a lab at once, so an
asyncio program that has one can call it by ``asyncio.to_thread``.
"""

import asyncio
import os
import re
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from quicpipe_lab.analysis import lab_traffic
from quicpipe_lab.api.lab import Lab
from quicpipe_lab.api.program import Program, ProgramResult
from quicpipe_lab.cycle_search import no_cycle_search
from quicpipe_lab.errors import LocalProtocolError, QuicpipeLabError
from quicpipe_lab.evidence import capture_in
from quicpipe_lab.model.link import LinkBehavior
from quicpipe_lab.model.topology import Host, Topology
from quicpipe_lab.traffic.frame import CapturedFrame

T = TypeVar("T")

DEADLINE_S = 60.0
"""For everything that is waited for, where nothing else is said."""
_LOOK_AGAIN_S = 0.01
"""How often what a program has written is looked at: files tell nobody of their growth."""


class BlockingProgram:
    """A program on a node. As a ``with`` block, it is killed at the end of the block."""

    def __init__(self, program: Program, do: "_Do") -> None:
        self.node, self.argv, self.pid = program.node, program.argv, program.pid
        self._program = program
        self._do = do

    def __repr__(self) -> str:
        return self._do.look(self._program.__repr__)

    def __enter__(self) -> "BlockingProgram":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def stdout(self) -> str:
        """What it has written so far."""
        return self._do.look(lambda: self._program.stdout)

    @property
    def stderr(self) -> str:
        """What it has written so far."""
        return self._do.look(lambda: self._program.stderr)

    def wait(self, timeout_s: float = DEADLINE_S) -> ProgramResult:
        """Its end. Raises QuicpipeLabError, and leaves it running, where the time is over."""
        return self._do(self._ended_within(timeout_s))

    def wait_for(self, pattern: str, timeout_s: float = DEADLINE_S) -> re.Match[str]:
        """Wait until a regular expression is found in what it writes, on either stream.

        Raises QuicpipeLabError where the program has ended, or the time is over, before that.
        """
        return self._do(self._said(re.compile(pattern, re.MULTILINE), timeout_s))

    def send_signal(self, signum: int) -> None:
        """Does nothing where the program has ended."""
        self._do.look(lambda: self._program.send_signal(signum))

    def kill(self) -> ProgramResult:
        """Kill it and all that it started but daemons, and wait for its end."""
        return self._do(self._program.kill())

    async def _ended_within(self, timeout_s: float) -> ProgramResult:
        try:
            async with asyncio.timeout(timeout_s):
                return await self._program.wait()
        except TimeoutError:
            raise QuicpipeLabError(
                f"{self.argv[0]} on {self.node} still runs after {timeout_s:g} s"
            ) from None

    async def _said(self, pattern: re.Pattern[str], timeout_s: float) -> re.Match[str]:
        end = asyncio.ensure_future(self._program.wait())
        deadline_s = asyncio.get_running_loop().time() + timeout_s
        try:
            while True:
                has_ended = end.done()  # asked before looking: its last words count
                for text in (self._program.stdout, self._program.stderr):
                    if found := pattern.search(text):
                        return found
                what = f"{self.argv[0]} on {self.node}"
                if has_ended:
                    code = end.result().exit_code
                    raise QuicpipeLabError(
                        f"{what} ended with {code} and never wrote {pattern.pattern!r}"
                    )
                if asyncio.get_running_loop().time() > deadline_s:
                    raise QuicpipeLabError(
                        f"{what} has not written {pattern.pattern!r} within {timeout_s:g} s"
                    )
                await asyncio.wait([end], timeout=_LOOK_AGAIN_S)
        finally:
            end.cancel()


class BlockingNode:
    """A node of a running lab."""

    def __init__(self, lab: Lab, name: str, do: "_Do") -> None:
        self.name = name
        self.address = lab[name].address
        self._node = lab[name]
        self._do = do

    def __repr__(self) -> str:
        return repr(self._node)

    def run(
        self,
        argv: Sequence[str],
        *,
        input: str | bytes = b"",
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        timeout_s: float = DEADLINE_S,
    ) -> ProgramResult:
        """Run a program to its end; see api.lab.Node.run. One that takes longer is killed, and
        QuicpipeLabError raised."""
        with self.start(argv, input=input, env=env, cwd=cwd) as program:
            return program.wait(timeout_s)

    def start(
        self,
        argv: Sequence[str],
        *,
        input: str | bytes = b"",
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
    ) -> BlockingProgram:
        """Start a program and leave it running, at the longest until the lab ends."""
        started = self._node.start(argv, input=input, env=env, cwd=cwd)
        return BlockingProgram(self._do(started), self._do)


class BlockingLab:
    """A topology that runs, within a ``with`` block or from ``up`` to ``down``. See api.lab.Lab."""

    def __init__(
        self,
        topology: Topology | str | os.PathLike[str],
        *,
        name: str | None = None,
        run_dir: str | os.PathLike[str] | None = None,
        capture: bool = False,
    ) -> None:
        self._lab = Lab(topology, name=name, run_dir=run_dir, capture=capture)
        self.topology = self._lab.topology
        self.name = self._lab.name
        self.run_dir = None if run_dir is None else Path(run_dir)
        self._captures = capture
        self._do = _Do()

    def __repr__(self) -> str:
        return f"<BlockingLab {self.name!r}, {'up' if self._do.is_running else 'down'}>"

    def __getitem__(self, node: str) -> BlockingNode:
        """Raises LocalProtocolError where there is none."""
        return BlockingNode(self._lab, node, self._do)

    def __iter__(self) -> Iterator[str]:
        """The nodes' names."""
        return iter(self._lab)

    def __enter__(self) -> "BlockingLab":
        return self.up()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.down()

    def up(self) -> "BlockingLab":
        """Build it. Raises BackendUnavailableError, UnsupportedBehaviorError, QuicpipeLabError."""
        if self._do.is_running:
            raise LocalProtocolError("the lab is up already")
        self._do.begin()
        try:
            self._do(self._lab.up())
        except BaseException:
            self._do.end()
            raise
        return self

    def down(self) -> None:
        """Kill what runs in it, and wait until all of it is gone. Idempotent."""
        if self._do.is_running:
            try:
                self._do(self._lab.down())
            finally:
                self._do.end()

    def cut(self, one: str, other: str) -> None:
        """Nothing passes between two nodes any more."""
        self._do(self._lab.cut(one, other))

    def restore(self, one: str, other: str) -> None:
        """Undo ``cut`` of the same two nodes."""
        self._do(self._lab.restore(one, other))

    def switch(self, node: str, to: str) -> None:
        """A host with several links uses that to the router ``to`` from now on."""
        self._do(self._lab.switch(node, to))

    def reboot(self, node: str) -> None:
        """A NAT or firewall forgets all that it knows."""
        self._do(self._lab.reboot(node))

    def set_link(
        self, one: str, other: str, behavior: LinkBehavior, back: LinkBehavior | None = None
    ) -> None:
        """What a link does from now on, from ``one`` to ``other`` and back."""
        self._do(self._lab.set_link(one, other, behavior, back))

    def end_capture(self, *, keep: bool = True) -> None:
        """Make ``capture.pcapng`` of what there was until now, or drop it. What comes later is not
        captured. Idempotent."""
        self._do(self._lab.end_capture(keep=keep))

    def frames(self) -> list[CapturedFrame]:
        """What was captured, in order of time. This ends the capture."""
        if not self._captures or self.run_dir is None:
            raise LocalProtocolError("this lab is not captured")
        if self._do.is_running:
            self.end_capture()
        capture = capture_in(self.run_dir)
        return [] if capture is None else capture.frames

    def direct_datagrams(self, sender: str, receiver: str) -> int:
        """How many UDP datagrams of ``sender``'s came to ``receiver`` with nobody but routers
        between: 0 where all went through a relay, or none arrived. This ends the capture.

        Raises LocalProtocolError where one of the two is no host.
        """
        for node in (sender, receiver):
            name = self[node].name  # says so where there is none
            if not isinstance(self.topology.by_name.get(name), Host):
                raise LocalProtocolError(f"{name!r} is a router, which passes datagrams on")
        with no_cycle_search():
            return lab_traffic.direct_datagrams(self.frames(), self.topology, sender, receiver)

    def went_direct(self, one: str, other: str) -> bool:
        """Whether each of the two got UDP datagrams of the other's with nobody but routers between.
        This ends the capture."""
        return all(self.direct_datagrams(*pair) for pair in ((one, other), (other, one)))

    def dropped(self) -> list[str]:
        """What routers did not pass on, and why, in words. This ends the capture."""
        with no_cycle_search():
            return lab_traffic.dropped(self.frames(), self.topology)


class _Do:
    """An event loop in a thread of its own, and whoever calls waits."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def is_running(self) -> bool:
        """Between ``begin`` and ``end``."""
        return self._loop is not None

    def begin(self) -> None:
        """Start it."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="quicpipe-lab-loop", daemon=True
        )
        self._thread.start()

    def end(self) -> None:
        """Nothing may be under way."""
        loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    def __call__(self, work: Coroutine[Any, Any, T]) -> T:
        """Its result. Where the caller is interrupted, the work is cancelled."""
        if self._loop is None:
            work.close()
            raise LocalProtocolError("the lab is not up")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def look(self, function: Callable[[], T]) -> T:
        """Call it between two steps of the loop, or at once where that has ended."""
        if self._loop is None:
            return function()

        async def called() -> T:
            return function()

        return self(called())
