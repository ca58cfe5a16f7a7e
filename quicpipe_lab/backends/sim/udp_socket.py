"""UDP sockets of simulated nodes, and pings. What arrives is handed over by an event of its own."""

import errno
import random
from collections.abc import Callable

from quicpipe_lab.backends.sim.clock import Clock
from quicpipe_lab.backends.sim.packet import MTU_BYTES, Echo, IcmpError, Udp, size_bytes
from quicpipe_lab.errors import UnsupportedBehaviorError
from quicpipe_lab.model.address import TransportAddress

OnReceive = Callable[[bytes, TransportAddress], object]
OnError = Callable[[IcmpError], object]
SendUdp = Callable[["UdpSocket", bytes, TransportAddress], None]

_FIRST_PORT, _LAST_PORT = 32768, 60999
"""Linux's ip_local_port_range."""


class UdpSocket:
    """A socket of one node. ``bound`` is None where it has all of the node's addresses."""

    def __init__(
        self,
        address: TransportAddress,
        bound: str | None,
        send: SendUdp,
        close: Callable[["UdpSocket"], None],
        on_receive: OnReceive,
        on_error: OnError | None,
    ) -> None:
        self.address = address
        self.bound = bound
        self.on_receive = on_receive
        self.on_error = on_error
        self.is_closed = False
        self._send = send
        self._close = close

    def send(self, data: bytes, to: TransportAddress) -> None:
        """Now. Raises OSError as the kernel does, UnsupportedBehaviorError for fragments."""
        if self.is_closed:
            raise OSError(errno.EBADF, "the socket is closed")
        self._send(self, data, to)

    def close(self) -> None:
        """Nothing is handed over any more. Twice is fine."""
        if not self.is_closed:
            self.is_closed = True
            self._close(self)

    def receive(self, data: bytes, source: TransportAddress) -> None:
        """Hand over, unless it has been closed meanwhile."""
        if not self.is_closed:
            self.on_receive(data, source)

    def receive_error(self, error: IcmpError) -> None:
        """The same for an ICMP error about something that it sent."""
        if not self.is_closed and self.on_error is not None:
            self.on_error(error)


class Sockets:
    """All sockets of a node."""

    def __init__(self, clock: Clock, seed: str) -> None:
        self._clock = clock
        self._random = random.Random(seed)
        self._by_port: dict[tuple[str | None, int], UdpSocket] = {}
        self._on_echo: dict[tuple[str, int], Callable[[Echo], object]] = {}

    def add(self, sock: UdpSocket) -> None:
        """Raises OSError where another one has the port."""
        port = sock.address.port
        taken = [one for (_, number), one in self._by_port.items() if number == port]
        if any(sock.bound is None or one.bound in (None, sock.bound) for one in taken):
            raise OSError(errno.EADDRINUSE, f"port {port} is in use")
        self._by_port[sock.bound, port] = sock

    def remove(self, sock: UdpSocket) -> None:
        """It is closed."""
        del self._by_port[sock.bound, sock.address.port]

    def free_port(self) -> int:
        """Any, as Linux gives one where none is asked for. Raises OSError."""
        taken = {port for _, port in self._by_port}
        if len(taken) > _LAST_PORT - _FIRST_PORT:
            raise OSError(errno.EADDRINUSE, "no port is free")
        while True:
            port = self._random.randint(_FIRST_PORT, _LAST_PORT)
            if port not in taken:
                return port

    def find(self, address: TransportAddress) -> UdpSocket | None:
        """The one that a datagram to this address is for."""
        return self._by_port.get(address) or self._by_port.get((None, address.port))

    def deliver(self, packet: Udp) -> bool:
        """False where no socket is there."""
        sock = self.find(packet.destination)
        if sock is None:
            return False
        self._clock.at(self._clock.now, sock.receive, packet.data, packet.source)
        return True

    def deliver_error(self, error: IcmpError) -> None:
        """To the socket that sent what it is about."""
        if isinstance(error.about, Udp):
            sock = self.find(error.about.source)
            if sock is not None:
                self._clock.at(self._clock.now, sock.receive_error, error)

    def await_echo(self, host: str, identifier: int, action: Callable[[Echo], object]) -> None:
        """What to do with replies from a host."""
        self._on_echo[host, identifier] = action

    def deliver_echo(self, echo: Echo) -> None:
        """A reply has come."""
        action = self._on_echo.get((echo.source, echo.identifier))
        if action is not None:
            self._clock.at(self._clock.now, action, echo)


def require_one_packet(packet: Udp) -> None:
    """Raises UnsupportedBehaviorError."""
    if size_bytes(packet) > MTU_BYTES:
        raise UnsupportedBehaviorError(
            f"a datagram of {len(packet.data)} bytes does not fit into a packet of {MTU_BYTES}: the"
            " simulator has no IP fragments (the netns backend has)"
        )
