"""What the XDP filter and this program must agree on: xdp/quicpipe_shared.h, in Python.

A test compares the two, name by name and byte by byte.
"""

import ctypes
import ipaddress
from enum import IntEnum

from quicpipe_lab.errors import LocalProtocolError
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.protocol.connection_id import CONNECTION_ID_LENGTH

HOSTS = 8
PORT_WORDS = 1024
_MAPPED = bytes(10) + b"\xff\xff"


class FilterReason(IntEnum):
    """What became of a packet. 0 to 9 are those of ``Reason`` in protocol/forwarding.py."""

    FORWARDED = 0
    TO_RELAY = 1
    NOT_QUIC = 2
    PUNCH = 3
    UNBOUND = 4
    SOURCE_NOT_BOUND = 5
    LOOP = 6
    RATE_LIMITED = 7
    NOT_INITIAL = 8
    BUSY = 9
    LONG_HEADER = 10
    NOT_IP = 11
    NOT_UDP = 12
    OTHER_PORT = 13
    OTHER_HOST = 14
    MALFORMED = 15
    FRAGMENT = 16
    EXTENSION_HEADER = 17
    TTL_EXPIRED = 18
    ZERO_CHECKSUM = 19
    HALF_CHECKSUM = 20
    OTHER_FAMILY = 21
    NO_ROUTE = 22
    TOO_BIG = 23
    UNBOUND_FLOOD = 24


class Layer2(IntEnum):
    """Which MAC address a forwarded packet goes to."""

    SWAP = 1
    """The one that it came from: right on a point-to-point link, and nowhere else for certain."""
    ROUTED = 2
    """What the kernel's routes and neighbours say; the interface must be one that forwards."""


class Address(ctypes.Structure):
    _fields_ = (
        ("words", ctypes.c_uint8 * 16),
        ("port", ctypes.c_uint8 * 2),
        ("zero", ctypes.c_uint16),
    )


class Binding(ctypes.Structure):
    _fields_ = (
        ("to", Address),
        ("tag", ctypes.c_uint32),
        ("id", ctypes.c_uint8 * CONNECTION_ID_LENGTH),
        ("unused", ctypes.c_uint8 * (40 - CONNECTION_ID_LENGTH)),
    )


class Source(ctypes.Structure):
    _fields_ = (
        ("slot", ctypes.c_uint32),
        ("tag", ctypes.c_uint32),
        ("passing", ctypes.c_uint32),
    )


class Flow(ctypes.Structure):
    _fields_ = (
        ("packets", ctypes.c_uint64),
        ("bytes", ctypes.c_uint64),
        ("last_seen_ns", ctypes.c_uint64),
        ("jiffies", ctypes.c_uint32),
        ("tag", ctypes.c_uint32),
        ("sender", ctypes.c_uint32),
        ("sender_tag", ctypes.c_uint32),
        ("interface", ctypes.c_uint32),
        ("is_ipv4", ctypes.c_uint16),
        ("next_hop", ctypes.c_uint16 * 3),
        ("ip_change", ctypes.c_uint16),
        ("udp_change", ctypes.c_uint16),
        ("unused", ctypes.c_uint32),
    )


class Sender(ctypes.Structure):
    _fields_ = (
        ("packets", ctypes.c_uint64),
        ("bytes", ctypes.c_uint64),
        ("last_seen_ns", ctypes.c_uint64),
        ("address", Address),
        ("tag", ctypes.c_uint32),
        ("unused", ctypes.c_uint32 * 4),
    )


class Rejected(ctypes.Structure):
    _fields_ = (("id", ctypes.c_uint8 * CONNECTION_ID_LENGTH), ("source", Address))


class Config(ctypes.Structure):
    _fields_ = (
        ("ports", ctypes.c_uint64 * PORT_WORDS),
        ("hosts4", (ctypes.c_uint8 * 4) * HOSTS),
        ("hosts6", (ctypes.c_uint8 * 16) * HOSTS),
        ("any_host", ctypes.c_uint32),
        ("max_packet_bytes", ctypes.c_uint32),
        ("unbound_interval_ns", ctypes.c_uint64),
        ("unbound_burst_ns", ctypes.c_uint64),
    )


def pack_address(address: TransportAddress) -> bytes:
    """An Address. Raises LocalProtocolError for what is no address that packets can come from."""
    try:
        host = ipaddress.ip_address(address.host)
    except ValueError:
        raise LocalProtocolError(f"no IP address: {address.host!r}") from None
    if isinstance(host, ipaddress.IPv6Address) and host.scope_id is not None:
        raise LocalProtocolError(f"an address of one link only: {address.host}")
    packed = _MAPPED + host.packed if host.version == 4 else host.packed
    return packed + address.port.to_bytes(2, "big") + bytes(2)


def unpack_address(raw: bytes) -> TransportAddress:
    """The reverse."""
    host = ipaddress.IPv4Address(raw[12:16]) if is_mapped(raw) else ipaddress.IPv6Address(raw[:16])
    return TransportAddress(str(host), int.from_bytes(raw[16:18], "big"))


def is_mapped(raw: bytes) -> bool:
    """Whether an Address is one of IPv4."""
    return raw.startswith(_MAPPED)
