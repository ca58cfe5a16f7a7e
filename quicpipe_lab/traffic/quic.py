"""What a QUIC v1 datagram shows without keys: its packets, their types and IDs (RFC 9000, 17).

Unlike the protocol's parse_invariants, which looks at the first packet alone, this takes coalesced
datagrams apart (RFC 9000, 12.2), and also names punch datagrams and STUN.
"""

from typing import Literal, NamedTuple

ID_BYTES = 12
"""Of short headers' connection IDs, as everywhere in the project."""

Kind = Literal["initial", "0-rtt", "handshake", "retry", "version-negotiation", "1-rtt"]
_LONG: tuple[Kind, ...] = ("initial", "0-rtt", "handshake", "retry")

PUNCH_BYTES = 26
PUNCHES = {0x0C: "punch", 0x0D: "punch-answer"}
"""The first byte of punch datagrams (protocol/wire.py)."""
_STUN_COOKIE = b"\x21\x12\xa4\x42"


class QuicPacket(NamedTuple):
    """One packet of a datagram; ``source`` is empty in a short header."""

    kind: Kind
    destination: bytes
    source: bytes

    @property
    def is_long(self) -> bool:
        """Whether it has a long header."""
        return self.kind != "1-rtt"


def quic_packets(payload: bytes) -> list[QuicPacket]:
    """As many as can be told; none where it is not QUIC."""
    found: list[QuicPacket] = []
    at = 0
    try:
        while at < len(payload):
            first = payload[at]
            if not first & 0x80:
                destination = payload[at + 1 : at + 1 + ID_BYTES]
                if first & 0x40 and len(destination) == ID_BYTES:
                    found.append(QuicPacket("1-rtt", destination, b""))
                break
            packet, at = _long(payload, at)
            found.append(packet)
    except IndexError:
        pass  # cut off, or not QUIC after all
    return found


def is_punch(payload: bytes) -> bool:
    """Whether it looks like a punch datagram; only the peers can say for certain."""
    return len(payload) == PUNCH_BYTES and payload[0] in PUNCHES and payload[1] <= 1


def kind_of(payload: bytes) -> str:
    """``quic``, ``punch``, ``stun`` or ``udp``."""
    if is_punch(payload):
        return "punch"
    if payload[:1] and payload[0] & 0x40:
        return "quic"
    return "stun" if payload[4:8] == _STUN_COOKIE else "udp"


def _long(payload: bytes, at: int) -> tuple[QuicPacket, int]:
    """A packet with a long header, and where the next one begins."""
    first, version = payload[at], payload[at + 1 : at + 5]
    start = at + 6
    destination_end = start + payload[start - 1]
    source_end = destination_end + 1 + payload[destination_end]
    if source_end > len(payload):
        raise IndexError
    ids = payload[start:destination_end], payload[destination_end + 1 : source_end]
    if version == bytes(4):
        return QuicPacket("version-negotiation", *ids), len(payload)
    kind = _LONG[first >> 4 & 3]
    if kind == "retry":
        return QuicPacket(kind, *ids), len(payload)
    here = source_end
    if kind == "initial":
        size, here = _number(payload, here)
        here += size
    length, here = _number(payload, here)
    return QuicPacket(kind, *ids), here + length


def _number(payload: bytes, at: int) -> tuple[int, int]:
    """A variable-length integer (RFC 9000, 16) and where it ends."""
    size = 1 << (payload[at] >> 6)
    value = int.from_bytes(payload[at : at + size], "big") & (1 << 8 * size - 2) - 1
    return value, at + size
