"""What the relay tells whoever drives it."""

from dataclasses import dataclass
from typing import Any

from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.model.event import describe


@dataclass(frozen=True, slots=True)
class ClientConnected:
    """An HTTP/3 connection's handshake is complete."""

    address: TransportAddress


@dataclass(frozen=True, slots=True)
class ClientLost:
    """An HTTP/3 connection is over; what it registered lingers. ``error_code`` 0x100 is orderly
    (H3_NO_ERROR: RFC 9114, 8.1)."""

    address: TransportAddress
    error_code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Registered:
    """A registration was granted: ``num`` IDs of its key are the client's, ``new`` of them new."""

    address: TransportAddress
    num: int
    new: int


@dataclass(frozen=True, slots=True)
class Refused:
    """A request was refused with an HTTP status."""

    address: TransportAddress
    status: int
    problem: str


@dataclass(frozen=True, slots=True)
class Bound:
    """Datagrams to these IDs are forwarded to ``address`` from now on."""

    connection_ids: tuple[bytes, ...]
    address: TransportAddress


@dataclass(frozen=True, slots=True)
class Unbound:
    """Datagrams to these IDs are not forwarded to ``address`` any more."""

    connection_ids: tuple[bytes, ...]
    address: TransportAddress


@dataclass(frozen=True, slots=True)
class Expired:
    """A registration's time is over; Unbound came before it."""

    num: int
    address: TransportAddress


RelayEvent = ClientConnected | ClientLost | Registered | Refused | Bound | Unbound | Expired


def report(event: RelayEvent) -> tuple[str, dict[str, Any]]:
    """Name and data for a log, which says how many IDs; which ones is between the clients and the
    relay."""
    name, data = describe(event)
    if isinstance(event, Bound | Unbound):
        data = {"address": data["address"], "num": len(event.connection_ids)}
    return name, data
