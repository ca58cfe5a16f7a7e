"""What travels: QUIC's invariants, register messages, the out-of-band envelope, punch datagrams.

Every decoder takes bytes from a stranger and either returns a value or raises; it never guesses.
"""

import base64
import binascii
import hashlib
import hmac
import json
import re
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

from quicpipe_lab.errors import RemoteProtocolError
from quicpipe_lab.protocol.connection_id import CONNECTION_ID_LENGTH, KEY_LENGTH

QUIC_VERSION_1 = 1
MIN_INITIAL_BYTES = 1200
"""RFC 9000, 14.1: a datagram with a client's Initial is at least so long."""


# QUIC's invariants (RFC 8999)


class Invariants(NamedTuple):
    """What every version of QUIC shows without keys. ``version`` is None in a short header."""

    is_long: bool
    version: int | None
    destination: bytes
    source: bytes


def parse_invariants(data: bytes, length: int = CONNECTION_ID_LENGTH) -> Invariants | None:
    """RFC 8999, 5; None where the bytes are too few. ``length``: of a short header's ID."""
    if not data:
        return None
    if not data[0] & 0x80:
        if len(data) < 1 + length:
            return None
        return Invariants(False, None, bytes(data[1 : 1 + length]), b"")
    if len(data) < 7:
        return None
    version, destination_length = struct.unpack_from("!IB", data, 1)
    source_at = 6 + destination_length
    if len(data) <= source_at:
        return None
    end = source_at + 1 + data[source_at]
    if len(data) < end:
        return None
    return Invariants(True, version, bytes(data[6:source_at]), bytes(data[source_at + 1 : end]))


def check_initial(data: bytes) -> Invariants:
    """The invariants of a datagram that begins with a client's QUIC v1 Initial.

    Raises RemoteProtocolError that says what else it is.
    """
    header = parse_invariants(data)
    if header is None or not header.is_long or not data[0] & 0x40:
        raise RemoteProtocolError("not a QUIC long header", "RFC 9000, 17.2")
    if header.version != QUIC_VERSION_1:
        raise RemoteProtocolError(f"QUIC version {header.version:#x}, not 1", "RFC 9000, 15")
    if data[0] & 0x30:
        raise RemoteProtocolError("a long header, but not an Initial", "RFC 9000, 17.2.2")
    if not 8 <= len(header.destination) <= 20 or len(header.source) > 20:
        raise RemoteProtocolError("connection IDs of a wrong length", "RFC 9000, 7.2")
    if len(data) < MIN_INITIAL_BYTES:
        raise RemoteProtocolError(
            f"an Initial in a datagram of {len(data)} bytes, below 1200", "RFC 9000, 14.1"
        )
    return header


# Registration: POST /v1/register

REGISTER_PATH = "/v1/register"
MAX_BODY_BYTES = 8192
OBSERVED_ADDRESS_HEADER = "quicpipe-observed-address"
"""The response header in which our relay tells a client where it was seen. Others leave it out."""


class RequestError(Exception):
    """A request to be refused: an HTTP status and one line."""

    def __init__(self, status: int, problem: str) -> None:
        super().__init__(problem)
        self.status = status
        self.problem = problem


def is_bearer_token(text: str) -> bool:
    """Whether a text can stand in an Authorization header (RFC 6750, 2.1, and what others use)."""
    return bool(re.fullmatch("[!-~]{1,4096}", text))


class Registration(NamedTuple):
    """The connection IDs ``first`` to ``num`` of ``key`` belong to whoever asks, who has no use
    any more for those before ``first``.

    The original has no ``first`` and ignores it: its relay goes on to forward to all ``num``.
    """

    key: bytes
    num: int
    first: int = 1


def encode_registration(registration: Registration) -> bytes:
    """The body of the request, as the original's ``encoding/json`` writes it."""
    key, num, first = registration
    body: dict[str, Any] = {"key": _to_base64(key), "num": num}
    if first > 1:
        body["first"] = first
    return json.dumps(body, separators=(",", ":")).encode()


