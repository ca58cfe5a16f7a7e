"""Whether the peer that leaves tells the other one, as often as was promised.

Where both have said all and know it, nobody misses that word. Where the last acknowledgement was
lost, the other waits for its idle timeout, a minute; that takes a loss at the right moment, and the
word itself may be lost. So what is looked at is whether it is sent.
"""

from quicpipe_lab.model.event import Event
from quicpipe_lab.protocol.connection_id import is_relay_connection_id
from quicpipe_lab.protocol.pacing import CLOSE_REPEATS
from quicpipe_lab.protocol.wire import parse_invariants


class Farewell:
    """Only who leaves first has somebody to tell it to."""

    def __init__(self, *peers: str) -> None:
        self._peers = peers
        self._connected: set[str] = set()
        self._over: set[str] = set()
        self._leaver: str | None = None
        self._told = 0

    def hear(self, event: Event) -> None:
        """Anybody has reported something; ``statistics`` is what a peer says when it leaves."""
        if event.node not in self._peers:
            return
        match event.name:
            case "connected":
                self._connected.add(event.node)
            case "closed":
                self._over.add(event.node)
            case "statistics" if self._leaver is None:
                self._leaver = event.node
                if event.node in self._over or event.node not in self._connected:
                    self._told = 1 + CLOSE_REPEATS

    def sent(self, node: str, data: bytes) -> None:
        """A peer sent a datagram. Of QUIC, and not for the relay itself, it can only be its
        CONNECTION_CLOSE (RFC 9000, 10.2.1), or an acknowledgement on the way out."""
        if node == self._leaver and data[0] >= 0x40:
            header = parse_invariants(data)
            if header is not None and not is_relay_connection_id(header.destination):
                self._told += 1

    def problem(self, node: str) -> str | None:
        """What to say of a peer that has ended, if it should have told the other more often."""
        if node != self._leaver or self._told > CLOSE_REPEATS:
            return None
        return f"{node} left and told its peer {self._told} times, not {1 + CLOSE_REPEATS}"
