"""The asyncio shell of a machine: one UDP socket, the loop's clock, one timer.

The machine never learns who drives it; this file never learns what it does.
"""

import asyncio
import ipaddress
import re
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
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


def split_host_port(text: str, default_port: int | None = None) -> tuple[str, int]:
    """``HOST:PORT``, ``[IPV6]:PORT``, or without the port where there is a default. Raises
    QuicpipeLabError."""
    match = re.fullmatch(r"(?:\[([^\[\]]+)\]|([^:\[\]]+))(?::([0-9]{1,5}))?", text, re.ASCII)
    if match is None and _address_or_none(text) is not None:
        match = re.fullmatch(r"(.+)()()", text)  # IPv6 without brackets can have no port
    port = None if match is None else int(match[3]) if match[3] else default_port
    if match is None or port is None or port > 65535:
        raise QuicpipeLabError(f"{text!r} is not HOST:PORT")
    return match[1] or match[2], port


def _address_or_none(text: str) -> IPv4Address | IPv6Address | None:
    """The address that a text spells, if it spells one."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def resolve(
    text: str, *, default_port: int | None = None, family: int = socket.AF_UNSPEC
) -> TransportAddress:
    """``HOST:PORT`` to a numeric address, of one family if need be. Raises QuicpipeLabError in one
    line."""
    host, port = split_host_port(text, default_port)
    try:
        found = socket.getaddrinfo(host, port, family, socket.SOCK_DGRAM)
    except OSError as error:
        raise QuicpipeLabError(f"cannot resolve {host!r}: {error.strerror}") from None
    except UnicodeError:
        raise QuicpipeLabError(f"cannot resolve {host!r}: it is no host name") from None
    return TransportAddress(str(found[0][4][0]), port)


def family_of(address: TransportAddress) -> int:
    """AF_INET or AF_INET6."""
    return socket.AF_INET6 if ":" in address.host else socket.AF_INET


def open_socket(
    bind: TransportAddress, make: Callable[[int, int], socket.socket] = socket.socket
) -> socket.socket:
    """A non-blocking UDP socket. Raises QuicpipeLabError where the address cannot be had."""
    family = family_of(bind)
    try:
        sock = make(family, socket.SOCK_DGRAM)
    except OSError as error:
        raise QuicpipeLabError(f"cannot use UDP address {bind}: {error.strerror}") from None
    sock.setblocking(False)
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        with suppress(OSError):  # some systems refuse what others cut down to their limit
            sock.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    try:
        sock.bind(bind)
    except OSError as error:
        sock.close()
        raise QuicpipeLabError(f"cannot use UDP address {bind}: {error.strerror}") from None
    return sock


def local_address_towards(remote: TransportAddress, port: int) -> TransportAddress:
    """Our own address on the way to ``remote``, with ``port``. Nothing is sent."""
    with socket.socket(family_of(remote), socket.SOCK_DGRAM) as sock:
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