def decode_registration(body: bytes) -> Registration:
    """Raises RequestError with 400 or 413. How large ``num`` may be is the relay's policy."""
    if len(body) > MAX_BODY_BYTES:
        raise RequestError(413, f"the body is over {MAX_BODY_BYTES} bytes")
    try:
        data = _json_object(body)
        key = _from_base64(data["key"])
        num = data["num"]
        first = data.get("first", 1)
    except (ValueError, KeyError) as error:
        raise RequestError(400, f"not a registration: {error}") from None
    if not KEY_LENGTH <= len(key) <= hashlib.blake2b.MAX_KEY_SIZE:
        raise RequestError(400, f"the key has {len(key)} bytes, not {KEY_LENGTH} to 64")
    if not isinstance(num, int) or isinstance(num, bool) or num < 1:
        raise RequestError(400, "num is not a positive integer")
    if not isinstance(first, int) or isinstance(first, bool) or not 1 <= first <= num:
        raise RequestError(400, "first is not an integer from 1 to num")
    return Registration(key, num, first)


# The out-of-band envelope

MAX_ENVELOPE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Envelope:
    """The dialer's first datagram on its way out of band, and what else helps the accepter.

    ``relay``: where the dialer is registered, as ``HOST:PORT``; the bare form has none.
    """

    packet: bytes
    relay: str | None = None

    def dumps(self) -> str:
        """One line of JSON, readable by the original's accepter."""
        data: dict[str, Any] = {"packet": _to_base64(self.packet)}
        if self.relay is not None:
            data["relay"] = self.relay
        return json.dumps(data)

    @classmethod
    def loads(cls, text: str | bytes) -> "Envelope":
        """Raises RemoteProtocolError; ignores fields that it does not know."""
        if len(text) > MAX_ENVELOPE_BYTES:
            raise RemoteProtocolError(f"an out-of-band message over {MAX_ENVELOPE_BYTES} bytes")
        try:
            data = _json_object(text)
            packet = _from_base64(data["packet"])
        except KeyError:
            raise RemoteProtocolError("the out-of-band message has no field 'packet'") from None
        except ValueError as error:
            raise RemoteProtocolError(f"not an out-of-band message: {error}") from None
        relay = data.get("relay")
        if relay is not None and not isinstance(relay, str):
            raise RemoteProtocolError("the out-of-band message's 'relay' is not a string")
        check_initial(packet)
        return cls(packet, relay)


# Punch datagrams: not QUIC, so that their loss costs the connection nothing


class PunchKind(IntEnum):
    """The first byte. RFC 9443 leaves 4 to 15 to nobody that shares a port with QUIC."""

    PING = 0x0C
    PONG = 0x0D


PUNCH_KEY_LENGTH = 32
_TRANSACTION_LENGTH = 8
_TAG_LENGTH = 16
PUNCH_LENGTH = 2 + _TRANSACTION_LENGTH + _TAG_LENGTH


class Punch(NamedTuple):
    """``from_dialer`` keeps a peer's own datagram from being reflected to it as the other's."""

    kind: PunchKind
    from_dialer: bool
    transaction: bytes


def encode_punch(punch: Punch, key: bytes) -> bytes:
    """26 bytes: kind, sender, transaction, BLAKE2b tag over them."""
    head = bytes((punch.kind, punch.from_dialer)) + punch.transaction
    return head + _tag(head, key)


def decode_punch(data: bytes, key: bytes) -> Punch | None:
    """None where it is not one or was not made with ``key``."""
    if len(data) != PUNCH_LENGTH or data[0] not in (PunchKind.PING, PunchKind.PONG):
        return None
    head, tag = data[:-_TAG_LENGTH], data[-_TAG_LENGTH:]
    if data[1] > 1 or not hmac.compare_digest(tag, _tag(head, key)):
        return None
    return Punch(PunchKind(data[0]), bool(data[1]), bytes(head[2:]))


def _tag(head: bytes, key: bytes) -> bytes:
    return hashlib.blake2b(
        head, key=key, digest_size=_TAG_LENGTH, person=b"quicpipe-punch"
    ).digest()


def _to_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _from_base64(text: Any) -> bytes:
    if not isinstance(text, str):
        raise ValueError("base64 text was expected")
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"not base64: {error}") from None


def _json_object(text: str | bytes) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except (UnicodeDecodeError, RecursionError):
        raise ValueError("not JSON") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from None
    except ValueError:  # Python's own limit, against quadratic time, and its advice to programmers
        raise ValueError("a number has too many digits") from None
    if not isinstance(data, dict):
        raise ValueError("not a JSON object")
    return data
