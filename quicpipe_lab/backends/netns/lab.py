"""A lab on Linux, from its caller's side: start it, run programs in it, cut it, take it down.

Nothing here enters a namespace or needs a privilege: all that is done by the supervisor, a process
of its own (supervisor.py). The lab ends with this process, however it ends.
"""

import contextlib
import json
import marshal
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from quicpipe_lab.backends.base import require_linux
from quicpipe_lab.backends.netns.blueprint import Blueprint
from quicpipe_lab.backends.netns.channel import MAX_FDS, Channel, Message
from quicpipe_lab.backends.netns.cuts import cut_interfaces, cuts_table
from quicpipe_lab.backends.netns.failures import raise_described
from quicpipe_lab.backends.netns.forked import ForkedSupervisor
from quicpipe_lab.backends.netns.impairment import PURPOSE, kernel_has_netem
from quicpipe_lab.backends.netns.links import Counters, Links
from quicpipe_lab.backends.netns.naming import places
from quicpipe_lab.backends.netns.nat64 import find_translator, nat64s, start_translators
from quicpipe_lab.backends.netns.plan import plan
from quicpipe_lab.backends.netns.process import Process, pid_of, start_program
from quicpipe_lab.backends.netns.xdp_link import other_end, require_root
from quicpipe_lab.errors import (
    BackendUnavailableError,
    LabEndedError,
    LocalProtocolError,
    QuicpipeLabError,
)
from quicpipe_lab.model.between import link_upwards
from quicpipe_lab.model.interface import interface_name
from quicpipe_lab.model.link import LinkBehavior
from quicpipe_lab.model.spelling import did_you_mean
from quicpipe_lab.model.topology import CORE, Firewall, Nat, Relay, Topology

__all__ = ["Lab", "Process"]

# Without ``site``, which costs 3 ms and has nothing to add to where this process finds its modules.
_START = (
    "import sys; sys.path[:] = sys.argv[3:];"
    " from quicpipe_lab.backends.netns.supervisor import main; main()"
)


def _spawn_supervisor(control: int, name: str) -> subprocess.Popen[bytes]:
    path = [entry or str(Path.cwd()) for entry in sys.path]
    return subprocess.Popen(
        [sys.executable, "-S", "-c", _START, str(control), name, *path],
        stdin=subprocess.PIPE,
        pass_fds=[control],
        # Ctrl-C at the terminal is for the caller, which takes the lab down in its order.
        start_new_session=True,
    )


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

_KEPT = 16
_encoded: dict[str, Any] = {}
"""What supervisors have encoded, by the blueprint's JSON: the next lab of a kind starts faster."""


