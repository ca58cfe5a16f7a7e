"""What QUIC's error codes are called: RFC 9000, 20.1, and TLS alerts (RFC 8446, 6)."""

from aioquic.quic.packet import QuicErrorCode
from aioquic.tls import AlertDescription


def transport_error(code: int) -> str:
    """As ``INVALID_TOKEN`` or ``CRYPTO_ERROR (handshake_failure)``; else a number."""
    if 0x100 <= code < 0x200:
        alert = code - 0x100
        known = alert in set(AlertDescription)
        return f"CRYPTO_ERROR ({AlertDescription(alert).name if known else f'alert {alert}'})"
    return QuicErrorCode(code).name if code in set(QuicErrorCode) else f"error {code:#x}"
