"""Sockets of a lab's nodes, in the hands of a test.

A socket belongs to the network namespace that it was made in, whoever uses it. So a small program
on each node makes them and passes them here: no test has to enter a namespace.
"""

import json
import os
import select
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from quicpipe_lab.backends.netns.lab import Lab

DEADLINE_S = 5.0
PROGRAM_DEADLINE_S = 60.0
IP_RECVERR = 11
"""ip(7): ICMP errors come as a socket's errors. The socket module has no name for it."""

_ANY: dict[int, str] = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}

_AGENT = """
import json, socket, sys
control = socket.socket(fileno=3)
while request := control.recv(4096):
    family, kind, protocol, host, port = json.loads(request)
    made = socket.socket(family, kind, protocol)
    if port is not None:
        made.bind((host, port))
    socket.send_fds(control, [b"!"], [made.fileno()])
    made.close()
"""


class Sockets:
    """Makes sockets on the nodes of a lab."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._agents: dict[str, socket.socket] = {}
        self._made: list[socket.socket] = []

    def udp(self, node: str, port: int = 0, host: str | None = None) -> socket.socket:
        """Bound to a port of every address of the node, or of one; operations give up after the
        deadline."""
        return self._make(node, socket.SOCK_DGRAM, 0, port, host=host)

    def udp6(self, node: str, port: int = 0) -> socket.socket:
        """The same with IPv6."""
        return self._make(node, socket.SOCK_DGRAM, 0, port, socket.AF_INET6)

    def tcp6(self, node: str, port: int = 0) -> socket.socket:
        """Bound, not listening, with IPv6."""
        return self._make(node, socket.SOCK_STREAM, 0, port, socket.AF_INET6)

    def tcp(self, node: str, port: int = 0) -> socket.socket:
        """Bound, not listening."""
        return self._make(node, socket.SOCK_STREAM, 0, port)

    def icmp(self, node: str) -> socket.socket:
        """Raw."""
        return self._make(node, socket.SOCK_RAW, socket.IPPROTO_ICMP, None)

    def close(self) -> None:
        """Close everything that was made."""
        for sock in [*self._made, *self._agents.values()]:
            sock.close()

    def _make(
        self,
        node: str,
        kind: int,
        protocol: int,
        port: int | None,
        family: int = socket.AF_INET,
        host: str | None = None,
    ) -> socket.socket:
        agent = self._agents.get(node)
        if agent is None:
            agent, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            agent.settimeout(DEADLINE_S)
            with there:
                argv = [sys.executable, "-I", "-S", "-c", _AGENT]
                self._lab.spawn(node, argv, extra_fds={3: there.fileno()}).close()
            self._agents[node] = agent
        agent.send(json.dumps([family, kind, protocol, host or _ANY[family], port]).encode())
        _, (fd,), _, _ = socket.recv_fds(agent, 1, 1)
        made = socket.socket(fileno=fd)
        made.settimeout(DEADLINE_S)
        self._made.append(made)
        return made


@contextmanager
def sockets_of(lab: Lab) -> Iterator[Sockets]:
    """For the length of a ``with`` block."""
    sockets = Sockets(lab)
    try:
        yield sockets
    finally:
        sockets.close()


def output_of(
    lab: Lab, node: str, argv: Sequence[str], *, given: str = "", exit_code: int = 0, **options: Any
) -> str:
    """What a program writes to its standard output, which reads a text from its standard input.

    ``options`` are those of ``Lab.spawn``.
    """
    stdin, stdout = (os.memfd_create(name) for name in ("stdin", "stdout"))
    with os.fdopen(stdin, "r+") as text, os.fdopen(stdout) as output:
        text.write(given)
        text.seek(0)
        process = lab.spawn(node, argv, stdin=stdin, stdout=stdout, **options)
        ended = process.wait(PROGRAM_DEADLINE_S)
        process.close()
        output.seek(0)
        said = output.read()
    assert ended == exit_code, said
    return said


def accepted(listener: socket.socket, client: socket.socket, host: str) -> socket.socket:
    """The other end of a TCP connection that ``client`` opens to where ``listener`` is."""
    listener.listen()
    client.connect((host, port_of(listener)))
    served, _ = listener.accept()
    served.settimeout(DEADLINE_S)
    return served


def port_of(sock: socket.socket) -> int:
    """The local port."""
    port: int = sock.getsockname()[1]
    return port


def take_all(sock: socket.socket) -> list[bytes]:
    """What waits in a datagram socket right now."""
    taken = []
    while select.select([sock], [], [], 0)[0]:
        taken.append(sock.recv(2048))
    return taken


def open_files() -> int:
    """How many this process has."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())
