"""A live view of a running lab: packets on their way, what happens, and switches that are real.

lab = await Lab("two-homes").up()
view = await LiveView(lab).start()
view                                # in a cell of its own: it goes on while others run
await view.play()                   # a relay, an accepter and a dialer that talk all the time

Its part in the browser is live.js.
"""

import asyncio
import secrets
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import anywidget
import traitlets

from quicpipe_lab.analysis.sentences import sentence
from quicpipe_lab.api.lab import Lab
from quicpipe_lab.api.program import Output, Program
from quicpipe_lab.backends.netns.recording import Recording
from quicpipe_lab.errors import LocalProtocolError, QuicpipeLabError
from quicpipe_lab.model.event import Event
from quicpipe_lab.model.spelling import did_you_mean
from quicpipe_lab.notebook.board import Switch, board, hops, switches
from quicpipe_lab.shell.spool_tail import SpoolTail

_LOOK_S = 0.1
_MOST_TOLD = 200
_EVENTS_FD = 2
"""Standard error, which is kept in memory: what programs say to people is among the events."""
_RELAY_PORT = 443
_TALK = 'while sleep 0.2; do head -c 3000 /dev/zero; done | exec "$@"'
_OURS = [sys.executable, "-P", "-c", "from quicpipe_lab.cli import main; main()"]


class LiveView(anywidget.AnyWidget):
    """``off``: which switches are; ``told``: what has happened, in sentences."""

    _esm = Path(__file__).with_name("live.js")
    _css = Path(__file__).with_name("live.css")
    network = traitlets.Dict().tag(sync=True)
    off = traitlets.List(traitlets.Unicode()).tag(sync=True)
    told = traitlets.List(traitlets.Unicode()).tag(sync=True)

    def __init__(self, lab: Lab) -> None:
        super().__init__(network=board(lab.topology))
        self.lab = lab
        self.programs: dict[str, Program] = {}
        self._switches = {one.key: one for one in switches(lab.topology)}
        self._pressing: set[asyncio.Task[None]] = set()
        self._watching: asyncio.Task[None] | None = None
        self._recording: Recording | None = None
        self._spool: IO[bytes] | None = None
        self._began_s = time.monotonic()
        self.on_msg(self._take_message)

    async def start(self) -> "LiveView":
        """Watch the lab's packets from now on. Twice is fine."""
        if self._watching is None:
            # It has no name, so that a kernel that is killed leaves no packets.
            self._spool = tempfile.TemporaryFile()  # noqa: SIM115
            self._recording = await self.lab.record(nameless=self._spool.fileno())
            self._watching = asyncio.create_task(self._watch())
        return self

    async def stop(self) -> None:
        """Watch no more; the lab goes on. Twice is fine."""
        if self._watching is None:
            return
        self._watching.cancel()
        with suppress(asyncio.CancelledError):
            await self._watching
        self._watching = None

    async def play(
        self, dialer: str = "alice", accepter: str = "bob", relay: str = "relay"
    ) -> None:
        """Have three programs talk, which go through the relay first and direct then."""
        address = f"{self.lab[relay].address}:{_RELAY_PORT}"
        bind = ["--bind", f"0.0.0.0:{_RELAY_PORT}", "--ephemeral", "--no-offload"]
        peer = ["--relay", address, "--oob", f"relay:{secrets.token_hex(16)}"]
        await self._run(relay, ["quicpipe-lab", "relay", *bind])
        accept = ["accept", *peer, "--relay-insecure", "--echo", "--ephemeral"]
        await self._run(accepter, ["quicpipe-lab", *accept])
        dial = [*_OURS, "dial", *peer, "--insecure", "--pipe"]
        await self._run(dialer, ["sh", "-c", _TALK, "sh", *dial])

    async def press(self, key: str) -> None:
        """Do what a button does. Raises QuicpipeLabError."""
        if key not in self._switches:
            nearest = did_you_mean(key, self._switches)
            raise LocalProtocolError(f"there is no switch {key!r}{nearest}")
        await self._press(self._switches[key])

    # Parts

    async def _run(self, node: str, argv: list[str]) -> None:
        logs = ["--events", f"fd:{_EVENTS_FD}", "--node", node]
        self.programs[node] = await self.lab[node].start([*argv, *logs])
        self._tell(f"{node} starts")

    def _take_message(self, _: Any, content: dict[str, Any], _buffers: Any) -> None:
        """From the browser. A task, for the lab answers later and the kernel's loop goes on."""
        switch = self._switches.get(content.get("press", ""))
        if switch is None:
            return
        task = asyncio.ensure_future(self._press_and_tell(switch))
        self._pressing.add(task)
        task.add_done_callback(self._pressing.discard)

    async def _press_and_tell(self, switch: Switch) -> None:
        try:
            await self._press(switch)
        except QuicpipeLabError as problem:
            self._tell(str(problem))

    async def _press(self, switch: Switch) -> None:
        if switch.action == "reboot":
            await self.lab.reboot(*switch.nodes)
            self._tell(f"{switch.nodes[0]} has forgotten everything")
        elif switch.key in self.off:
            await self.lab.restore(*switch.nodes)
            self.off = [one for one in self.off if one != switch.key]
            self._tell(switch.undo)
        else:
            await self.lab.cut(*switch.nodes)
            self.off = [*self.off, switch.key]
            self._tell(switch.label)

    def _tell(self, text: str) -> None:
        line = f"{time.monotonic() - self._began_s:7.2f} s  {text}"
        self.told = [*self.told, line][-_MOST_TOLD:]

    async def _watch(self) -> None:
        """Until cancelled, or until the lab has ended."""
        tails: dict[str, Callable[[], list[bytes]]] = {}
        try:
            assert self._spool is not None
            spool = SpoolTail(self._spool.fileno())
            while self.lab.is_up:
                moved = hops(self.lab.topology, spool.arrivals())
                if moved:
                    self.send({"hops": moved})
                for node, program in self.programs.items():
                    tail = tails.setdefault(node, _follow(program.output))
                    for line in tail():
                        if text := _in_words(line):
                            self._tell(f"{node} {text}")
                await asyncio.sleep(_LOOK_S)
        finally:
            if self._recording is not None:
                self._recording.stop()
            if self._spool is not None:
                self._spool.close()


def _in_words(line: bytes) -> str | None:
    """Of an event its sentence; of a line that only looks like one, the line: a program may say
    what it likes."""
    try:
        return sentence(Event.loads(line.decode()))
    except (ValueError, QuicpipeLabError):
        return f"says {line.decode(errors='replace')}"


def _follow(output: Output) -> Callable[[], list[bytes]]:
    """A function that gives lines of a program which may be events, those that are new since it was
    called last."""
    at = 0

    def new() -> list[bytes]:
        nonlocal at
        whole, newline, _ = output.since(1, at).rpartition(b"\n")
        at += len(whole) + len(newline)
        return [line for line in whole.splitlines() if line[:1] == b"{"]

    return new
