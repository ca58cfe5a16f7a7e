"""Every decoder of wire.py: its encoder's inverse, and never anything but its own errors."""

import base64
import json

import pytest
from aioquic.buffer import Buffer  # type: ignore[attr-defined] # re-exported, not declared
from aioquic.h3.connection import H3_ALPN
from aioquic.quic.packet import pull_quic_header
from hypothesis import given
from hypothesis import strategies as st

from quicpipe_lab.errors import RemoteProtocolError
from quicpipe_lab.protocol.connection_id import ConnectionIdGenerator
from quicpipe_lab.protocol.quic import Connection
from quicpipe_lab.protocol.quic_configuration import standard_configuration
from quicpipe_lab.protocol.wire import (
    PUNCH_KEY_LENGTH,
    PUNCH_LENGTH,
    Envelope,
    Invariants,
    Punch,
    PunchKind,
    Registration,
    RequestError,
    check_initial,
    decode_punch,
    decode_registration,
    encode_punch,
    encode_registration,
    parse_invariants,
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def real_initial() -> bytes:
    """As aioquic's client makes it."""
    ids = ConnectionIdGenerator(b"k" * 16, relay_leg=False)
    client = Connection(standard_configuration(is_client=True, alpn=H3_ALPN), ids)
    client.connect(("198.18.0.1", 1), 0.0)
    ((data, _),) = client.datagrams_to_send(0.0)
    return data


INITIAL = real_initial()


class TestInvariants:
    @given(
        st.integers(0, 255),
        st.integers(0, 2**32 - 1),
        st.binary(max_size=255),
        st.binary(max_size=255),
        st.binary(max_size=30),
    )
    def test_long_headers(
        self, first: int, version: int, destination: bytes, source: bytes, rest: bytes
    ) -> None:
        """RFC 8999, 5.1, built field by field."""
        data = bytes([first | 0x80]) + version.to_bytes(4, "big")
        data += bytes([len(destination)]) + destination + bytes([len(source)]) + source
        assert parse_invariants(data + rest) == Invariants(True, version, destination, source)
        for end in range(len(data)):
            assert parse_invariants(data[:end]) is None

    @given(st.integers(0, 127), st.integers(0, 20), st.binary(min_size=20, max_size=40))
    def test_short_headers(self, first: int, length: int, rest: bytes) -> None:
        data = bytes([first]) + rest
        expected = Invariants(False, None, rest[:length], b"")
        assert parse_invariants(data, length) == expected
        assert parse_invariants(data[: 1 + length], length) == expected
        assert parse_invariants(data[:length], length) is None

    @given(st.binary(max_size=80))
    def test_as_aioquic_reads_them(self, data: bytes) -> None:
        ours = parse_invariants(data)
        try:
            theirs = pull_quic_header(Buffer(data=data), host_cid_length=12)
        except ValueError:
            return  # it checks more than the invariants
        assert ours is not None
        assert ours.destination == theirs.destination_cid
        assert ours.source == theirs.source_cid
        assert ours.version == theirs.version


class TestInitial:
    def test_a_real_one(self) -> None:
        header = check_initial(INITIAL)
        assert header.source == ConnectionIdGenerator(b"k" * 16, relay_leg=False).at(1)

    @pytest.mark.parametrize(
        ("data", "says"),
        [
            (b"", "not a QUIC long header"),
            (b"\x41" + bytes(1199), "not a QUIC long header"),
            (bytes([INITIAL[0] & ~0x40]) + INITIAL[1:], "not a QUIC long header"),
            (INITIAL[:1] + b"\x6b\x33\x43\xcf" + INITIAL[5:], "version 0x6b3343cf"),
            (bytes([INITIAL[0] | 0x10]) + INITIAL[1:], "not an Initial"),
            (bytes([INITIAL[0] | 0x20]) + INITIAL[1:], "not an Initial"),
            (bytes([INITIAL[0] | 0x30]) + INITIAL[1:], "not an Initial"),
            (INITIAL[:1199], "below 1200"),
            (INITIAL[:5] + b"\x07" + INITIAL[6:13] + b"\x0c" + bytes(1200), "wrong length"),
            (INITIAL[:5] + b"\x15" + bytes(21) + b"\x0c" + bytes(1200), "wrong length"),
            (INITIAL[:5] + b"\x0c" + bytes(12) + b"\x15" + bytes(1200), "wrong length"),
        ],
    )
    def test_what_is_none(self, data: bytes, says: str) -> None:
        with pytest.raises(RemoteProtocolError, match=says):
            check_initial(data)

    @given(st.binary(max_size=1300))
    def test_anything(self, data: bytes) -> None:
        try:
            header = check_initial(data)
        except RemoteProtocolError:
            return
        assert header.is_long


class TestRegistration:
    @given(st.binary(min_size=16, max_size=64), st.integers(1, 2**31), st.integers(0, 2**31))
    def test_round_trip(self, key: bytes, first: int, more: int) -> None:
        registration = Registration(key, first + more, first)
        assert decode_registration(encode_registration(registration)) == registration

    def test_as_go_writes_it(self) -> None:
        """json.Marshal of struct{Key []byte `json:"key"`; Num int `json:"num"`}."""
        body = encode_registration(Registration(bytes(range(240, 256)), 10))
        assert body == b'{"key":"8PHy8/T19vf4+fr7/P3+/w==","num":10}'

    def test_what_is_given_back_is_a_field_that_go_ignores(self) -> None:
        body = encode_registration(Registration(bytes(range(240, 256)), 320, 250))
        assert body == b'{"key":"8PHy8/T19vf4+fr7/P3+/w==","num":320,"first":250}'

    @given(st.binary(max_size=100) | json_values.map(lambda value: json.dumps(value).encode()))
    def test_anything(self, body: bytes) -> None:
        try:
            decode_registration(body)
        except RequestError as error:
            assert error.status in (400, 413)

    @given(json_values | st.just("A" * 22 + "=="), json_values, json_values)
    def test_any_fields(self, key: object, num: object, first: object) -> None:
        body = json.dumps({"key": key, "num": num, "first": first})
        try:
            registration = decode_registration(body.encode())
        except RequestError as error:
            assert error.status == 400
            return
        assert 16 <= len(registration.key) <= 64
        assert 1 <= registration.first <= registration.num

    def test_a_number_of_more_digits_than_python_reads(self) -> None:
        body = b'{"key":"AAECAwQFBgcICQoLDA0ODw==","num":' + b"9" * 5000 + b"}"
        with pytest.raises(RequestError, match="not a registration") as caught:
            decode_registration(body)
        assert caught.value.status == 400
        assert caught.value.problem == "not a registration: a number has too many digits"


class TestEnvelope:
    @given(st.none() | st.text(max_size=40))
    def test_round_trip(self, relay: str | None) -> None:
        envelope = Envelope(INITIAL, relay)
        assert "\n" not in envelope.dumps()
        assert Envelope.loads(envelope.dumps()) == envelope

    def test_the_originals_form_and_unknown_fields(self) -> None:
        packet = base64.b64encode(INITIAL).decode()
        assert Envelope.loads(f'{{"packet":"{packet}"}}\n') == Envelope(INITIAL)
        assert Envelope.loads(json.dumps({"packet": packet, "new": [1]})) == Envelope(INITIAL)

    @given(st.binary(max_size=100) | st.text(max_size=100))
    def test_anything(self, text: str | bytes) -> None:
        with pytest.raises(RemoteProtocolError):
            Envelope.loads(text)

    @given(json_values)
    def test_any_fields(self, value: object) -> None:
        with pytest.raises(RemoteProtocolError):
            Envelope.loads(json.dumps({"packet": value, "relay": value}))

    def test_too_long(self) -> None:
        with pytest.raises(RemoteProtocolError, match="over 4096"):
            Envelope.loads(" " * 4097)


class TestPunch:
    keys = st.binary(min_size=PUNCH_KEY_LENGTH, max_size=PUNCH_KEY_LENGTH)
    punches = st.builds(
        Punch, st.sampled_from(PunchKind), st.booleans(), st.binary(min_size=8, max_size=8)
    )

    @given(punches, keys)
    def test_round_trip(self, punch: Punch, key: bytes) -> None:
        data = encode_punch(punch, key)
        assert len(data) == PUNCH_LENGTH
        assert data[0] < 0x40  # no QUIC packet (RFC 9443)
        assert decode_punch(data, key) == punch

    @given(punches, keys, keys)
    def test_another_key(self, punch: Punch, key: bytes, other: bytes) -> None:
        if key != other:
            assert decode_punch(encode_punch(punch, key), other) is None

    @given(punches, keys, st.integers(0, PUNCH_LENGTH * 8 - 1))
    def test_any_flipped_bit(self, punch: Punch, key: bytes, bit: int) -> None:
        data = bytearray(encode_punch(punch, key))
        data[bit // 8] ^= 1 << bit % 8
        assert decode_punch(bytes(data), key) is None

    @given(st.binary(max_size=40), keys)
    def test_anything(self, data: bytes, key: bytes) -> None:
        assert decode_punch(data, key) is None
