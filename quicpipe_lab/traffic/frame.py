"""A captured frame, and the UDP datagram in it."""

import ipaddress
import struct
from functools import lru_cache
from typing import Literal, NamedTuple

from quicpipe_lab.model.address import TransportAddress

Direction = Literal["in", "out"]

OUT_OF_BAND = "oob"
"""The interface of packets that crossed none: what was carried out of band."""

_ETHERNET_BYTES = 14
_IPV4, _IPV6 = b"\x08\x00", b"\x86\xdd"
_UDP = 17
_PORTS = struct.Struct("!HHH")
"""Source, destination, length of header and payload."""
_UDP_BYTES = 8
_COMMON = struct.Struct("!12x2sB5xHBB2x4s4s3H2x")
"""Ethernet, IPv4 without options and UDP in one go: nearly all frames are such."""
_ETHERTYPES = {_IPV4: "ip", _IPV6: "ip6", b"\x08\x06": "arp"}
_PROTOCOLS = {1: "icmp", 6: "tcp", _UDP: "udp", 58: "icmp6"}


class CapturedFrame(NamedTuple):
    """One frame of a capture; ``time_ns`` is Unix time, taken by the kernel.

    ``true_bytes`` is its length before any cut, 0 where it was not cut.
    """

    time_ns: int
    node: str
    interface: str
    direction: Direction
    data: bytes
    comment: str | None = None
    true_bytes: int = 0

    @property
    def place(self) -> str:
        """The name of its interface in the file: ``node/interface``."""
        return f"{self.node}/{self.interface}" if self.interface else self.node


class Datagram(NamedTuple):
    """A UDP datagram; ``ttl`` is IPv6's hop limit too."""

    source: TransportAddress
    destination: TransportAddress
    ttl: int
    payload: bytes


def datagram_of(frame: bytes) -> Datagram | None:
    """The UDP datagram of an Ethernet frame; None where there is none, or a fragment of one."""
    if len(frame) < _COMMON.size:
        return None
    kind, head, fragment, ttl, protocol, *ends, length = _COMMON.unpack_from(frame)
    if kind == _IPV4 and head == 0x45 and protocol == _UDP and not fragment & 0x3FFF:
        source, destination, source_port, destination_port = ends
        return Datagram(
            _address(source, source_port),
            _address(destination, destination_port),
            ttl,
            frame[_COMMON.size : _COMMON.size - _UDP_BYTES + length],
        )
    if kind == _IPV4:
        return _in_ipv4(frame)
    return _in_ipv6(frame) if kind == _IPV6 else None


def protocol_of(frame: bytes) -> str:
    """A word for what a frame carries, as far as it can be told."""
    kind = frame[12:14]
    at = {_IPV4: 23, _IPV6: 20}.get(kind)
    if at is not None and len(frame) > at:
        return _PROTOCOLS.get(frame[at], "ip")
    return _ETHERTYPES.get(kind, "other")


def identity_of(frame: bytes) -> bytes:
    """What of a frame without a datagram routers leave as it is: all above the IP header."""
    if frame[12:14] == _IPV4 and len(frame) > _ETHERNET_BYTES:
        return frame[_ETHERNET_BYTES + 4 * (frame[_ETHERNET_BYTES] & 0x0F) :]
    if frame[12:14] == _IPV6:
        return frame[_ETHERNET_BYTES + 40 :]
    return frame[12:]


def _in_ipv4(frame: bytes) -> Datagram | None:
    if len(frame) < _ETHERNET_BYTES + 20 or frame[23] != _UDP:
        return None
    if frame[20] & 0x3F or frame[21]:
        return None  # a fragment (RFC 791, 3.1)
    start = _ETHERNET_BYTES + 4 * (frame[_ETHERNET_BYTES] & 0x0F)
    return _datagram(frame, start, frame[26:30], frame[30:34], frame[22])


def _in_ipv6(frame: bytes) -> Datagram | None:
    if len(frame) < _ETHERNET_BYTES + 40 or frame[20] != _UDP:
        return None
    return _datagram(frame, _ETHERNET_BYTES + 40, frame[22:38], frame[38:54], frame[21])


def _datagram(
    frame: bytes,
    start: int,
    source: bytes,
    destination: bytes,
    ttl: int,
) -> Datagram | None:
    if len(frame) < start + _UDP_BYTES:
        return None
    source_port, destination_port, length = _PORTS.unpack_from(frame, start)
    return Datagram(
        _address(source, source_port),
        _address(destination, destination_port),
        ttl,
        frame[start + _UDP_BYTES : start + length],
    )


@lru_cache(maxsize=4096)
def _address(host: bytes, port: int) -> TransportAddress:
    return TransportAddress(str(ipaddress.ip_address(host)), port)


# The way back, for what never was in a frame


def frame_with(source: TransportAddress, destination: TransportAddress, payload: bytes) -> bytes:
    """An Ethernet frame with a UDP datagram between two addresses of one family."""
    ends = [ipaddress.ip_address(one.host) for one in (source, destination)]
    length = _UDP_BYTES + len(payload)
    udp = struct.pack("!HHHH", source.port, destination.port, length, 0)
    pseudo = b"".join(end.packed for end in ends) + struct.pack("!HxB", length, _UDP)
    # A zero checksum says that there is none (RFC 768), so the sum 0 is sent as its complement.
    udp = udp[:6] + struct.pack("!H", _checksum(pseudo + udp + payload) or 0xFFFF)
    if ends[0].version == 6:
        head = struct.pack("!IHBB", 6 << 28, length, _UDP, 64) + pseudo[:32]
        return bytes(12) + _IPV6 + head + udp + payload
    head = struct.pack("!BxHxxHBBxx", 0x45, 20 + length, 0x4000, 64, _UDP) + pseudo[:8]
    head = head[:10] + struct.pack("!H", _checksum(head)) + head[12:]
    return bytes(12) + _IPV4 + head + udp + payload


def _checksum(data: bytes) -> int:
    """RFC 1071."""
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
