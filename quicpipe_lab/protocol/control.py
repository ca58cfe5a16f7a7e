"""What the peers tell each other inside their connection: JSON lines on a stream of their own.

Each side sends on its first unidirectional stream. Being a QUIC stream, it is encrypted, ordered,
and follows the connection from path to path.
"""

import base64
import json
from dataclasses import dataclass

from quicpipe_lab.errors import RemoteProtocolError
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.protocol.candidates import MAX_SIGNALLED
from quicpipe_lab.protocol.wire import PUNCH_KEY_LENGTH

MAX_LINE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class PunchMessage:
    """ "Punch at these now." The dialer's begins a round, the accepter's answers it.

    ``key``: that of the punch datagrams, made by the dialer. ``observed``: where the relay sees
    the sender, None where it did not say.
    """

    round: int
    key: bytes
    candidates: tuple[TransportAddress, ...]
    observed: TransportAddress | None

    def encode(self) -> bytes:
        """One line."""
        data = {
            "punch": self.round,
            "key": base64.b64encode(self.key).decode(),
            "candidates": self.candidates,
            "observed": self.observed,
        }
        return json.dumps(data).encode() + b"\n"


class ControlReader:
    """Cuts a stream into messages. Raises RemoteProtocolError on what is none."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> list[PunchMessage]:
        """The messages that are complete with ``data``; unknown kinds are passed over."""
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        if len(self._buffer) > MAX_LINE_BYTES:
            raise RemoteProtocolError("a control message without an end")
        messages = (_decode(line) for line in lines)
        return [message for message in messages if message is not None]


def _decode(line: bytes) -> PunchMessage | None:
    try:
        data = json.loads(line)
        if "punch" not in data:
            return None
        message = PunchMessage(
            round=int(data["punch"]),  # OverflowError: JSON's Infinity
            key=base64.b64decode(data["key"], validate=True),
            candidates=tuple(_address(one) for one in data["candidates"][:MAX_SIGNALLED]),
            observed=None if data["observed"] is None else _address(data["observed"]),
        )
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise RemoteProtocolError(f"not a control message: {error}") from None
    if len(message.key) != PUNCH_KEY_LENGTH:
        raise RemoteProtocolError("a punch key of a wrong length")
    return message


def _address(value: object) -> TransportAddress:
    match value:
        case [str(host), int(port)]:
            return TransportAddress(host, port)
    raise ValueError(f"not an address: {value!r}")
