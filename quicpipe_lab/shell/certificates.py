"""The self-signed certificate of a relay or an accepter: made on first use, pinned by peers."""

import datetime
import os
import stat
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from quicpipe_lab.errors import QuicpipeLabError

IDENTITY_FILE = "identity.pem"
"""Private key and certificate in one file, so that they cannot come apart."""

_VALID_FOR = datetime.timedelta(days=100 * 365)
"""As long as the original's: whoever pins a fingerprint has no use for an expiry."""


def load_or_create(directory: Path) -> tuple[x509.Certificate, Ed25519PrivateKey]:
    """The certificate and private key kept in ``directory``. Raises QuicpipeLabError."""
    path = directory / IDENTITY_FILE
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            _write_once(path, _create())
        return _load(path)
    except OSError as error:
        raise QuicpipeLabError(f"certificate {path}: {error.strerror or error}") from None


def identity(
    directory: Path | None, role: str, ephemeral: bool
) -> tuple[x509.Certificate, Ed25519PrivateKey]:
    """What a program shows its peers: from ``directory``, by default the user's own for the role
    (XDG base directories); or made for this run only and never written. Raises QuicpipeLabError.
    """
    if ephemeral:
        return _parse(_create())
    if directory is None:
        base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
        try:
            directory = Path(base).expanduser() / "quicpipe-lab" / role
        except RuntimeError:  # nobody says where it is
            raise QuicpipeLabError(
                "there is no home directory to keep a certificate in;"
                " give --certificate-dir DIR, or --ephemeral"
            ) from None
    return load_or_create(directory)


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the certificate in lower-case hex: what peers pin."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def self_signed(
    key: Ed25519PrivateKey, serial_number: int, now: datetime.datetime
) -> x509.Certificate:
    """The certificate of a key; the same arguments give the same bytes (RFC 8032, 5.1.6)."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "quicpipe-lab")])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(serial_number)
        .not_valid_before(now - datetime.timedelta(days=1))  # for peers whose clocks are behind
        .not_valid_after(now + _VALID_FOR)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("quicpipe-lab")]), critical=False)
        .sign(key, algorithm=None)
    )


def _create() -> bytes:
    key = Ed25519PrivateKey.generate()
    now = datetime.datetime.now(datetime.UTC)
    certificate = self_signed(key, x509.random_serial_number(), now)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private + certificate.public_bytes(Encoding.PEM)


def _write_once(path: Path, pem: bytes) -> None:
    """Whole or not at all, readable by its owner alone; of two who try, the first one wins."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent)  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        Path(temporary).unlink()


def _load(path: Path) -> tuple[x509.Certificate, Ed25519PrivateKey]:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise QuicpipeLabError(f"certificate {path}: others may read the key; chmod 600 it")
    try:
        return _parse(path.read_bytes())
    except (ValueError, TypeError) as error:
        raise QuicpipeLabError(f"certificate {path}: {str(error).splitlines()[0]}") from None


def _parse(pem: bytes) -> tuple[x509.Certificate, Ed25519PrivateKey]:
    key = load_pem_private_key(pem, password=None)
    certificate = x509.load_pem_x509_certificate(pem)
    if not isinstance(key, Ed25519PrivateKey) or certificate.public_key() != key.public_key():
        raise ValueError("not an Ed25519 key with its certificate")
    return certificate, key
