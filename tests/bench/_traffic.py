"""Paced UDP between sockets of a lab, for benchmarks of links.

Each datagram carries its number and the time of CLOCK_MONOTONIC when it was sent. Senders are
forked, so that they do not wait for the receiver.
"""

import os
import select
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

HEADERS_BYTES = 28
"""IPv4's and UDP's: what a link counts beside a datagram's own bytes."""
_STAMP = struct.Struct("=Id")
_RECEIVE_BUFFER_BYTES = 8 << 20
_FORCE = getattr(socket, "SO_RCVBUFFORCE", 33)
_QUIET_S = 0.7
"""Nothing for so long: nothing more comes, after the longest delay that any link has."""


class Flow(NamedTuple):
    """``size_bytes`` and ``per_s`` are those of IP packets."""

    name: str
    sender: socket.socket
    receiver: socket.socket
    to: tuple[str, int]
    size_bytes: int
    per_s: float


class Arrival(NamedTuple):
    """A datagram: when it was sent and when it came."""

    sent_s: float
    received_s: float


@contextmanager
def _sending(flows: Sequence[Flow], count: int) -> Iterator[None]:
    pid = os.fork()
    if pid == 0:
        try:
            _send(flows, count)
        finally:
            os._exit(0)
    try:
        yield
    finally:
        os.waitpid(pid, 0)


def _send(flows: Sequence[Flow], count: int) -> None:
    """In turn and evenly; ``per_s`` of the first is that of all."""
    interval_s = 1 / flows[0].per_s / len(flows)
    started_s = time.monotonic()
    for turn in range(count * len(flows)):
        left_s = started_s + turn * interval_s - time.monotonic()
        if left_s > 0:
            time.sleep(left_s)
        number, place = divmod(turn, len(flows))
        flow = flows[place]
        data = _STAMP.pack(number, time.monotonic())
        flow.sender.sendto(data.ljust(flow.size_bytes - HEADERS_BYTES, b"."), flow.to)


def run(flows: Sequence[Flow], count: int) -> dict[str, list[Arrival]]:
    """Send ``count`` packets in each flow; what came of each, by its name."""
    arrivals: dict[str, list[Arrival]] = {flow.name: [] for flow in flows}
    poll = select.poll()
    by_fd = {flow.receiver.fileno(): flow for flow in flows}
    for fd, flow in by_fd.items():
        try:
            flow.receiver.setsockopt(socket.SOL_SOCKET, _FORCE, _RECEIVE_BUFFER_BYTES)
        except PermissionError:
            flow.receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
        flow.receiver.setblocking(False)
        poll.register(fd, select.POLLIN)
    with _sending(flows, count):
        while ready := poll.poll(_QUIET_S * 1000):
            for fd, _ in ready:
                flow = by_fd[fd]
                data = flow.receiver.recv(2048)
                _, sent_s = _STAMP.unpack_from(data)
                arrivals[flow.name].append(Arrival(sent_s, time.monotonic()))
    return arrivals
