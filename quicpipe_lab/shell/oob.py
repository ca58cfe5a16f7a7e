"""Out-of-band channels: how the dialer's first packet reaches the accepter.

``-`` is standard output or input, ``relay:NAME`` a mailbox at the relay, ``qr`` a code in the
terminal, anything else a file. A channel is written by the dialer and read by the accepter.
"""

import base64
import hashlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from quicpipe_lab.errors import BackendUnavailableError, QuicpipeLabError, RemoteProtocolError
from quicpipe_lab.protocol.wire import MAX_ENVELOPE_BYTES, Envelope

MAILBOX_PREFIX = "/v1/mailbox/"


@dataclass(frozen=True, slots=True)
class Channel:
    """``kind``: stdio, file, mailbox or qr. ``name``: the file's path or the mailbox's name."""

    kind: str
    name: str = ""

    @classmethod
    def parse(cls, text: str) -> "Channel":
        """Raises QuicpipeLabError."""
        if text == "-":
            return cls("stdio")
        if text == "qr":
            return cls("qr")
        if text.startswith("relay:"):
            name = text.removeprefix("relay:")
            if not name:
                raise QuicpipeLabError("--oob relay:NAME needs a name that both peers know")
            return cls("mailbox", name)
        return cls("file", text)


def write_file(path: Path, envelope: Envelope) -> None:
    """One line into a file or a FIFO; a file appears whole or not at all."""
    line = envelope.dumps() + "\n"
    try:
        if path.exists() and not path.is_file():
            path.write_text(line, encoding="ascii")
            return
        partial = path.with_name(path.name + ".part")
        try:
            partial.write_text(line, encoding="ascii")
            partial.replace(path)
        except OSError:
            partial.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise QuicpipeLabError(f"cannot write {path}: {error.strerror}") from None


def read_file(path: Path) -> Envelope:
    """The first line of a file or FIFO. Raises QuicpipeLabError or RemoteProtocolError."""
    try:
        with path.open("rb") as file:
            return Envelope.loads(file.readline(MAX_ENVELOPE_BYTES + 1))
    except OSError as error:
        raise QuicpipeLabError(f"cannot read {path}: {error.strerror}") from None


def read_descriptor(descriptor: int) -> Envelope:
    """The first line, byte by byte: what follows it is not ours to read (``--pipe``)."""
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = os.read(descriptor, 1)
        if not byte:
            break
        line += byte
        if len(line) > MAX_ENVELOPE_BYTES:
            break  # Envelope.loads says so
    if not line:
        raise RemoteProtocolError("standard input ended without an out-of-band message")
    return Envelope.loads(bytes(line))


def print_qr(envelope: Envelope, out: TextIO = sys.stderr) -> None:
    """The packet as a QR code of half blocks. Raises BackendUnavailableError without segno.

    A code holds 2953 bytes at most, and the envelope's JSON with its base64 has about 1700.
    """
    try:
        import segno
    except ImportError:
        raise BackendUnavailableError(
            "QR codes need the package segno", "pip install 'quicpipe-lab[qr]'"
        ) from None
    segno.make(envelope.dumps(), error="l", micro=False).terminal(out=out, compact=True)


class Mailbox:
    """A name that both peers know, as the relay sees it: an ID and a sealed body.

    The relay must neither read the packet nor put another in its place, so both are derived from
    the name, and the body is encrypted with it. The name is the secret: make it hard to guess.
    scrypt makes a guess dear for the relay (RFC 7914, parameters for interactive use).
    """

    def __init__(self, name: str) -> None:
        secret = hashlib.scrypt(
            name.encode("utf-8", "surrogateescape"),  # an argument that is not UTF-8 is a name too
            salt=b"quicpipe-lab mailbox",
            n=2**14,
            r=8,
            p=1,
            dklen=64,
        )
        self.path = MAILBOX_PREFIX + base64.urlsafe_b64encode(secret[:24]).decode()
        self._cipher = ChaCha20Poly1305(secret[32:])

    def seal(self, envelope: Envelope) -> bytes:
        """The body for the relay."""
        nonce = os.urandom(12)
        return nonce + self._cipher.encrypt(nonce, envelope.dumps().encode(), self.path.encode())

    def open(self, body: bytes) -> Envelope:
        """The inverse of seal. Raises RemoteProtocolError."""
        try:
            plain = self._cipher.decrypt(body[:12], body[12:], self.path.encode())
        except (InvalidTag, ValueError):
            raise RemoteProtocolError(
                "the mailbox holds something that was not written by this name's owner"
            ) from None
        return Envelope.loads(plain)
