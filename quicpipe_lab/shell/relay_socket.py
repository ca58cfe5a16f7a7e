"""The relay's UDP socket: opened, addressed and, where nothing better exists, used datagram by
datagram."""

import ipaddress
import socket
from collections.abc import Callable
from typing import Any, Protocol

from quicpipe_lab.errors import QuicpipeLabError
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.protocol.relay import Relay

BUFFER_BYTES = 4 << 20
"""Wanted for either direction: at 1 Gbit/s, 30 ms in which this process may be busy elsewhere."""

Datagram = tuple[bytes, TransportAddress]


class RelayTransport(Protocol):
    """How the relay's datagrams pass between the socket and the machine."""

    def receive(self, relay: Relay, now: Callable[[], float]) -> bool:
        """Take what has arrived; forward what can be forwarded at once, give the machine the rest.

        Returns whether the machine was given anything. Takes a bounded number of datagrams.
        """

    def send(self, datagrams: list[Datagram]) -> None:
        """Send what the machine wants sent. What cannot be sent is lost, as anywhere on the way."""


def open_socket(host: str, port: int) -> socket.socket:
    """A bound, non-blocking UDP socket. Raises QuicpipeLabError where that cannot be.

    ``host`` is an address, or a name. ``::`` takes IPv4 as well.
    """
    where = str(TransportAddress(host, port))
    if not 0 <= port < 65536:  # the resolver would take it modulo 65536
        raise QuicpipeLabError(f"cannot listen at {where}: a port is a number from 0 to 65535")
    try:
        (family, _, _, _, address), *_ = socket.getaddrinfo(
            host, port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError, OverflowError) as error:
        raise QuicpipeLabError(f"cannot listen at {where}: {_why(error)}") from None
    opened = socket.socket(family, socket.SOCK_DGRAM)
    try:
        if family == socket.AF_INET6:
            is_wildcard = ipaddress.ip_address(address[0]).is_unspecified
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not is_wildcard)
        opened.bind(address)
    except (OSError, OverflowError) as error:
        opened.close()
        raise QuicpipeLabError(f"cannot listen at {where}: {_why(error)}") from None
    opened.setblocking(False)
    for forced, plain in ((33, socket.SO_RCVBUF), (32, socket.SO_SNDBUF)):
        _enlarge(opened, forced, plain)
    return opened


def from_socket(address: Any) -> TransportAddress:
    """A TransportAddress from what Python's socket gives; IPv4-mapped becomes IPv4."""
    host, port = address[0], address[1]
    if host.startswith("::ffff:") and "." in host:
        host = host[7:]
    return TransportAddress(host, port)


def to_socket(address: TransportAddress, family: int) -> tuple[Any, ...]:
    """The reverse, for a socket of this family."""
    if family == socket.AF_INET:
        return (address.host, address.port)
    if ":" not in address.host:
        return (f"::ffff:{address.host}", address.port, 0, 0)
    host, _, scope = address.host.partition("%")
    scope_id = 0
    if scope:
        scope_id = int(scope) if scope.isdigit() else socket.if_nametoindex(scope)
    return (host, address.port, 0, scope_id)


class OwnAddresses:
    """The relay's addresses, as a container: asked, not listed, as they change.

    An address is this machine's if a socket can be bound to it.
    """

    def __init__(self, bound: TransportAddress) -> None:
        self._bound = bound
        self._is_wildcard = ipaddress.ip_address(bound.host.partition("%")[0]).is_unspecified

    def __contains__(self, address: object) -> bool:
        if not isinstance(address, TransportAddress) or address.port != self._bound.port:
            return False
        if not self._is_wildcard:
            return address.host == self._bound.host
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(to_socket(address._replace(port=0), family))
            except OSError:
                return False
        return True


class PlainTransport:
    """One system call a datagram: for systems without recvmmsg."""

    MAX_AT_ONCE = 64

    def __init__(self, opened: socket.socket) -> None:
        self._socket = opened
        self.unsent = 0
        """Datagrams that the system did not take."""

    def receive(self, relay: Relay, now: Callable[[], float]) -> bool:
        for taken in range(self.MAX_AT_ONCE):
            try:
                data, address = self._socket.recvfrom(65535)
            except BlockingIOError:
                return taken > 0
            except OSError:
                continue  # an ICMP error of an earlier datagram: nobody's concern here
            relay.receive_datagram(data, from_socket(address), now())
        return True

    def send(self, datagrams: list[Datagram]) -> None:
        for data, address in datagrams:
            self.send_one(data, to_socket(address, self._socket.family))

    def send_one(self, data: bytes | memoryview, address: tuple[Any, ...]) -> None:
        """One datagram to an address as ``to_socket`` gives it."""
        try:
            self._socket.sendto(data, address)
        except OSError:  # full buffers, a firewall, no route, too long for the way
            self.unsent += 1


def _enlarge(opened: socket.socket, forced: int, plain: int) -> None:
    """SO_RCVBUFFORCE (33) and SO_SNDBUFFORCE (32) go past the system's limit, for root."""
    for option in (forced, plain):
        try:
            opened.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
        except OSError:
            continue
        return


def _why(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
