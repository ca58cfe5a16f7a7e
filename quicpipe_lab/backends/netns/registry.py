"""How other terminals find the labs that run on this machine (see announcement.py)."""

import json
import os
import socket
import struct
from pathlib import Path
from typing import Any, NamedTuple

from quicpipe_lab.backends.netns.announcement import PREFIX

_DEADLINE_S = 1.0
_CREDENTIALS = struct.Struct("=iII")


class RunningLab(NamedTuple):
    """A lab: ``pid`` is its supervisor's, and ``namespaces`` are paths that setns can open."""

    pid: int
    topology: str
    started_s: float
    namespaces: dict[str, str]


def running_labs() -> list[RunningLab]:
    """The labs of this user, and of root, on this machine, the oldest first."""
    lines = Path("/proc/net/unix").read_text().splitlines()
    names = {line.split()[-1][1:] for line in lines if f" @{PREFIX}" in line}
    labs = [lab for name in sorted(names) if (lab := _ask(name))]
    return sorted(labs, key=lambda lab: lab.started_s)


def _ask(name: str) -> RunningLab | None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(_DEADLINE_S)
        try:
            sock.connect(f"\0{name}")
            credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            with sock.makefile("rb") as reader:
                data: Any = json.loads(reader.read())
        except (OSError, ValueError):
            return None  # it ended while it was asked
    pid, uid, _ = _CREDENTIALS.unpack(credentials)
    if uid not in (0, os.getuid()):
        return None  # anyone may listen on such a name
    topology, started_s, files = data
    return RunningLab(
        pid, topology, started_s, {node: f"/proc/{pid}/fd/{fd}" for node, fd in files.items()}
    )
