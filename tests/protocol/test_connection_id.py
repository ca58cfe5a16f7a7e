"""Connection IDs against vectors that were computed without this package."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quicpipe_lab.errors import LocalProtocolError
from quicpipe_lab.protocol.connection_id import ConnectionIdGenerator, is_relay_connection_id

# OpenSSL's BLAKE2b, which is not Python's: printf '\x00\x00\x00\x01' |
# openssl mac -macopt hexkey:000102030405060708090a0b0c0d0e0f -macopt size:12 BLAKE2BMAC
DIGESTS = [
    (bytes(range(16)), 1, "ab5c2c4c9385fb1b29934723"),
    (bytes(range(16)), 2, "c48d3e851ea76b693aaa05aa"),
    (bytes(range(16)), 3, "fb57d0e9aeecda0c1a110265"),
    (b"\xff" * 16, 1, "25b53d472c8b9d4356ad9edd"),
    (b"\x00" * 64, 256, "d69eb0add913c95492b90f84"),
    (b"k", 2**32 - 1, "c6eab1f12b7d32f2b2c3b323"),
    (bytes(range(16)), 1, "e2b5dbf4d7dad1f30c9fbc5fa22adebf383616fe"),
    (bytes(range(16)), 1, "738f671d"),
]


@pytest.mark.parametrize(("key", "index", "hexadecimal"), DIGESTS)
def test_ids_are_the_digest_with_the_leg_in_its_high_bit(
    key: bytes, index: int, hexadecimal: str
) -> None:
    digest = bytes.fromhex(hexadecimal)
    peer = ConnectionIdGenerator(key, relay_leg=False, length=len(digest)).at(index)
    relay = ConnectionIdGenerator(key, relay_leg=True, length=len(digest)).at(index)
    assert peer == bytes([digest[0] & 0x7F]) + digest[1:]
    assert relay == bytes([digest[0] | 0x80]) + digest[1:]


def test_ids_are_counted_from_one() -> None:
    generator = ConnectionIdGenerator(bytes(range(16)), relay_leg=False)
    assert [generator.next() for _ in range(3)] == [generator.at(index) for index in (1, 2, 3)]
    assert generator.issued == 3


@given(st.binary(min_size=1, max_size=64), st.integers(1, 20), st.booleans(), st.integers(1, 500))
def test_properties(key: bytes, length: int, relay_leg: bool, index: int) -> None:
    generator = ConnectionIdGenerator(key, relay_leg=relay_leg, length=length)
    connection_id = generator.at(index)
    assert len(connection_id) == length
    assert is_relay_connection_id(connection_id) == relay_leg
    digest = hashlib.blake2b(index.to_bytes(4, "big"), key=key, digest_size=length).digest()
    assert connection_id[1:] == digest[1:]
    assert (connection_id[0] ^ digest[0]) & 0x7F == 0


def test_an_empty_id_is_nobodys() -> None:
    assert not is_relay_connection_id(b"")


@pytest.mark.parametrize(("key", "length"), [(b"", 12), (b"k" * 65, 12), (b"k", 0), (b"k", 21)])
def test_impossible_generators(key: bytes, length: int) -> None:
    with pytest.raises(LocalProtocolError):
        ConnectionIdGenerator(key, relay_leg=True, length=length)
