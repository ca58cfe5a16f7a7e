"""Whether a peer hears nothing of the relay because the links lost it all.

A burst of losses is counted in packets, and an idle peer sends few: it can last for minutes. Who
gives the relay up then, and registers anew, does what it should.
"""

from quicpipe_lab.protocol.connection_id import is_relay_connection_id
from quicpipe_lab.protocol.wire import parse_invariants

_A_FEW = 3
"""Datagrams, as a keepalive and its repetitions: as many as somebody sends before he gives up."""
_SOON_S = 60.0
"""So long after it was heard again the relay may be given up for it: the connection that brought it
back is another one."""


class RelaySilence:
    """Of one peer. What is sent is known by its bytes, at whatever node it comes by."""

    def __init__(self) -> None:
        self._unheard: set[bytes] = set()
        self._has_reached = self._is_answered = False
        self._over_s: float | None = None

    def said(self, data: bytes) -> None:
        """The peer sent something."""
        if _is_of_the_relays_connection(data):
            self._unheard.add(data)

    def reached(self, data: bytes) -> None:
        """Something came to the relay, of whomever."""
        self._has_reached |= data in self._unheard

    def answered(self, data: bytes) -> None:
        """The relay sent something to the peer."""
        self._is_answered |= self._has_reached and _is_of_the_relays_connection(data)

    def heard(self, data: bytes, now: float) -> None:
        """Something came to the peer."""
        if not _is_of_the_relays_connection(data):
            return
        if self._all_was_lost:
            self._over_s = now
        self._unheard.clear()
        self._has_reached = self._is_answered = False

    def excuses(self, now: float) -> bool:
        """Whether the relay may be given up now."""
        return self._all_was_lost or (self._over_s is not None and now - self._over_s < _SOON_S)

    @property
    def _all_was_lost(self) -> bool:
        """The way there, or the way back."""
        return len(self._unheard) >= _A_FEW and (not self._has_reached or self._is_answered)


def _is_of_the_relays_connection(data: bytes) -> bool:
    """And not of the peers', which the relay passes on."""
    header = parse_invariants(data) if data[0] >= 0x40 else None
    return header is not None and is_relay_connection_id(header.destination)
