"""The asyncio shell of a machine: one UDP socket, the loop's clock, one timer.

The machine never learns who drives it; this file never learns what it does.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress

from quicpipe_lab.errors import QuicpipeLabError
from quicpipe_lab.model.address import TransportAddress, split_host_port
from quicpipe_lab.protocol.machine import Machine, Searcher

MAX_BATCH = 64
"""Datagrams taken in before the machine may answer: enough to spare system calls, few enough that
acknowledgements stay prompt."""
BUFFER_BYTES = 4 * 1024 * 1024
_MAX_DATAGRAM_BYTES = 65536


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


class UdpSocket:
    """One socket of a driver. ``receive`` takes each datagram, ``after`` is called when all that
    has come was taken."""

    def __init__(
        self,
        sock: socket.socket,
        receive: Callable[[bytes, TransportAddress], None],
        after: Callable[[], None],
    ) -> None:
        self._sock = sock
        self._receive = receive
        self._after = after
        self._loop = asyncio.get_running_loop()
        self._unsent: deque[tuple[bytes, TransportAddress]] = deque()
        self._loop.add_reader(sock, self._readable)

    def send(self, datagrams: Iterable[tuple[bytes, TransportAddress]]) -> None:
        """Send now, or when the socket takes them."""
        self._unsent.extend(datagrams)
        while self._unsent:
            try:
                self._sock.sendto(*self._unsent[0])
            except BlockingIOError:
                self._loop.add_writer(self._sock, self._writable)
                return
            except OSError:
                pass  # no route, a full queue: the network loses datagrams, and so may we
            self._unsent.popleft()

    def close(self) -> None:
        """Stop driving and close the socket; twice is fine."""
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
            self._receive(data, TransportAddress(*address[:2]))
        self._after()

    def _writable(self) -> None:
        self._loop.remove_writer(self._sock)
        self.send(())


class UdpDriver:
    """Drives one machine over one socket until it is closed, and over further ones while a
    ``Searcher`` wants them. Made inside a running loop.

    ``after_turn`` is called whenever the machine may have new events.
    """

    def __init__(
        self, machine: Machine, sock: socket.socket, after_turn: Callable[[], None]
    ) -> None:
        self._machine = machine
        self._searcher = machine if isinstance(machine, Searcher) else None
        self._host: str = sock.getsockname()[0]
        self._after_turn = after_turn
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._own = UdpSocket(sock, self._receive, self.turn)
        self._extra: dict[int, UdpSocket | None] = {}

    @property
    def now(self) -> float:
        """The clock that the machine lives by: monotonic seconds."""
        return self._loop.time()

    def turn(self) -> None:
        """Let the machine send and set its timer; call it after every call of the machine."""
        self._after_turn()
        self._own.send(self._machine.datagrams_to_send(self.now))
        if self._searcher is not None:
            self._turn_extra(self._searcher)
        if self._timer is not None:
            self._timer.cancel()
        timer = self._machine.get_timer()
        self._timer = None if timer is None else self._loop.call_at(timer, self._timer_fired)

    def close(self) -> None:
        """Stop driving and close the sockets; twice is fine."""
        if self._timer is not None:
            self._timer.cancel()
        for one in (self._own, *self._extra.values()):
            if one is not None:
                one.close()

    def _receive(self, data: bytes, source: TransportAddress) -> None:
        self._machine.receive_datagram(data, source, self.now)

    def _timer_fired(self) -> None:
        self._timer = None
        self._machine.handle_timer(self.now)
        self.turn()

    # A port search's sockets

    def _turn_extra(self, searcher: Searcher) -> None:
        wanted = searcher.extra_sockets
        for via in self._extra.keys() - wanted:
            if (one := self._extra.pop(via)) is not None:
                one.close()
        for via in wanted - self._extra.keys():
            self._extra[via] = self._open(searcher, via)
        for via, data, to in searcher.extra_datagrams_to_send():
            if (one := self._extra.get(via)) is not None:
                one.send([(data, to)])

    def _open(self, searcher: Searcher, via: int) -> UdpSocket | None:
        """None where there are no more to be had: a port fewer to be found."""

        def receive(data: bytes, source: TransportAddress) -> None:
            searcher.receive_datagram(data, source, self.now, via)

        try:
            sock = open_socket(TransportAddress(self._host, 0))
        except QuicpipeLabError:
            return None
        return UdpSocket(sock, receive, self.turn)
