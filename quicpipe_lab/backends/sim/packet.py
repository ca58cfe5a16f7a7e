"""Packets, as far as routers, NATs and hosts look at them. Immutable: a router makes a new one.

UDP and what of ICMP goes with it; there are no fragments and no TCP.
"""

from enum import Enum
from typing import NamedTuple

from quicpipe_lab.model.address import TransportAddress

FIRST_TTL = 64
_IPV4_HEADER_BYTES, _IPV6_HEADER_BYTES = 20, 40
_UDP_HEADER_BYTES = _ICMP_HEADER_BYTES = 8
_MOST_ERROR_BYTES = {4: 576, 6: 1280}
"""RFC 1812, 4.3.2.3 and RFC 4443, 2.4 (c): so long may an ICMP error be, with what it quotes."""

MTU_BYTES = 1500
"""Of every interface."""


class Udp(NamedTuple):
    """``flipped_bits``: numbers of those of the IP packet that a link has changed."""

    source: TransportAddress
    destination: TransportAddress
    data: bytes
    ttl: int = FIRST_TTL
    flipped_bits: tuple[int, ...] = ()


class Echo(NamedTuple):
    """ICMP echo request or reply (RFC 792, RFC 4443); source and destination are addresses."""

    source: str
    destination: str
    identifier: int
    sequence: int
    is_reply: bool
    data: bytes = b""
    ttl: int = FIRST_TTL
    flipped_bits: tuple[int, ...] = ()


class IcmpError(NamedTuple):
    """``about``: the packet that it quotes, as the sender of the error saw it."""

    source: str
    destination: str
    type: int
    code: int
    about: Udp | Echo
    ttl: int = FIRST_TTL
    flipped_bits: tuple[int, ...] = ()


Packet = Udp | Echo | IcmpError


class Complaint(Enum):
    """Reasons for ICMP errors: type and code in ICMP, and in ICMPv6."""

    NO_ROUTE = (3, 0), (1, 0)
    PORT_UNREACHABLE = (3, 3), (1, 4)
    ADMIN_PROHIBITED = (3, 13), (1, 1)
    TIME_EXCEEDED = (11, 0), (3, 0)


def destination_of(packet: Packet) -> str:
    """The address."""
    return packet.destination[0] if isinstance(packet, Udp) else packet.destination


def source_of(packet: Packet) -> str:
    """The address."""
    return packet.source[0] if isinstance(packet, Udp) else packet.source


def version_of(host: str) -> int:
    """4 or 6."""
    return 6 if ":" in host else 4


def size_bytes(packet: Packet) -> int:
    """Of the IP packet."""
    if isinstance(packet, Udp):
        header = _IPV6_HEADER_BYTES if ":" in packet.source[0] else _IPV4_HEADER_BYTES
        return header + _UDP_HEADER_BYTES + len(packet.data)
    version = version_of(source_of(packet))
    header = _IPV6_HEADER_BYTES if version == 6 else _IPV4_HEADER_BYTES
    if isinstance(packet, IcmpError):
        whole = header + _ICMP_HEADER_BYTES + size_bytes(packet.about)
        return min(whole, _MOST_ERROR_BYTES[version])
    return header + _ICMP_HEADER_BYTES + len(packet.data)


def has_bad_ip_header(packet: Packet) -> bool:
    """Whether the next router sees that a bit was flipped, and drops it (RFC 791, 3.1).

    IPv6 has no checksum of its own: nobody but the receiver sees it (RFC 8200, 8.1).
    """
    if version_of(source_of(packet)) == 6:
        return False
    return any(bit < _IPV4_HEADER_BYTES * 8 for bit in packet.flipped_bits)


def has_bad_port(packet: Udp, *, source: bool) -> bool:
    """Whether a flipped bit makes it another one's port: the source's, or the destination's."""
    header = _IPV6_HEADER_BYTES if version_of(packet.source.host) == 6 else _IPV4_HEADER_BYTES
    first = (header if source else header + 2) * 8
    return any(first <= bit < first + 16 for bit in packet.flipped_bits)


def flip(packet: Packet, bit: int) -> Packet:
    """With one bit changed, or changed back."""
    bits = packet.flipped_bits
    changed = tuple(one for one in bits if one != bit) if bit in bits else (*bits, bit)
    return packet._replace(flipped_bits=changed)
