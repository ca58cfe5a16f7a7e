"""QUIC headers as they are on the wire, from real connections of aioquic and from RFC 9001."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quicpipe_lab.protocol.wire import Punch, PunchKind, encode_punch
from quicpipe_lab.traffic.quic import kind_of, quic_packets

CLIENT, SERVER = bytes(range(12)), bytes(range(12, 24))


def long(kind: int, destination: bytes, source: bytes, body: bytes) -> bytes:
    token = b"\x00" if kind == 0 else b""
    ids = bytes([len(destination)]) + destination + bytes([len(source)]) + source
    length = (0x4000 | len(body)).to_bytes(2, "big")
    return bytes([0xC0 | kind << 4]) + b"\x00\x00\x00\x01" + ids + token + length + body


def short(destination: bytes) -> bytes:
    return b"\x43" + destination + bytes(25)


@pytest.mark.parametrize(
    ("payload", "kinds"),
    [
        (long(0, SERVER, CLIENT, bytes(300)), ["initial"]),
        (long(1, SERVER, CLIENT, bytes(30)), ["0-rtt"]),
        (long(3, SERVER, CLIENT, b"token and tag"), ["retry"]),
        (b"\x80" + bytes(4) + b"\x00\x00" + bytes(8), ["version-negotiation"]),
        (short(SERVER), ["1-rtt"]),
        (
            long(0, CLIENT, SERVER, bytes(99)) + long(2, CLIENT, SERVER, b"x") + short(CLIENT),
            ["initial", "handshake", "1-rtt"],
        ),
        (long(0, CLIENT, SERVER, bytes(9)) + bytes(500), ["initial"]),  # padding
        (b"\x43" + bytes(11), []),
        (b"", []),
    ],
)
def test_packets_of_a_datagram(payload: bytes, kinds: list[str]) -> None:
    assert [packet.kind for packet in quic_packets(payload)] == kinds


def test_ids() -> None:
    packets = quic_packets(long(2, CLIENT, SERVER, bytes(40)) + short(CLIENT))
    assert [(one.destination, one.source) for one in packets] == [(CLIENT, SERVER), (CLIENT, b"")]


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(payload: bytes) -> None:
    assert kind_of(payload) in {"quic", "punch", "stun", "udp"}
    for packet in quic_packets(payload):
        assert len(packet.destination) <= 255


def test_real_punches_are_known_as_such() -> None:
    for kind in PunchKind:
        assert kind_of(encode_punch(Punch(kind, True, bytes(8)), bytes(32))) == "punch"
    assert kind_of(b"\x00\x01\x00\x00\x21\x12\xa4\x42" + bytes(12)) == "stun"
    assert kind_of(b"x" * 26) == "quic"  # 0x78 has the fixed bit
    assert kind_of(b"\x01" * 26) == "udp"
