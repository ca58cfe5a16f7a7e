"""Simulated packets as the Ethernet frames that a capture of a real lab would have."""

import hashlib
import struct
from functools import lru_cache
from ipaddress import ip_address

from quicpipe_lab.backends.sim.packet import (
    Echo,
    IcmpError,
    Packet,
    Udp,
    destination_of,
    size_bytes,
    source_of,
)

_ETHERTYPES = {4: b"\x08\x00", 6: b"\x86\xdd"}
_UDP, _ICMP, _ICMPV6 = 17, 1, 58
_DONT_FRAGMENT = 0x4000
"""As Linux sets it in what a UDP socket sends (ip(7), IP_MTU_DISCOVER)."""
_IPV4 = struct.Struct("!BxH2xHBBH8s")
"""Version and length, total length, flags, TTL, protocol, checksum, both addresses."""
_IPV6 = struct.Struct("!IHBB32s")
_UDP_HEADER = struct.Struct("!4H")
_ICMP_HEADER = struct.Struct("!BBHHH")
_ECHO_TYPES = {(4, False): 8, (4, True): 0, (6, False): 128, (6, True): 129}


@lru_cache(maxsize=4096)
def mac_address(node: str, interface: str) -> bytes:
    """A locally administered address (IEEE 802, 8.4), the same for the same names."""
    digest = hashlib.blake2b(f"{node}/{interface}".encode(), digest_size=5)
    return b"\x02" + digest.digest()


def ethernet_frame(packet: Packet, source_mac: bytes, destination_mac: bytes) -> bytes:
    """A packet on its way from one interface to another."""
    version = 6 if ":" in source_of(packet) else 4
    data = ip_packet(packet, version)
    if packet.flipped_bits:
        data = _flipped(data, packet.flipped_bits)
    return destination_mac + source_mac + _ETHERTYPES[version] + data


def ip_packet(packet: Packet, version: int) -> bytes:
    """All checksums are right, as if no bit had been flipped."""
    ends = _packed(source_of(packet)) + _packed(destination_of(packet))
    if isinstance(packet, Udp):
        protocol, payload = _UDP, _udp(packet, ends)
    else:
        protocol, payload = (_ICMPV6, _ICMP)[version == 4], _icmp(packet, version, ends)
    if version == 6:
        return _IPV6.pack(6 << 28, len(payload), protocol, packet.ttl, ends) + payload
    total, ttl = 20 + len(payload), packet.ttl
    bare = _IPV4.pack(0x45, total, _DONT_FRAGMENT, ttl, protocol, 0, ends)
    return _IPV4.pack(0x45, total, _DONT_FRAGMENT, ttl, protocol, _checksum(bare), ends) + payload


def _udp(packet: Udp, ends: bytes) -> bytes:
    length = 8 + len(packet.data)
    ports = packet.source.port, packet.destination.port
    pseudo = ends + struct.pack("!HH", _UDP, length)
    bare = _UDP_HEADER.pack(*ports, length, 0)
    # A zero checksum says that there is none (RFC 768), so the sum 0 is sent as its complement.
    return _UDP_HEADER.pack(*ports, length, _checksum(pseudo + bare + packet.data) or 0xFFFF) + (
        packet.data
    )


def _icmp(packet: Echo | IcmpError, version: int, ends: bytes) -> bytes:
    if isinstance(packet, Echo):
        kind = _ECHO_TYPES[version, packet.is_reply]
        head, data = (kind, 0, packet.identifier, packet.sequence), packet.data
    else:
        head, data = (packet.type, packet.code, 0, 0), ip_packet(packet.about, version)
        data = data[: size_bytes(packet) - (28 if version == 4 else 48)]
    kind, code, *rest = head
    bare = _ICMP_HEADER.pack(kind, code, 0, *rest) + data
    # ICMPv6's is over a pseudo-header too (RFC 4443, 2.3).
    pseudo = ends + struct.pack("!IHH", len(bare), 0, _ICMPV6) if version == 6 else b""
    return _ICMP_HEADER.pack(kind, code, _checksum(pseudo + bare), *rest) + data


def _checksum(data: bytes) -> int:
    """RFC 1071. The sum of 16-bit words with end-around carry is the whole number's rest modulo
    65535, where 65535 stands for 0 in all but the empty sum: fifty times as fast as adding."""
    if len(data) % 2:
        data += b"\x00"
    number = int.from_bytes(data, "big")
    return ~(number % 0xFFFF or (0xFFFF if number else 0)) & 0xFFFF


@lru_cache(maxsize=4096)
def _packed(host: str) -> bytes:
    return ip_address(host).packed


def _flipped(data: bytes, bits: tuple[int, ...]) -> bytes:
    changed = bytearray(data)
    for bit in bits:
        changed[bit // 8] ^= 0x80 >> bit % 8
    return bytes(changed)
