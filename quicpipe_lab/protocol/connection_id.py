"""Connection IDs that both an endpoint and its relay can derive from one key.

Byte-compatible with the original's ``ConnectionIDGenerator`` (hf/quicpipe, quic.go).
"""

import hashlib

from quicpipe_lab.errors import LocalProtocolError

CONNECTION_ID_LENGTH = 12
"""Bytes of every connection ID, unless configured otherwise on all three sides."""

KEY_LENGTH = 16
"""Bytes of a key made here, and the least that a relay takes."""

LAST_INDEX = 2**32 - 1
"""An ID's index has 4 bytes."""

RELAY_BIT = 0x80
"""The first byte's high bit: set on the IDs of connections with the relay, clear between peers."""


def is_relay_connection_id(connection_id: bytes) -> bool:
    """Whether an ID belongs to a connection with the relay; False for a zero-length ID."""
    return bool(connection_id) and bool(connection_id[0] & RELAY_BIT)


class ConnectionIdGenerator:
    """Connection ID i (1, 2, ...) is BLAKE2b over i, keyed, with the high bit set or cleared.

    ``key``: 1 to 64 bytes. ``relay_leg``: whether the IDs are for connections with the relay.
    ``length``: bytes of an ID, 1 to 20 (RFC 9000, 17.2).
    """

    def __init__(self, key: bytes, *, relay_leg: bool, length: int = CONNECTION_ID_LENGTH) -> None:
        if not 1 <= len(key) <= hashlib.blake2b.MAX_KEY_SIZE:
            raise LocalProtocolError("a connection-ID key has 1 to 64 bytes")
        if not 1 <= length <= 20:
            raise LocalProtocolError("a connection ID has 1 to 20 bytes (RFC 9000, 17.2)")
        self.key = key
        self.relay_leg = relay_leg
        self.length = length
        self.issued = 0
        """How many IDs ``next`` has handed out; the last one's index."""

    def at(self, index: int) -> bytes:
        """The ID of an index, counted from 1 as the original does."""
        digest = bytearray(
            hashlib.blake2b(
                index.to_bytes(4, "big"), key=self.key, digest_size=self.length
            ).digest()
        )
        if self.relay_leg:
            digest[0] |= RELAY_BIT
        else:
            digest[0] &= ~RELAY_BIT & 0xFF
        return bytes(digest)

    def next(self) -> bytes:
        """The next ID."""
        self.issued += 1
        return self.at(self.issued)
