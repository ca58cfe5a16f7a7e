"""How Quicpipe configures QUIC."""

import ssl
from typing import TextIO

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.logger import QuicLogger
from aioquic.quic.packet import QuicProtocolVersion

from quicpipe_lab.protocol.connection_id import CONNECTION_ID_LENGTH

MAX_DATAGRAM_BYTES = 1200
"""UDP payload of a datagram at most: what every QUIC path carries (RFC 9000, 14), as Quicpipe does
no path MTU discovery."""

WINDOW_BYTES = 512 * 1024
"""How far the other side may send ahead of what was taken on one stream, and half of how far on
all together (RFC 9000, 4.1): enough for HTTP/3 with the relay."""
PEER_WINDOW_BYTES = 2 * 1024 * 1024
"""The same between peers: what 20 MB/s need at 100 ms."""


def standard_configuration(
    *,
    is_client: bool,
    alpn: list[str],
    idle_timeout_s: float = 60.0,
    connection_id_length: int = CONNECTION_ID_LENGTH,
    window_bytes: int = WINDOW_BYTES,
    qlog: QuicLogger | None = None,
    keylog: TextIO | None = None,
) -> QuicConfiguration:
    """Quicpipe's QUIC: version 1 alone, IDs of one length, no path MTU discovery.

    A client verifies no certificate chain: whom it talks to is settled by a pinned fingerprint
    (see ``Connection.peer_fingerprint``). ``keylog`` receives TLS secrets in SSLKEYLOGFILE form.
    """
    return QuicConfiguration(
        is_client=is_client,
        alpn_protocols=alpn,
        connection_id_length=connection_id_length,
        idle_timeout=idle_timeout_s,
        max_data=2 * window_bytes,
        max_datagram_size=MAX_DATAGRAM_BYTES,
        max_stream_data=window_bytes,
        supported_versions=[QuicProtocolVersion.VERSION_1],
        verify_mode=ssl.CERT_NONE if is_client else None,
        quic_logger=qlog,
        secrets_log_file=keylog,
    )
