"""The asyncio shell of a machine: one UDP socket, the loop's clock, one timer.

The machine never learns who drives it; this file never learns what it does.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from typing import Protocol

from quicpipe_lab.errors import QuicpipeLabError
from quicpipe_lab.model.address import TransportAddress

MAX_BATCH = 64
"""Datagrams taken in before the machine may answer: enough to spare system calls, few enough that
acknowledgements stay prompt."""
BUFFER_BYTES = 4 * 1024 * 1024
_MAX_DATAGRAM_BYTES = 65536


class Machine(Protocol):
    """aioquic's calls, less events: those are for whoever owns the machine."""

    def receive_datagram(self, data: bytes, source: TransportAddress, now: float, /) -> None: ...
    def datagrams_to_send(self, now: float, /) -> list[tuple[bytes, TransportAddress]]: ...
    def get_timer(self) -> float | None: ...
    def handle_timer(self, now: float, /) -> None: ...


def resolve(text: str, *, default_port: int | None = None) -> TransportAddress:
    """``HOST:PORT`` to a numeric address. Raises QuicpipeLabError in one line."""
    host, separator, port_text = text.rpartition(":")
    if not separator or (host.count(":") and not host.startswith("[")):
        host, port_text = text, "" if default_port is None else str(default_port)
    try:
        port = int(port_text)
        if not 0 <= port < 65536:
            raise ValueError
    except ValueError:
        raise QuicpipeLabError(f"{text!r} is not HOST:PORT") from None
    try:
        found = socket.getaddrinfo(host.strip("[]") or None, port, type=socket.SOCK_DGRAM)
    except OSError as error:
        raise QuicpipeLabError(f"cannot resolve {host!r}: {error.strerror}") from None
    return TransportAddress(str(found[0][4][0]), port)


def open_socket(bind: TransportAddress) -> socket.socket:
    """A non-blocking UDP socket. Raises QuicpipeLabError where the address cannot be had."""
    family = socket.AF_INET6 if ":" in bind.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setblocking(False)
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
    try:
        sock.bind(bind)
    except OSError as error:
        sock.close()
        raise QuicpipeLabError(f"cannot use UDP address {bind}: {error.strerror}") from None
    return sock


def local_address_towards(remote: TransportAddress, port: int) -> TransportAddress:
    """Our own address on the way to ``remote``, with ``port``. Nothing is sent."""
    family = socket.AF_INET6 if ":" in remote.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(remote)
        except OSError as error:
            raise QuicpipeLabError(f"there is no way to {remote}: {error.strerror}") from None
        return TransportAddress(sock.getsockname()[0], port)


class UdpDriver:
    """Drives one machine over one socket until it is closed. Made inside a running loop.

    ``after_turn`` is called whenever the machine may have new events.
    """

    def __init__(
        self, machine: Machine, sock: socket.socket, after_turn: Callable[[], None]
    ) -> None:
        self._machine = machine
        self._sock = sock
        self._after_turn = after_turn
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._unsent: deque[tuple[bytes, TransportAddress]] = deque()
        self._loop.add_reader(sock, self._readable)

    @property
    def now(self) -> float:
        """The clock that the machine lives by: monotonic seconds."""
        return self._loop.time()

    def turn(self) -> None:
        """Let the machine send and set its timer; call it after every call of the machine."""
        self._after_turn()
        self._unsent.extend(self._machine.datagrams_to_send(self.now))
        self._send()
        if self._timer is not None:
            self._timer.cancel()
        timer = self._machine.get_timer()
        self._timer = None if timer is None else self._loop.call_at(timer, self._timer_fired)

    def close(self) -> None:
        """Stop driving and close the socket; twice is fine."""
        if self._timer is not None:
            self._timer.cancel()
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock)
            self._loop.remove_writer(self._sock)
            self._sock.close()

    def _readable(self) -> None:
        for _ in range(MAX_BATCH):
            try:
                data, address = self._sock.recvfrom(_MAX_DATAGRAM_BYTES)
            except BlockingIOError:
                break
            except OSError:
                continue  # an ICMP error of something sent earlier: QUIC finds out by itself
            self._machine.receive_datagram(data, TransportAddress(*address[:2]), self.now)
        self.turn()

    def _timer_fired(self) -> None:
        self._timer = None
        self._machine.handle_timer(self.now)
        self.turn()

    def _send(self) -> None:
        while self._unsent:
            try:
                self._sock.sendto(*self._unsent[0])
            except BlockingIOError:
                self._loop.add_writer(self._sock, self._writable)
                return
            except OSError:
                pass  # no route, a full queue: the network loses datagrams, and so may we
            self._unsent.popleft()

    def _writable(self) -> None:
        self._loop.remove_writer(self._sock)
        self._send()
