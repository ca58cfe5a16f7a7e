"""A lab for asyncio: a thin layer on backends/netns/lab.py, which blocks.

Its calls run in one thread of the lab's own, and the ends of programs are watched by the event
loop. A task that is cancelled, as by an interrupt in a notebook, takes down on its way out what it
was waiting for.
"""

import asyncio
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from quicpipe_lab import resources
from quicpipe_lab.api.program import Output, Program, ProgramResult, memory_file
from quicpipe_lab.backends.netns import lab as netns
from quicpipe_lab.backends.netns.recording import Recording
from quicpipe_lab.errors import LocalProtocolError, ScenarioError
from quicpipe_lab.model.link import LinkBehavior
from quicpipe_lab.model.spelling import did_you_mean
from quicpipe_lab.model.topology import CORE, Topology
from quicpipe_lab.shell.out_file import run_folder

T = TypeVar("T")

_TICK_S = 0.2
"""How often the loop wakes up while a lab is up. A notebook's kernel cancels an interrupted cell by
a callback that it puts into the loop from a signal handler, which wakes nobody (ipykernel 7.4 with
tornado 6.6): without ticks, an interrupt would wait as long as the program that it is to end."""


class Node:
    """A node of a running lab."""

    def __init__(self, lab: "Lab", name: str) -> None:
        self.name = name
        self._lab = lab

    def __repr__(self) -> str:
        return f"<Node {self.name!r} of {self._lab.name!r}>"

    @property
    def address(self) -> str:
        """Its own, towards the core; of the core, the one towards its first neighbour."""
        uplinks = self._lab.topology.uplinks
        if self.name != CORE:
            return str(uplinks[self.name].lower_address)
        return str(next(iter(uplinks.values())).upper_address)

    async def run(
        self,
        argv: Sequence[str],
        *,
        input: str | bytes = b"",
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
    ) -> ProgramResult:
        """Run a program to its end. Raises ProgramNotStartedError.

        It reads ``input``; ``env`` replaces the environment. Files are those of this machine, by
        the same paths. Where the task is cancelled meanwhile, the program is killed.
        """
        program = await self.start(argv, input=input, env=env, cwd=cwd)
        try:
            return await program.wait()
        except asyncio.CancelledError:
            await program.kill()
            raise

    async def start(
        self,
        argv: Sequence[str],
        *,
        input: str | bytes = b"",
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
    ) -> Program:
        """Start a program and leave it running, at the longest until the lab ends. See ``run``."""
        return await self._lab.start(self.name, argv, input, env, cwd)


