"""The wire: a process between the two interfaces of each impaired link of a lab.

It reads frames on one side, asks the link's model (model/link_model.py) for their fates, and sends
them on the other side when they are due, by CLOCK_MONOTONIC. One process serves all wires of a lab,
in a network namespace that has nothing but their ends. It is a program of the lab and ends with it.

On its control socket (channel.py) it is first told its links, answers when they are open, and then
takes requests: ``set`` changes the behaviours of a link, ``counters`` reports, and ``end`` ends
it, faster than the kernel would, which closes one port after the other.

What is not an IP packet passes at once: a link has no say in how neighbours find each other.
"""

import ctypes
import gc
import itertools
import select
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from heapq import heappop, heappush
from typing import Any, NamedTuple

from quicpipe_lab.backends.netns.channel import Channel, Message
from quicpipe_lab.backends.netns.failures import describe
from quicpipe_lab.backends.netns.wire_port import ETHERNET_HEADER_BYTES, Port
from quicpipe_lab.errors import QuicpipeLabError
from quicpipe_lab.model.link import LinkBehavior
from quicpipe_lab.model.link_model import LinkModel

_IP_TYPES = (b"\x08\x00", b"\x86\xdd")
_TYPE = slice(12, 14)
"""Where an Ethernet frame says what it carries."""

_TFD_NONBLOCK, _TFD_CLOEXEC, _TFD_TIMER_ABSTIME = 0o4000, 0o2000000, 1
_TIMER = struct.Struct("=qqqq")
"""itimerspec: interval and time, in seconds and nanoseconds each."""

_THREADS = 64

_LIBC = ctypes.CDLL(None, use_errno=True)


class WireLink(NamedTuple):
    """One link, as the control socket's first message gives it."""

    name: str
    upper: str
    lower: str
    down: dict[str, Any]
    up: dict[str, Any]
    seed: str


class Direction:
    """From one port to the other."""

    def __init__(self, source: Port, target: Port, model: LinkModel) -> None:
        self.source = source
        self.target = target
        self.model = model

    def counters(self) -> dict[str, Any]:
        """The model's, and what the model does not know of: frames that this process lost."""
        self.source.count_missed()
        lost = self.source.missed + self.target.unsent
        return {**asdict(self.model.counters), "missed": lost}


class Timer:
    """A timerfd: epoll's own timeouts are in milliseconds."""

    def __init__(self) -> None:
        flags = _TFD_NONBLOCK | _TFD_CLOEXEC
        self.fd: int = _LIBC.timerfd_create(time.CLOCK_MONOTONIC, flags)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._due_s = 0.0
        self._value = ctypes.create_string_buffer(_TIMER.size)
        self._set = _LIBC.timerfd_settime

    def set(self, due_s: float) -> None:
        """Readable from then on, until set again; 0.0 is never."""
        if due_s == self._due_s:
            return
        self._due_s = due_s
        seconds = int(due_s)
        _TIMER.pack_into(self._value, 0, 0, 0, seconds, int((due_s - seconds) * 1e9))
        self._set(self.fd, _TFD_TIMER_ABSTIME, self._value, None)


class Wire:
    """Every wire of a lab. ``run`` returns when the control socket's other end is gone."""

    def __init__(self, control: Channel, links: list[WireLink]) -> None:
        self._control = control
        self._directions: dict[str, tuple[Direction, Direction]] = {}
        """Down and up, by the link's name."""
        self._by_fd: dict[int, Direction] = {}
        self._waiting: list[tuple[float, int, Port, bytes | bytearray]] = []
        self._order = itertools.count()
        self._timer = Timer()
        self._poll = select.epoll()
        ports = _open_ports([name for link in links for name in (link.upper, link.lower)])
        for link in links:
            upper, lower = ports[link.upper], ports[link.lower]
            down = LinkModel(LinkBehavior.from_data(link.down), f"{link.seed}/{link.name}/down")
            up = LinkModel(LinkBehavior.from_data(link.up), f"{link.seed}/{link.name}/up")
            pair = Direction(upper, lower, down), Direction(lower, upper, up)
            self._directions[link.name] = pair
            self._by_fd |= {direction.source.fileno(): direction for direction in pair}
        for fd in (control.fileno(), self._timer.fd, *self._by_fd):
            self._poll.register(fd, select.EPOLLIN)

    def run(self) -> None:
        """One thread, one loop."""
        while True:
            for fd, _ in self._poll.poll():
                direction = self._by_fd.get(fd)
                if direction is not None:
                    self._take(direction)
                elif fd == self._control.fileno():
                    try:
                        request, _ = self._control.receive()
                    except EOFError:
                        return
                    self._take_all()
                    self._control.send(self._answer(request))
            self._send_what_is_due()

    def _take_all(self) -> None:
        """What arrived before a request is answered must not be subject to it."""
        for direction in self._by_fd.values():
            for _ in range(direction.source.turns):
                self._take(direction)

    def _take(self, direction: Direction) -> None:
        admit, target = direction.model.admit, direction.target
        for frame in direction.source.frames():
            if frame[_TYPE] not in _IP_TYPES:
                target.send(frame)
                continue
            for fate in admit(len(frame) - ETHERNET_HEADER_BYTES, time.monotonic()):
                if fate.out_s is None:
                    continue
                copy = frame if fate.flipped_bit is None else flipped(frame, fate.flipped_bit)
                heappush(self._waiting, (fate.out_s, next(self._order), target, copy))

    def _send_what_is_due(self) -> None:
        waiting = self._waiting
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, target, frame = heappop(waiting)
            target.send(frame)
        self._timer.set(waiting[0][0] if waiting else 0.0)

    def _answer(self, request: Message) -> Message:
        try:
            if request["request"] == "end":
                self._poll.close()
                _at_once([direction.source.close for direction in self._by_fd.values()])
                raise SystemExit
            if request["request"] == "counters":
                return {
                    name: {"down": down.counters(), "up": up.counters()}
                    for name, (down, up) in self._directions.items()
                }
            down, up = self._directions[request["link"]]
            down.model.change(LinkBehavior.from_data(request["down"]))
            up.model.change(LinkBehavior.from_data(request["up"]))
        except (QuicpipeLabError, OSError) as error:
            return describe(error)
        return {}


def flipped(frame: bytes, bit: int) -> bytearray:
    """With one bit of the packet in it flipped."""
    changed = bytearray(frame)
    changed[ETHERNET_HEADER_BYTES + bit // 8] ^= 0x80 >> bit % 8
    return changed


def _open_ports(interfaces: list[str]) -> dict[str, Port]:
    ports: dict[str, Port] = {}
    failed: list[OSError] = []

    def open_port(interface: str) -> None:
        try:
            ports[interface] = Port(interface, len(interfaces))
        except OSError as error:
            failed.append(error)

    _at_once([partial(open_port, interface) for interface in interfaces])
    if failed:
        raise failed[0]
    return ports


def _at_once(calls: list[Callable[[], None]]) -> None:
    """In threads, because each waits for the kernel (see Port)."""
    for start in range(0, len(calls), _THREADS):
        threads = [threading.Thread(target=call) for call in calls[start : start + _THREADS]]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def run(control_fd: int) -> None:
    """The program."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    control = Channel(socket.socket(fileno=control_fd))
    request, _ = control.receive()
    try:
        wire = Wire(control, [WireLink(*link) for link in request["links"]])
    except (QuicpipeLabError, OSError) as error:
        control.send(describe(error))
        return
    control.send({})
    # Frames make no cycles, and a collection takes longer than some packets may wait.
    gc.freeze()
    gc.disable()
    wire.run()