class Lab:
    """A topology that runs: a context manager. Not for use by several threads at once.

    ``fork``: the supervisor is forked from this process and not started anew, which is faster for
    many labs one after another; only where this process has a single thread and no event loop.
    ``name`` is what other terminals know the lab by; without one it is made from the topology's.
    ``kept`` labs are what commands mean that name none. ``seed``: with the same one, the same
    packets have the same fates on links that draw. ``netem``: whether the kernel's own is used for
    links where it is exact; None is where it has it. ``xdp``: relays may run native XDP programs
    on their links. Raises LocalProtocolError.
    """

    def __init__(
        self,
        topology: Topology,
        *,
        fork: bool = False,
        name: str | None = None,
        kept: bool = False,
        seed: int = 1,
        netem: bool | None = None,
        xdp: bool = False,
    ) -> None:
        self.topology = topology
        self.name = _own_name(topology) if name is None else name
        if not _NAME.fullmatch(self.name):
            raise LocalProtocolError(
                f"{name!r} cannot be a lab's name: up to 64 letters, digits and . _ -"
            )
        self._kept = kept
        self._fork = fork
        self._seed = seed
        self._netem = netem
        self._xdp = xdp
        self._blueprint: Blueprint | None = None
        self._xdp_links: list[int] = []
        self._links: Links | None = None
        self._channel: Channel | None = None
        self._supervisor: subprocess.Popen[bytes] | ForkedSupervisor | None = None
        self._pid: int | None = None
        self._namespaces: dict[str, int] = {}
        self._cuts: dict[str, dict[frozenset[str], list[str]]] = {}
        self._in_use: dict[str, str] = {}
        """Of hosts that have switched, by the link's name."""

    @property
    def pid(self) -> int:
        """The supervisor's process id, as this process sees it."""
        if self._pid is None:
            raise LocalProtocolError("the lab is not up")
        return self._pid

    def __enter__(self) -> "Lab":
        return self.up()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.down()

    def up(self) -> "Lab":
        """Build it. Raises BackendUnavailableError, UnsupportedBehaviorError, QuicpipeLabError.

        A lab that could not be built leaves nothing behind.
        """
        if self._channel is not None:
            raise LocalProtocolError("the lab is up already")
        require_linux()
        try:
            self._start()
            self._start_translators()
            if self._xdp:
                for relay in self.topology.of_kind(Relay):
                    self.prepare_xdp_peer(relay.name, native=True)
        except BaseException as error:
            self.down()
            if not (isinstance(error, QuicpipeLabError) and PURPOSE in str(error)):
                raise
            self._do_without_netem(error)
            return self.up()
        return self

    def _do_without_netem(self, error: QuicpipeLabError) -> None:
        """It is there only for looks, as in a container that sees another kernel's modules."""
        if self._netem:
            raise BackendUnavailableError(
                str(error), "Lab(..., netem=False) does without"
            ) from None
        self._netem = False

    def _start(self) -> None:
        if nat64s(self.topology):
            find_translator()
        self._channel, there = Channel.pair()
        with there:
            start = ForkedSupervisor if self._fork else _spawn_supervisor
            self._supervisor = start(there.fileno(), self.name)
        assert self._supervisor.stdin is not None
        # Planned while the supervisor starts. Where it has ended already, its answer says why.
        with contextlib.suppress(BrokenPipeError), self._supervisor.stdin as stdin:
            blueprint = plan(self.topology, self._seed, netem=self._uses_netem())
            text = json.dumps(blueprint)
            stdin.write(marshal.dumps((self._introduction(), text, _encoded.get(text))))
        _, (pidfd, *new) = self._receive()
        for fd in new:
            _keep(text, fd)
        self._pid = pid_of(pidfd)
        os.close(pidfd)
        self._blueprint = blueprint
        self._links = Links(self.topology, blueprint, self._seed, self._ask)

    def _start_translators(self) -> None:
        if nat64s(self.topology):
            start_translators(self, self._ask)

    def _uses_netem(self) -> bool:
        behaves = any(not link.is_plain for link in self.topology.links)
        return behaves and (kernel_has_netem() if self._netem is None else self._netem)

    def _introduction(self) -> Message:
        return {
            "name": self.name,
            "topology": self.topology.name,
            "kept": self._kept,
            "places": [tuple(place) for place in places(self.topology)],
        }

    def wait_for_end(self) -> LabEndedError:
        """Wait until the lab is gone though this process has not asked for it; why it is."""
        try:
            self._receive()
        except LabEndedError as error:
            return error
        raise LocalProtocolError("the supervisor spoke unasked")

    def down(self) -> None:
        """Kill what runs in it, and wait until all of it is gone. Idempotent."""
        if self._links is not None:
            self._links.close()
        if self._channel is not None:
            self._channel.close()
        if self._supervisor is not None:
            self._supervisor.wait()
        while self._xdp_links:
            os.close(self._xdp_links.pop())
        for fd in self._namespaces.values():
            os.close(fd)
        self._channel = self._supervisor = self._pid = None
        self._namespaces, self._cuts, self._in_use, self._links = {}, {}, {}, None

    def spawn(
        self,
        node: str,
        argv: Sequence[str],
        *,
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        extra_fds: Mapping[int, int] | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
    ) -> Process:
        """Start a program on a node. Raises QuicpipeLabError where it cannot be started.

        ``quicpipe-lab`` as ``argv[0]`` is this package's own, run without a Python start. Files
        are given by their number here; ``extra_fds`` by their number in the program. Without
        ``stdin`` the program reads nothing; without the others it writes where this process did
        when the lab was started. ``env`` replaces the environment.
        """
        self._require_node(node)
        standard = {0: stdin, 1: stdout, 2: stderr}
        fds = {number: fd for number, fd in standard.items() if fd is not None}
        return start_program(self._ask, node, argv, {**fds, **(extra_fds or {})}, env=env, cwd=cwd)

    def kill(self, process: Process) -> None:
        """A program of this lab and all that it started, but for daemons."""
        self._ask({"request": "kill", "pid": process.inner_pid})

    def prepare_xdp_peer(self, node: str, *, native: bool) -> None:
        """Make the other end of a host's link fit for an XDP program on the host's own.

        Raises BackendUnavailableError.
        """
        self._require_up()
        assert self._blueprint is not None
        require_root()
        place, end = other_end(self._blueprint, node)
        _, links = self._ask({"request": "xdp-peer", "node": place, "end": end, "native": native})
        self._xdp_links += links

    def preload(self) -> None:
        """Have the supervisor import what ``quicpipe-lab``'s programs need, before the first."""
        self._ask({"request": "preload"})

    def cut(self, one: str, other: str) -> None:
        """Nothing passes between two nodes any more, at the router where their ways part.

        Where that router is one of the two, it loses the link towards the other; otherwise it
        drops what goes between its links towards the two, whichever nodes behind them it is from.
        """
        router, interfaces = cut_interfaces(self.topology, one, other, in_use=self._in_use)
        cuts = self._cuts.get(router, {}) | {frozenset((one, other)): interfaces}
        self._apply_cuts(router, cuts)

    def restore(self, one: str, other: str) -> None:
        """Undo ``cut`` of the same two nodes, in either order. Raises LocalProtocolError."""
        pair = frozenset((one, other))
        router, _ = cut_interfaces(self.topology, one, other, in_use=self._in_use)
        # Where it was, if one of them has switched since.
        router = next((place for place, cuts in self._cuts.items() if pair in cuts), router)
        cuts = dict(self._cuts.get(router, {}))
        if cuts.pop(pair, None) is None:
            raise LocalProtocolError(f"{one!r} and {other!r} are not cut off from each other")
        self._apply_cuts(router, cuts)

    def _apply_cuts(self, router: str, cuts: dict[frozenset[str], list[str]]) -> None:
        table = cuts_table(list(cuts.values()))
        self._ask({"request": "table", "node": router, "table": table})
        self._cuts[router] = cuts

    def switch(self, node: str, to: str) -> None:
        """A host with several links uses that to the router ``to`` from now on, for all that has
        no source address of its own; the others stay up. Raises LocalProtocolError."""
        self._require_up()
        self._require_node(node)
        link = link_upwards(self.topology, node, to)
        gateway = str(link.upper_address)
        self._ask({"request": "default-route", "node": node, "gateway": gateway})
        self._in_use[node] = link.name

    def reboot(self, node: str) -> None:
        """A NAT or firewall forgets all that it knows, as one does that was switched off and on.

        Its rules are made anew with nothing in their sets, and conntrack is emptied: otherwise it
        would go on with the old ports. Raises LocalProtocolError where the node is a host.
        """
        self._require_up()
        self._require_node(node)
        assert self._blueprint is not None
        space = next(one for one in self._blueprint.spaces if one.node == node)
        if not isinstance(self.topology.by_name.get(node), Nat | Firewall):
            raise LocalProtocolError(f"{node!r} is no NAT and no firewall: it knows nothing")
        # Nothing comes in meanwhile: one packet between the two would carry an old port over.
        below = (one.lower for one in self.topology.children(node))
        neighbours = (self.topology.uplinks[node].upper, *below)
        silence = [[interface_name(self.topology, node, one)] for one in neighbours]
        cuts = list(self._cuts.get(node, {}).values())
        for table in (cuts_table(cuts + silence), *space.tables):
            self._ask({"request": "table", "node": node, "table": table})
        self._ask({"request": "flush-conntrack", "node": node})
        self._ask({"request": "table", "node": node, "table": cuts_table(cuts)})

    def set_link(
        self, one: str, other: str, behavior: LinkBehavior, back: LinkBehavior | None = None
    ) -> None:
        """What the link between two nodes does from now on: on the way from ``one`` to ``other``,
        and on the way back, where it is the same unless given.

        Raises LocalProtocolError for a link that had no behaviour from the start.
        """
        self._require_up()
        assert self._links is not None
        self._links.set_link(one, other, behavior, back or behavior)

    def link_counters(self) -> Counters:
        """What has become of the packets of every link that behaves, by ``(from, to)``."""
        self._require_up()
        assert self._links is not None
        return self._links.counters()

    def namespaces(self) -> dict[str, int]:
        """Every node's network namespace as an open file of this process, the lab's to close."""
        missing = [node for node in (CORE, *self.topology.uplinks) if node not in self._namespaces]
        for start in range(0, len(missing), MAX_FDS):
            nodes = missing[start : start + MAX_FDS]
            _, fds = self._ask({"request": "namespaces", "nodes": nodes})
            self._namespaces |= dict(zip(nodes, fds, strict=True))
        return dict(self._namespaces)

    def _require_node(self, node: str) -> None:
        if node != CORE and node not in self.topology.by_name:
            names = [CORE, *self.topology.by_name]
            raise LocalProtocolError(f"there is no node {node!r}{did_you_mean(node, names)}")

    def _require_up(self) -> None:
        if self._channel is None:
            raise LocalProtocolError("the lab is not up")

    def _ask(self, request: Message, fds: Sequence[int] = ()) -> tuple[Message, list[int]]:
        self._require_up()
        assert self._channel is not None
        try:
            self._channel.send(request, fds)
        except (BrokenPipeError, ConnectionResetError):
            self._receive()  # its last words, if there were any
            raise LabEndedError("the lab's supervisor is gone") from None
        except OSError as error:
            raise QuicpipeLabError(f"cannot ask the supervisor: {error.strerror}") from None
        return self._receive()

    def _receive(self) -> tuple[Message, list[int]]:
        assert self._channel is not None
        try:
            answer, fds = self._channel.receive()
        except EOFError:
            raise LabEndedError("the lab's supervisor is gone") from None
        raise_described(answer)
        return answer, fds


def _keep(text: str, fd: int) -> None:
    with os.fdopen(fd, "rb") as file:
        file.seek(0)
        data = file.read()
    if len(_encoded) >= _KEPT:
        del _encoded[next(iter(_encoded))]
    _encoded[text] = marshal.loads(data)


def _own_name(topology: Topology) -> str:
    """For a lab that nobody has named."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", f"lab-{topology.name[:40]}-{os.urandom(4).hex()}")
