"""Address validation by Retry (RFC 9000, 8.1.2): before the relay remembers anything of a client.

Nothing is kept: the token that a Retry carries brings back, from the same address, all that has
to be known of the Initial which it answered.
"""

from typing import NamedTuple

from aioquic.buffer import Buffer  # type: ignore[attr-defined] # it is public by its documentation
from aioquic.quic.packet import encode_quic_retry, pull_quic_header

from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.protocol.connection_id import KEY_LENGTH, ConnectionIdGenerator
from quicpipe_lab.protocol.quic import RandomBytes, RetryTokens
from quicpipe_lab.protocol.wire import QUIC_VERSION_1, Invariants


class Credentials(NamedTuple):
    """What a connection is made with (RFC 9000, 7.3). ``retry_source_id`` is None for a client
    that was not asked to show that it receives at its address."""

    original_destination_id: bytes
    retry_source_id: bytes | None = None


class AddressValidation:
    """Hands out Retry packets and knows its own tokens again."""

    def __init__(self, random: RandomBytes, connection_id_length: int) -> None:
        self._random = random
        self._id_length = connection_id_length
        self._tokens = RetryTokens(random)

    def has_token(self, data: bytes) -> bool:
        """Whether a client's Initial carries one, whoever's."""
        return bool(_token_of(data))

    def credentials(
        self, data: bytes, header: Invariants, source: TransportAddress, now: float
    ) -> Credentials | None:
        """Of a client that has shown its address; None where its Initial has no token of ours."""
        try:
            original = self._tokens.validate_token(
                address=source, destination_cid=header.destination, token=_token_of(data), now=now
            )
        except ValueError:  # another server's, too old, or from elsewhere
            return None
        return Credentials(original, header.destination)

    def retry(self, header: Invariants, source: TransportAddress, now: float) -> bytes:
        """The answer to an Initial: come again with this token."""
        ids = ConnectionIdGenerator(
            self._random(KEY_LENGTH), relay_leg=True, length=self._id_length
        )
        source_id = ids.next()
        token = self._tokens.create_token(
            address=source,
            original_destination_connection_id=header.destination,
            retry_source_connection_id=source_id,
            now=now,
        )
        return encode_quic_retry(
            version=QUIC_VERSION_1,
            source_cid=source_id,
            destination_cid=header.source,
            original_destination_cid=header.destination,
            retry_token=token,
        )


def _token_of(data: bytes) -> bytes:
    """Empty where there is none, or where the rest of the Initial's header makes no sense."""
    try:
        return bytes(pull_quic_header(Buffer(data=data)).token)
    except ValueError:
        return b""
