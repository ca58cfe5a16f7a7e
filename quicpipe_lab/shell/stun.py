"""STUN binding messages with what RFC 5780 adds, through aioice's codec: the only aioice importer.

aioice's ``__init__`` brings its whole ICE stack and a DNS resolver, and its codec's module brings
asyncio for what it does beside coding. Either takes longer to import than a NAT to certify. So the
codec is loaded under a package of our own name, with a stand-in for asyncio where that is not there
yet. The copy is thereby ours alone, and may be taught the attribute of RFC 5780 that it lacks.
"""

import importlib
import importlib.util
import os
import struct
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

from quicpipe_lab.errors import QuicpipeLabError
from quicpipe_lab.model.address import TransportAddress

if TYPE_CHECKING:
    from aioice import stun as codec
else:
    _OWN_NAME = "_quicpipe_lab_aioice"

    def _load() -> ModuleType:
        spec = importlib.util.find_spec("aioice")
        if spec is None:
            raise QuicpipeLabError("aioice is not installed: pip install quicpipe-lab brings it")
        package = ModuleType(_OWN_NAME)
        package.__path__ = list(spec.submodule_search_locations or ())
        sys.modules[_OWN_NAME] = package
        name = f"{_OWN_NAME}.stun"
        if "asyncio" in sys.modules:
            return importlib.import_module(name)
        sys.modules["asyncio"] = ModuleType("asyncio")
        try:
            return importlib.import_module(name)
        except AttributeError:  # a later version that needs it on import
            sys.modules.pop(name, None)
        finally:
            del sys.modules["asyncio"]
        return importlib.import_module(name)

    codec = _load()

_RESPONSE_PORT = (
    0x0027,  # RFC 5780, 7.5
    "RESPONSE-PORT",
    codec.pack_unsigned_short,
    codec.unpack_unsigned_short,
)
codec.ATTRIBUTES_BY_TYPE[_RESPONSE_PORT[0]] = _RESPONSE_PORT
codec.ATTRIBUTES_BY_NAME[_RESPONSE_PORT[1]] = _RESPONSE_PORT

_CHANGE_ADDRESS, _CHANGE_PORT = 0x4, 0x2
"""CHANGE-REQUEST's bits: RFC 5780, 7.2."""

SOFTWARE = "quicpipe-lab"


@dataclass(frozen=True, slots=True)
class BindingRequest:
    """``change_*``: answer from the other address or port. ``response_port``: answer to it."""

    transaction: bytes
    change_address: bool = False
    change_port: bool = False
    response_port: int | None = None

    def encode(self) -> bytes:
        """The datagram."""
        attributes: dict[str, Any] = {}
        if self.change_address or self.change_port:
            attributes["CHANGE-REQUEST"] = (
                self.change_address * _CHANGE_ADDRESS | self.change_port * _CHANGE_PORT
            )
        if self.response_port is not None:
            attributes["RESPONSE-PORT"] = self.response_port
        return _encode(codec.Class.REQUEST, self.transaction, attributes)


@dataclass(frozen=True, slots=True)
class BindingAnswer:
    """``mapped``: where the request came from, as the server saw it. ``other``: OTHER-ADDRESS.

    ``origin``: RESPONSE-ORIGIN, where the answer was sent from; ``other`` and ``origin`` are None
    where the server does not speak RFC 5780.
    """

    transaction: bytes
    mapped: TransportAddress
    other: TransportAddress | None = None
    origin: TransportAddress | None = None

    def encode(self) -> bytes:
        """The datagram."""
        attributes: dict[str, Any] = {"XOR-MAPPED-ADDRESS": self.mapped}
        if self.origin is not None:
            attributes["RESPONSE-ORIGIN"] = self.origin
        if self.other is not None:
            attributes["OTHER-ADDRESS"] = self.other
        attributes["SOFTWARE"] = SOFTWARE
        return _encode(codec.Class.RESPONSE, self.transaction, attributes)


@dataclass(frozen=True, slots=True)
class BindingError:
    """The server refused; ``code`` as in RFC 8489, 14.8."""

    transaction: bytes
    code: int
    reason: str

    def encode(self) -> bytes:
        """The datagram."""
        return _encode(
            codec.Class.ERROR, self.transaction, {"ERROR-CODE": (self.code, self.reason)}
        )


BindingMessage = BindingRequest | BindingAnswer | BindingError


def new_transaction() -> bytes:
    """Random, so that nobody who does not see the request can answer it."""
    return os.urandom(12)


def decode(datagram: bytes) -> BindingMessage | None:
    """What a datagram says, or None where it is no binding message that makes sense."""
    try:
        message = codec.parse_message(datagram)
        if message.message_method is not codec.Method.BINDING:
            return None
        return _decoded(message)
    except (ValueError, KeyError, IndexError, OverflowError, struct.error):
        return None


def _decoded(message: "codec.Message") -> BindingMessage | None:
    found: Mapping[str, Any] = message.attributes
    match message.message_class:
        case codec.Class.REQUEST:
            change = found.get("CHANGE-REQUEST", 0)
            return BindingRequest(
                message.transaction_id,
                bool(change & _CHANGE_ADDRESS),
                bool(change & _CHANGE_PORT),
                found.get("RESPONSE-PORT"),
            )
        case codec.Class.RESPONSE:
            # Before RFC 5389 there was only the plain one, which some NATs rewrite.
            mapped = found.get("XOR-MAPPED-ADDRESS") or found["MAPPED-ADDRESS"]
            other = found.get("OTHER-ADDRESS") or found.get("CHANGED-ADDRESS")
            origin = found.get("RESPONSE-ORIGIN")
            return BindingAnswer(
                message.transaction_id,
                TransportAddress(*mapped),
                TransportAddress(*other) if other else None,
                TransportAddress(*origin) if origin else None,
            )
        case codec.Class.ERROR:
            code, reason = found["ERROR-CODE"]
            return BindingError(message.transaction_id, code, reason)
    return None


def _encode(kind: "codec.Class", transaction: bytes, attributes: dict[str, Any]) -> bytes:
    return bytes(codec.Message(codec.Method.BINDING, kind, transaction, attributes))
