"""By which of an endpoint's sockets it speaks with which address of the peer.

Socket 0 is the endpoint's own; all others are a port search's. QUIC knows a path by the other
side's address alone (RFC 9000, 9), so this is decided beneath it.
"""

from quicpipe_lab.model.address import TransportAddress

_MOST = 4096
"""Pairs that are remembered. A search makes fewer; the peer, who is authentic, could make more."""


class SocketRoutes:
    """Answers go out by the socket that the question came in by, where the peer has shown, with an
    authentic punch datagram, that it reaches this socket from that address."""

    def __init__(self) -> None:
        self._routes: dict[TransportAddress, int] = {}
        self._reached: set[tuple[TransportAddress, int]] = set()

    def via(self, address: TransportAddress) -> int:
        """The socket for an address."""
        return self._routes.get(address, 0)

    def use(self, address: TransportAddress, via: int) -> None:
        """Speak with an address by a socket from now on."""
        self._routes[address] = via

    def authentic(self, address: TransportAddress, via: int) -> None:
        """A punch datagram of the peer's came from an address, by a socket."""
        if len(self._reached) < _MOST:
            self._reached.add((address, via))

    def quic_came(self, address: TransportAddress, via: int) -> None:
        """Some packet did: of the sockets that the peer can reach, it has chosen this one."""
        if self.via(address) != via and (address, via) in self._reached:
            self.use(address, via)
