"""What the peers tell each other inside their connection: JSON lines on a stream of their own.

Each side sends on its first unidirectional stream. Being a QUIC stream, it is encrypted, ordered,
and follows the connection from path to path.
"""

import base64
import json
from dataclasses import dataclass
from typing import Any

from quicpipe_lab.errors import RemoteProtocolError
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.protocol.candidates import MAX_SIGNALLED
from quicpipe_lab.protocol.port_search import Offer
from quicpipe_lab.protocol.wire import PUNCH_KEY_LENGTH

MAX_LINE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class PunchMessage:
    """ "Punch at these now." The dialer's begins a round, the accepter's answers it.

    ``key``: that of the punch datagrams, made by the dialer. ``observed``: where the relay sees
    the sender, None where it did not say. ``search``: whether the sender would take part in a port
    search where punching fails.
    """

    round: int
    key: bytes
    candidates: tuple[TransportAddress, ...]
    observed: TransportAddress | None
    search: bool = False

    def encode(self) -> bytes:
        """One line."""
        data: dict[str, object] = {
            "punch": self.round,
            "key": base64.b64encode(self.key).decode(),
            "candidates": self.candidates,
            "observed": self.observed,
        }
        if self.search:
            data["search"] = True
        return json.dumps(data).encode() + b"\n"


@dataclass(frozen=True, slots=True)
class SearchMessage:
    """ "This round has come to nothing: search now." The dialer's begins, the accepter's agrees.

    ``offer``: what the sender is going to do itself.
    """

    round: int
    offer: Offer

    def encode(self) -> bytes:
        """One line."""
        data = {"search": self.round, "probes": self.offer.probes, "seconds": self.offer.seconds}
        return json.dumps(data).encode() + b"\n"


@dataclass(frozen=True, slots=True)
class MovedMessage:
    """ "The relay sees me here now", and no longer where the sender's last PunchMessage said."""

    observed: TransportAddress

    def encode(self) -> bytes:
        """One line."""
        return json.dumps({"moved": self.observed}).encode() + b"\n"


Message = PunchMessage | SearchMessage | MovedMessage


class ControlReader:
    """Cuts a stream into messages. Raises RemoteProtocolError on what is none."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> list[Message]:
        """The messages that are complete with ``data``; unknown kinds are passed over."""
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        if any(len(line) > MAX_LINE_BYTES for line in (*lines, self._buffer)):
            raise RemoteProtocolError(f"a control message over {MAX_LINE_BYTES} bytes")
        messages = (_decode(line) for line in lines)
        return [message for message in messages if message is not None]


def _decode(line: bytes) -> Message | None:
    try:
        data = json.loads(line)
        if "punch" in data:
            return _punch(data)
        if "moved" in data:
            return MovedMessage(_address(data["moved"]))
        return _search(data) if "search" in data else None
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise RemoteProtocolError(f"not a control message: {error}") from None


def _punch(data: dict[str, Any]) -> PunchMessage:
    message = PunchMessage(
        round=int(data["punch"]),  # OverflowError: JSON's Infinity
        key=base64.b64decode(data["key"], validate=True),
        candidates=tuple(_address(one) for one in data["candidates"][:MAX_SIGNALLED]),
        observed=None if data["observed"] is None else _address(data["observed"]),
        search=data.get("search") is True,
    )
    if len(message.key) != PUNCH_KEY_LENGTH:
        raise RemoteProtocolError("a punch key of a wrong length")
    return message


def _search(data: dict[str, Any]) -> SearchMessage:
    offer = Offer(int(data["probes"]), float(data["seconds"]))
    if offer.probes < 0 or not 0 <= offer.seconds < float("inf"):
        raise RemoteProtocolError("a search of a negative or endless length")
    return SearchMessage(int(data["search"]), offer)


def _address(value: object) -> TransportAddress:
    match value:
        case [str(host), int(port)]:
            return TransportAddress(host, port)
    raise ValueError(f"not an address: {value!r}")
