"""Keys and certificates that a seed decides, for nodes that are nowhere."""

import datetime
import hashlib

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from quicpipe_lab.shell.certificates import self_signed

EPOCH = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
"""When every simulated run begins: a date like any other, and plainly not today's."""


def identity(seed: int, role: str) -> tuple[x509.Certificate, Ed25519PrivateKey]:
    """What a program shows its peers. Ed25519 signs without randomness (RFC 8032, 5.1.6)."""
    drawn = hashlib.blake2b(f"{seed}/{role}".encode(), person=b"quicpipe-sim").digest()
    key = Ed25519PrivateKey.from_private_bytes(drawn[:32])
    serial_number = int.from_bytes(drawn[32:48], "big") >> 1 or 1  # RFC 5280, 4.1.2.2
    return self_signed(key, serial_number, EPOCH), key
