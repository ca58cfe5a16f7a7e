"""How other terminals find the labs that run on this machine.

A lab listens on a Unix socket in the abstract namespace: the kernel takes its name away with the
last process of the lab, however that ended, so that no stale entry can be left. Whoever connects
is told, once, what the lab is.
"""

import json
import os
import socket
import struct
from pathlib import Path
from typing import Any, NamedTuple

_PREFIX = "quicpipe-lab/"
_DEADLINE_S = 1.0
_ANSWER_SIZE_BYTES = 1 << 20
_CREDENTIALS = struct.Struct("=iII")


class RunningLab(NamedTuple):
    """A lab: ``pid`` is its supervisor's, and ``namespaces`` are paths that setns can open."""

    pid: int
    topology: str
    started_s: float
    namespaces: dict[str, str]


def reserve_name() -> socket.socket:
    """A socket with a name of its own. To be made before the host's network is left, as abstract
    names belong to a network namespace; whoever calls ``listen`` on it is taken for the lab."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.bind(f"\0{_PREFIX}{os.getuid()}/{os.getpid()}-{os.urandom(4).hex()}")
    return sock


def answer(listener: socket.socket, topology: str, started_s: float, files: dict[str, int]) -> None:
    """Tell one who has connected. ``files`` are the namespaces as files of this process."""
    connection, _ = listener.accept()
    with connection:
        connection.setblocking(False)
        try:
            connection.sendall(json.dumps([topology, started_s, files]).encode())
        except OSError:
            return  # gone, or does not read: no reason for the lab to wait


def running_labs() -> list[RunningLab]:
    """The labs of this user, and of root, on this machine."""
    names = {
        line.split()[-1][1:]
        for line in Path("/proc/net/unix").read_text().splitlines()
        if f" @{_PREFIX}" in line
    }
    labs = [lab for name in sorted(names) if (lab := _ask(name))]
    return sorted(labs, key=lambda lab: lab.started_s)


def _ask(name: str) -> RunningLab | None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(_DEADLINE_S)
        try:
            sock.connect(f"\0{name}")
            credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            with sock.makefile("rb") as reader:
                data: Any = json.loads(reader.read(_ANSWER_SIZE_BYTES))
        except (OSError, ValueError):
            return None  # it ended while it was asked
    pid, uid, _ = _CREDENTIALS.unpack(credentials)
    if uid not in (0, os.getuid()):
        return None  # anyone may listen on such a name
    topology, started_s, files = data
    return RunningLab(
        pid, topology, started_s, {node: f"/proc/{pid}/fd/{fd}" for node, fd in files.items()}
    )