class Lab:
    """A topology that runs, within an ``async with`` block or from ``up`` to ``down``.

    ``topology`` may be the name of a bundled one or the path of a TOML file. ``name`` is what
    ``quicpipe-lab exec --lab`` and ``ps`` know the lab by. With a ``run_dir``, what each program
    wrote is kept there, in files of its own, and listed in ``programs.jsonl``; with ``capture``
    also all that passed any interface, as ``capture.pcapng``, by ``end_capture`` or ``down``.
    """

    def __init__(
        self,
        topology: Topology | str | os.PathLike[str],
        *,
        name: str | None = None,
        run_dir: str | os.PathLike[str] | None = None,
        capture: bool = False,
    ) -> None:
        if capture and run_dir is None:
            raise LocalProtocolError("a lab that is captured needs a run_dir to put it in")
        if not isinstance(topology, Topology):
            topology = resources.find_topology(os.fspath(topology))
        self.topology = topology
        self._lab = netns.Lab(topology, name=name)
        self._run_dir = None if run_dir is None else run_folder(run_dir).absolute()
        self._wants_capture = capture
        self._recording: Recording | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._running: set[Program] = set()
        self._tick_timer: asyncio.TimerHandle | None = None
        self._started = 0

    def __repr__(self) -> str:
        return f"<Lab {self.name!r}, {'up' if self._thread else 'down'}>"

    @property
    def name(self) -> str:
        """For other terminals."""
        return self._lab.name

    @property
    def is_up(self) -> bool:
        """Between ``up`` and ``down``."""
        return self._thread is not None

    @property
    def pid(self) -> int:
        """Its supervisor's process id. Raises LocalProtocolError where it is not up."""
        return self._lab.pid

    def __getitem__(self, node: str) -> Node:
        """Raises LocalProtocolError where there is none."""
        names = list(self)
        if node not in names:
            raise LocalProtocolError(f"there is no node {node!r}{did_you_mean(node, names)}")
        return Node(self, node)

    def __iter__(self) -> Iterator[str]:
        """The nodes' names."""
        return iter([CORE, *self.topology.by_name])

    async def __aenter__(self) -> "Lab":
        return await self.up()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.down()

    async def up(self) -> "Lab":
        """Build it. Raises BackendUnavailableError, UnsupportedBehaviorError, QuicpipeLabError."""
        if self._thread is not None:
            raise LocalProtocolError("the lab is up already")
        if self._run_dir is not None:
            try:
                self._run_dir.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                problem = f"cannot make {self._run_dir}: {error.strerror}"
                raise ScenarioError("run_dir", problem) from None
        self._thread = ThreadPoolExecutor(1, "quicpipe-lab")
        self._tick()
        try:
            await self._call(self._lab.up)
            if self._wants_capture:
                assert self._run_dir is not None
                self._recording = await self.record(self._run_dir)
        except BaseException:
            await self.down()
            raise
        return self

    async def down(self) -> None:
        """Kill what runs in it, and wait until all of it is gone. Idempotent."""
        if self._thread is None:
            return
        try:
            await self._call(self._down)
        finally:
            if self._tick_timer is not None:
                self._tick_timer.cancel()
            thread, self._thread = self._thread, None
            if thread is not None:
                thread.shutdown(wait=False)
            for program in list(self._running):
                program.finish()

    async def end_capture(self, *, keep: bool = True) -> None:
        """Make ``capture.pcapng`` of what there was until now, or drop it. What comes later is not
        captured.

        Idempotent. Raises QuicpipeLabError where the capture is not complete.
        """
        await self._call(lambda: self._end_capture(keep))

    async def cut(self, one: str, other: str) -> None:
        """Nothing passes between two nodes any more (see the core's Lab)."""
        await self._call(lambda: self._lab.cut(one, other))

    async def restore(self, one: str, other: str) -> None:
        """Undo ``cut`` of the same two nodes."""
        await self._call(lambda: self._lab.restore(one, other))

    async def switch(self, node: str, to: str) -> None:
        """A host with several links uses that to the router ``to`` from now on."""
        await self._call(lambda: self._lab.switch(node, to))

    async def reboot(self, node: str) -> None:
        """A NAT or firewall forgets all that it knows."""
        await self._call(lambda: self._lab.reboot(node))

    async def record(
        self, folder: str | os.PathLike[str] = "", *, nameless: int | None = None
    ) -> Recording:
        """Capture every interface from now on, into ``capture.spool`` in a folder that exists,
        until ``stop`` or the lab's end. ``write`` makes a pcapng of it. Or into an open file
        (``nameless``), for whoever reads along."""
        recording = Recording(self._lab, Path(folder), nameless=nameless)
        await self._call(recording.__enter__)
        return recording

    async def set_link(
        self, one: str, other: str, behavior: LinkBehavior, back: LinkBehavior | None = None
    ) -> None:
        """What a link does from now on, from ``one`` to ``other`` and back."""
        await self._call(lambda: self._lab.set_link(one, other, behavior, back))

    async def start(
        self,
        node: str,
        argv: Sequence[str],
        input: str | bytes,
        env: Mapping[str, str] | None,
        cwd: str | os.PathLike[str] | None,
    ) -> Program:
        """For Node.start."""
        self._started += 1
        stem = f"{self._started:03d}-{node}-{Path(argv[0]).name if argv else ''}"
        output = Output(self._run_dir, stem)
        stdin = memory_file(input)
        stdout, stderr = output.files
        spawned: list[netns.Process] = []
        started_s = time.monotonic()

        def spawn() -> None:
            process = self._lab.spawn(
                node, argv, stdin=stdin, stdout=stdout, stderr=stderr, env=env, cwd=cwd
            )
            spawned.append(process)

        try:
            await self._call(spawn)
        except BaseException:
            output.discard()
            for process in spawned:  # cancelled when it was running already
                await self._kill(process)
                process.close()
            raise
        finally:
            os.close(stdin)
        program = Program(spawned[0], output, started_s, self._kill, self._note_end)
        self._running.add(program)
        return program

    def _end_capture(self, keep: bool) -> None:
        recording, self._recording = self._recording, None
        if recording is not None:
            recording.stop()
            if keep:
                recording.write()

    def _down(self) -> None:
        try:
            self._end_capture(keep=True)
        finally:
            self._lab.down()

    def _tick(self) -> None:
        self._tick_timer = asyncio.get_running_loop().call_later(_TICK_S, self._tick)

    async def _kill(self, process: netns.Process) -> None:
        await self._call(lambda: self._lab.kill(process))

    def _note_end(self, program: Program, result: ProgramResult) -> None:
        self._running.discard(program)
        if self._run_dir is None:
            return
        line = {
            "node": result.node,
            "argv": result.argv,
            "exit_code": result.exit_code,
            "duration_s": round(result.duration_s, 6),
            "stdout": program.output.paths[0].name,
            "stderr": program.output.paths[1].name,
        }
        with (self._run_dir / "programs.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    async def _call(self, function: Callable[[], T]) -> T:
        """In the lab's thread, and to its end: half a request would leave the lab confused."""
        if self._thread is None:
            raise LocalProtocolError("the lab is not up")
        loop = asyncio.get_running_loop()
        return await _to_its_end(loop.run_in_executor(self._thread, function))


async def _to_its_end(future: asyncio.Future[T]) -> T:
    """Wait for what cannot be abandoned. Where this task is cancelled, that goes on afterwards."""
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        future.exception()  # taken note of: the cancellation goes before it
        raise cancelled
    return future.result()
