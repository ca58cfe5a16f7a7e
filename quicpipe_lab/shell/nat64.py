"""UDP over IPv4 on a host that has IPv6 only: through the NAT64 of its network.

464XLAT has a translator on the host for that (RFC 6877); here a socket puts the addresses in their
place itself. So whoever uses it lives in IPv4: literal addresses work (RFC 8305, 7.1), and those
that a peer names, or that a relay sees, are of one kind on both sides.
"""

import socket
from functools import partial
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import Any

from quicpipe_lab.errors import QuicpipeLabError
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.model.nat64 import (
    WELL_KNOWN_ADDRESSES,
    WELL_KNOWN_NAME,
    embed,
    extract,
    prefix_of,
)
from quicpipe_lab.shell.udp import local_address_towards, open_socket

_SOMEWHERE = TransportAddress(str(WELL_KNOWN_ADDRESSES[0]), 9)


class Nat64Socket(socket.socket):
    """An IPv6 datagram socket whose users give and get IPv4 addresses."""

    def __init__(self, prefix: IPv6Network, family: int, kind: int) -> None:
        super().__init__(family, kind)
        self._prefix = prefix

    def sendto(self, data: bytes, address: tuple[str, int]) -> int:  # type: ignore[override]
        host, port = address
        if ":" not in host:
            host = str(embed(self._prefix, IPv4Address(host)))
        return super().sendto(data, (host, port))

    def recvfrom(self, size: int, flags: int = 0) -> tuple[bytes, Any]:
        data, (host, port, *_) = super().recvfrom(size, flags)
        ipv4 = extract(self._prefix, IPv6Address(host.partition("%")[0]))
        return data, (host if ipv4 is None else str(ipv4), port)


def open_towards(
    relay: TransportAddress, bind: TransportAddress
) -> tuple[TransportAddress, socket.socket, list[TransportAddress]]:
    """The relay, a socket that reaches it, and our own addresses of the relay's kind, if any.

    Behind a NAT64 the relay's address is its IPv4 one, and our own is none that an IPv4 peer could
    use. Raises QuicpipeLabError.
    """
    prefix = _prefix_towards(relay) if bind.host in ("0.0.0.0", "::") else None
    if prefix is None:
        sock = open_socket(bind)
        return relay, sock, [local_address_towards(relay, sock.getsockname()[1])]
    sock = open_socket(TransportAddress("::", bind.port), partial(Nat64Socket, prefix))
    if ":" in relay.host:
        relay = TransportAddress(str(extract(prefix, IPv6Address(relay.host))), relay.port)
    return relay, sock, []


def _prefix_towards(relay: TransportAddress) -> IPv6Network | None:
    """The NAT64's, where the way to the relay leads through one and the host has no IPv4."""
    if _is_reachable(_SOMEWHERE) or (":" not in relay.host and _is_reachable(relay)):
        return None
    prefix = _ask_for_prefix()
    if prefix is None or ":" not in relay.host:
        return prefix
    return prefix if extract(prefix, IPv6Address(relay.host)) is not None else None


def _is_reachable(address: TransportAddress) -> bool:
    """Whether there is a route; nothing is sent."""
    try:
        local_address_towards(address, 0)
    except QuicpipeLabError:
        return False
    return True


def _ask_for_prefix() -> IPv6Network | None:
    """RFC 7050: the name has no IPv6 address but those that somebody makes up."""
    try:
        found = socket.getaddrinfo(WELL_KNOWN_NAME, None, socket.AF_INET6, socket.SOCK_DGRAM)
    except OSError:
        return None
    prefixes = (prefix_of(IPv6Address(str(one[4][0]).partition("%")[0])) for one in found)
    return next((one for one in prefixes if one is not None), None)
