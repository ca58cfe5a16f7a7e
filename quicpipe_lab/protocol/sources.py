"""Where aioquic draws its randomness from and which clock its logs are on: ours, where we say so.

aioquic asks the operating system itself, for TLS keys and randoms, path challenges, reset tokens
and first connection IDs, and reads the wall clock for qlog. ``drawn_from`` gives it other sources
for as long as a block lasts: a simulator's, so that one seed gives one run to the last bit.

One source is hidden: aioquic keeps the streams that it has just served in a set, and serves them
next in that set's order, which is that of their places in memory.

Beside quic.py this is the one file that knows aioquic's inside: which modules draw, and by what.
Whoever is not within a block, in another thread or task too, keeps the operating system's.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from aioquic import tls
from aioquic.quic import connection, logger, packet, retry
from aioquic.quic.stream import QuicStream
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x448 import X448PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from quicpipe_lab.protocol.quic import RandomBytes


@dataclass(frozen=True, slots=True)
class Sources:
    """``unix_time``: seconds since 1970, as qlog wants them."""

    random: RandomBytes
    unix_time: Callable[[], float]


_SOURCES: ContextVar[Sources | None] = ContextVar("aioquic's sources", default=None)


@contextmanager
def drawn_from(sources: Sources) -> Iterator[None]:
    """Within the block aioquic's randomness and time are these."""
    _install()
    token = _SOURCES.set(sources)
    try:
        yield
    finally:
        _SOURCES.reset(token)


class _Stream(QuicStream):
    """In a set it has its place by its number."""

    def __hash__(self) -> int:
        return hash(self.stream_id)


class _Module:
    """Stands in an aioquic module for something that it imports: a few names are ours."""

    def __init__(self, theirs: Any) -> None:
        self._theirs = theirs

    def __getattr__(self, name: str) -> Any:
        return getattr(self._theirs, name)


def _install() -> None:
    """Once for all; without sources everything goes on to where it went before."""
    if isinstance(vars(tls)["os"], _Module):
        return
    theirs: Any = connection
    theirs.QuicStream = _Stream
    for module in (tls, connection, packet, retry):
        _put(_stand_in(module, "os"), "urandom", _random)
    _put(_stand_in(logger, "time"), "time", _unix_time)
    _put(_stand_in(tls, "ec"), "generate_private_key", _curve_key)
    x25519, x448 = _stand_in(tls, "x25519"), _stand_in(tls, "x448")
    _put(_stand_in(x25519, "X25519PrivateKey"), "generate", _x25519_key)
    _put(_stand_in(x448, "X448PrivateKey"), "generate", _x448_key)


def _stand_in(owner: Any, name: str) -> _Module:
    module = _Module(getattr(owner, name))
    setattr(owner, name, module)
    return module


def _put(module: _Module, name: str, ours: Callable[..., Any]) -> None:
    theirs = getattr(module, name)

    def call(*arguments: Any) -> Any:
        sources = _SOURCES.get()
        return theirs(*arguments) if sources is None else ours(sources, *arguments)

    setattr(module, name, call)


def _random(sources: Sources, size_bytes: int) -> bytes:
    return sources.random(size_bytes)


def _unix_time(sources: Sources) -> float:
    return sources.unix_time()


def _curve_key(sources: Sources, curve: ec.EllipticCurve) -> ec.EllipticCurvePrivateKey:
    """One bit short of the curve's size, and so always below its order."""
    drawn = int.from_bytes(sources.random((curve.key_size + 7) // 8), "big")
    return ec.derive_private_key((drawn >> 1) or 1, curve)


def _x25519_key(sources: Sources) -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes(sources.random(32))


def _x448_key(sources: Sources) -> X448PrivateKey:
    return X448PrivateKey.from_private_bytes(sources.random(56))
