"""How other terminals find the labs that run on this machine, and talk to them.

A lab answers processes of its own user only (reception.py), and here an answer counts only where it
comes from a process of the user whose name the socket bears: anybody may listen on such a name.
Root finds the labs of all users. It asks as the user whose lab it is, because within a user
namespace, which a lab without root is, the host's root is nobody.
"""

import json
import os
import pwd
import select
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from quicpipe_lab.backends.netns.announcement import PREFIX
from quicpipe_lab.backends.netns.channel import Channel, Message
from quicpipe_lab.backends.netns.failures import raise_described
from quicpipe_lab.backends.netns.naming import Place, addresses
from quicpipe_lab.backends.netns.reception import CREDENTIALS
from quicpipe_lab.errors import LabEndedError, LocalProtocolError, QuicpipeLabError
from quicpipe_lab.model.spelling import did_you_mean

_ANSWER_WITHIN_S = 2.0
_START_WITHIN_S = 30.0
"""For a program: the first of our own has the supervisor import what they all need."""
_END_WITHIN_S = 5.0
_ROOT = 0

Address = tuple[int, str]
"""The user who runs a lab, and the lab's name."""


class RunningProgram(NamedTuple):
    """A process in a lab. ``pid`` is as this process sees it; None where that cannot be told."""

    node: str
    pid: int | None
    argv: list[str]
    is_child: bool


class RunningLab(NamedTuple):
    """``pid`` is the supervisor's; ``namespaces`` are paths that setns and nsenter can open."""

    user: int
    name: str
    topology: str
    pid: int
    started_s: float
    kept: bool
    places: list[Place]
    namespaces: dict[str, str]
    programs: list[RunningProgram]

    def as_json(self) -> dict[str, Any]:
        """For ``ps --json``."""
        own_addresses = addresses(self.places)
        programs: dict[str, list[dict[str, Any]]] = {place.node: [] for place in self.places}
        for one in self.programs:
            programs[one.node].append({"pid": one.pid, "argv": one.argv})
        nodes = [
            {
                "name": place.node,
                "kind": place.kind,
                "uplink": place.upper,
                "behind": None if place.realm == self.places[0].node else place.realm,
                "addresses": own_addresses[place.node],
                "namespace": self.namespaces[place.node],
                "programs": programs[place.node],
            }
            for place in self.places
        ]
        lab = {"name": self.name, "topology": self.topology, "user": user_name(self.user)}
        return {
            **lab,
            "pid": self.pid,
            "started_s": self.started_s,
            "kept": self.kept,
            "nodes": nodes,
        }


class Visit:
    """A connection to a lab. Raises LabEndedError where it is gone."""

    def __init__(self, address: Address) -> None:
        self.user, self.name = address
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.settimeout(_ANSWER_WITHIN_S)
        try:
            with _acting_as(self.user):
                sock.connect(f"\0{PREFIX}{self.user}/{self.name}")
        except OSError:
            sock.close()
            raise self._gone() from None
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
        self.pid, user, _ = CREDENTIALS.unpack(credentials)
        if user != self.user:
            sock.close()
            raise QuicpipeLabError(f"{self.name!r} is another user's, who feigns to be a lab")
        self._sock = sock
        self._channel = Channel(sock)

    def __enter__(self) -> "Visit":
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def ask(self, request: Message, fds: Sequence[int] = ()) -> tuple[Message, list[int]]:
        """A request and its answer, with files. Raises what the supervisor did."""
        starts = request["request"] == "spawn"
        self._sock.settimeout(_START_WITHIN_S if starts else _ANSWER_WITHIN_S)
        try:
            self._channel.send(request, fds)
            answer, given = self._channel.receive()
        except TimeoutError:
            raise QuicpipeLabError(f"the lab {self.name!r} does not answer") from None
        except (BrokenPipeError, ConnectionResetError, EOFError):
            raise self._gone() from None
        except OSError as error:
            raise QuicpipeLabError(f"cannot ask the lab: {error.strerror}") from None
        raise_described(answer)
        return answer, given

    def describe(self) -> RunningLab:
        """What it is and what runs in it."""
        _, (fd,) = self.ask({"request": "describe"})
        with os.fdopen(fd, encoding="utf-8") as file:
            told = json.load(file)
        outer = _outer_pids(self.pid)
        return RunningLab(
            self.user,
            self.name,
            told["topology"],
            self.pid,
            told["started_s"],
            told["kept"],
            [Place(*one) for one in told["places"]],
            {node: f"/proc/{self.pid}/fd/{fd}" for node, fd in told["files"].items()},
            [
                RunningProgram(node, outer.get(pid), argv, is_child)
                for pid, node, argv, is_child in told["processes"]
            ],
        )

    def end(self) -> None:
        """Take the lab down, and wait until all of it is gone; by force where it is stuck."""
        try:
            supervisor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            self.ask({"request": "end"})
        except LabEndedError:
            pass
        except QuicpipeLabError:
            signal.pidfd_send_signal(supervisor, signal.SIGKILL)
        _await_end(supervisor, self.name)

    def _gone(self) -> LabEndedError:
        return LabEndedError(f"the lab {self.name!r} is gone")


