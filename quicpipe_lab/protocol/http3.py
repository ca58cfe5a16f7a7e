"""What HTTP/3 demands of both sides and aioquic's does not look after."""

from aioquic.h3.connection import ErrorCode

from quicpipe_lab.protocol.quic import Connection


def is_broken(quic: Connection) -> bool:
    """Whether the other side wants nothing of a stream that must last as long as the connection
    (RFC 9114, 6.2.1): our first three unidirectional ones, for control and QPACK. It is closed
    then, and H3Connection, which would raise where it writes there, is not to be called any more.
    """
    first = 2 if quic.configuration.is_client else 3
    if not any(map(quic.is_refused, range(first, first + 12, 4))):
        return False
    quic.close(ErrorCode.H3_CLOSED_CRITICAL_STREAM, reason_phrase="a critical stream was refused")
    return True
