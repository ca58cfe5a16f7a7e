"""Which addresses are the relay's, for its XDP filter, where it listens on all that the host has.

What comes for others, on a host that forwards as well, is none of the filter's business, even if it
is UDP to the relay's port.
"""

import array
import fcntl
import ipaddress
import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.shell.xdp_interface import if_inet6

_SIOCGIFCONF = 0x8912
_REQUEST = struct.Struct("=16s4x4s16x")  # an ifreq with a sockaddr_in
_MAX_ADDRESSES = 128


class Named(Protocol):
    """What is told; see Filter."""

    def set_own_addresses(self, addresses: Iterable[TransportAddress]) -> None: ...


class OwnHosts:
    """Keeps a filter in step with the addresses of a relay that listens at ``bound``.

    ``interfaces``: whose addresses come first, as the filter takes the first few.
    """

    def __init__(self, table: Named, bound: TransportAddress, interfaces: Sequence[str]) -> None:
        self._table = table
        self._bound = bound
        self._interfaces = interfaces
        host = ipaddress.ip_address(bound.host.partition("%")[0])
        self._is_wildcard = host.is_unspecified
        self._has_ipv6 = host.version == 6
        self._known: list[str] | None = None

    def refresh(self) -> None:
        """Look, and tell the filter if anything has changed."""
        hosts = [self._bound.host]
        if self._is_wildcard:
            hosts = own_hosts(self._interfaces)[:_MAX_ADDRESSES]
            hosts = [one for one in hosts if self._has_ipv6 or ":" not in one]
        if hosts != self._known:
            self._known = hosts
            self._table.set_own_addresses([self._bound._replace(host=one) for one in hosts])


def own_hosts(interfaces: Sequence[str]) -> list[str]:
    """The machine's addresses, those of these interfaces first; no other loopback addresses, and
    none of one link only."""
    found = [*_ipv4_addresses(), *_ipv6_addresses()]
    found.sort(key=lambda one: one[0] not in interfaces)
    return [
        str(address)
        for name, address in found
        if not address.is_link_local and (name in interfaces or not address.is_loopback)
    ]


def _ipv4_addresses() -> Iterator[tuple[str, ipaddress.IPv4Address | ipaddress.IPv6Address]]:
    """Each with its interface, see netdevice(7)."""
    buffer = array.array("B", bytes(_REQUEST.size * _MAX_ADDRESSES))
    asked = struct.pack("=i4xQ", len(buffer), buffer.buffer_info()[0])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        (size,) = struct.unpack_from("=i", fcntl.ioctl(asking, _SIOCGIFCONF, asked))
    for label, packed in _REQUEST.iter_unpack(buffer[:size]):
        name, _, _ = label.rstrip(b"\0").decode().partition(":")  # eth0:1 is a label of eth0
        yield name, ipaddress.IPv4Address(packed)


def _ipv6_addresses() -> Iterator[tuple[str, ipaddress.IPv4Address | ipaddress.IPv6Address]]:
    for line in if_inet6():
        packed, *_, name = line.split()
        yield name, ipaddress.IPv6Address(bytes.fromhex(packed))