def running_labs() -> list[RunningLab]:
    """The labs of this user, and all where this user is root, the oldest first."""
    labs = []
    for address in _addresses():
        try:
            with Visit(address) as visit:
                labs.append(visit.describe())
        except QuicpipeLabError:
            continue  # it ended while it was asked, or is none
    return sorted(labs, key=lambda lab: lab.started_s)


def choose(name: str | None) -> Visit:
    """To the lab of this name, or to the only one that somebody keeps. Raises LocalProtocolError.

    One that is named need not be able to answer yet or any more.
    """
    if name is None:
        lab = _only_kept()
        return Visit((lab.user, lab.name))
    known = _addresses()
    named = [address for address in known if address[1] == name]
    if not named:
        hint = did_you_mean(name, [known_name for _, known_name in known])
        raise LocalProtocolError(
            f"there is no running lab {name!r}{hint or '; quicpipe-lab ps shows what runs'}"
        )
    # One's own goes before another user's of the same name.
    return Visit(min(named, key=lambda address: address[0] != os.getuid()))


def _only_kept() -> RunningLab:
    kept = [lab for lab in running_labs() if lab.kept and lab.user == os.getuid()]
    if not kept:
        raise LocalProtocolError("no lab is running; start one with: quicpipe-lab up TOPOLOGY")
    if len(kept) > 1:
        names = ", ".join(lab.name for lab in kept)
        raise LocalProtocolError(f"several labs are running, say which: {names}")
    return kept[0]


def user_name(user: int) -> str:
    """As people know it."""
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)


def _addresses() -> list[Address]:
    """Of all labs that this user may ask, by the kernel's list of sockets."""
    found = set()
    for line in Path("/proc/net/unix").read_text().splitlines():
        _, is_lab, rest = line.partition(f" @{PREFIX}")
        user, _, name = rest.partition("/")
        if is_lab and user.isdecimal() and os.getuid() in (_ROOT, int(user)):
            found.add((int(user), name))
    return sorted(found)


@contextmanager
def _acting_as(user: int) -> Iterator[None]:
    """Only the connection's credentials matter; this process is root's where there is a change."""
    own = os.geteuid()
    if user == own:
        yield
        return
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(own)


def _outer_pids(supervisor: int) -> dict[int, int]:
    """The lab's processes as its supervisor counts them, to what they are here."""
    found: dict[int, int] = {}
    waiting = [supervisor]
    while waiting:
        folder = Path(f"/proc/{waiting.pop()}")
        try:
            children = (folder / "task" / folder.name / "children").read_text().split()
            status = (folder / "status").read_text()
        except OSError:
            continue  # ended, or a kernel without CONFIG_PROC_CHILDREN
        waiting += map(int, children)
        numbers = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()
        found[int(numbers[-1])] = int(folder.name)
    return found


def _await_end(pidfd: int, name: str) -> None:
    """All other processes of the lab are dead once its process 1 is."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    ended = poll.poll(_END_WITHIN_S * 1000)
    if not ended:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        ended = poll.poll(_END_WITHIN_S * 1000)
    os.close(pidfd)
    if not ended:
        raise QuicpipeLabError(f"the lab {name!r} does not end")
