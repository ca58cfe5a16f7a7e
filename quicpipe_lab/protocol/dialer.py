"""The dialer: makes the Initial that travels out of band, and is the client of the connection."""

from dataclasses import dataclass

from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.protocol.endpoint import Endpoint
from quicpipe_lab.protocol.endpoint_config import EndpointConfig
from quicpipe_lab.protocol.events import Closed, InitialReady
from quicpipe_lab.protocol.quic import Connection
from quicpipe_lab.protocol.wire import parse_invariants


@dataclass
class DialerConfig(EndpointConfig):
    """``peer_fingerprint``: SHA-256 of the accepter's certificate in hex; None trusts anybody.
    ``server_name``: the SNI of the peer connection, None for none."""

    peer_fingerprint: str | None = None
    server_name: str | None = None


class Dialer(Endpoint):
    """The machine of the side that opens the connection."""

    is_dialer = True

    def __init__(self, config: DialerConfig) -> None:
        super().__init__(config)
        self._pinned = config.peer_fingerprint
        self._server_name = config.server_name
        self._initial = b""
        self._made_at = 0.0
        self._answered_at: float | None = None
        self._behind_s = 0.0

    def start(self, now: float) -> None:
        """Make the Initial, without sending it; connect to the relay and register."""
        configuration = self.config.peer_quic or self._configuration(
            is_client=True, alpn=[self.config.alpn]
        )
        if self._server_name is not None:
            configuration.server_name = self._server_name
        self._peer = Connection(configuration, self._ids)
        self._peer.connect(self.config.relay, now)
        # One datagram: our ClientHello fits, and an out-of-band channel carries one packet.
        self._initial = self._peer.datagrams_to_send(now)[0][0]
        self._made_at = now
        super().start(now)

    def _on_registered(self, now: float) -> None:  # noqa: ARG002
        # Not before: the answer would find no way to us.
        self._events.append(InitialReady(self._initial))

    # The out-of-band channel may take an hour. If the connection's clock ran meanwhile, its first
    # RTT sample would be that hour, and its timers with it. So the clock stands still from the
    # Initial to the first answer, and then goes on as if the answer had taken two round trips
    # to the relay, which is about what it takes from there to the accepter and back.

    @property
    def _peer_is_waiting(self) -> bool:  # type: ignore[override]
        return self._answered_at is None

    def _receive_from_peer(self, data: bytes, source: TransportAddress, now: float) -> None:
        if self._answered_at is None:
            if source != self.config.relay or not self._is_for_us(data):
                return  # a stranger's datagram starts no clock
            self._answered_at = now
            plausible_s = 2 * (self.relay.rtt_s or 0.05)
            self._behind_s = max(0.0, now - self._made_at - plausible_s)
        super()._receive_from_peer(data, source, now)

    def _is_for_us(self, data: bytes) -> bool:
        assert self._peer is not None
        header = parse_invariants(data, self.config.connection_id_length)
        return header is not None and header.destination in self._peer.current_ids

    def _peer_time(self, now: float) -> float:
        return now - self._behind_s

    def _real_time(self, peer_time: float) -> float:
        return peer_time + self._behind_s

    def _check_peer(self, peer: Connection) -> bool:
        if self._pinned is None or peer.peer_fingerprint == self._pinned:
            return True
        problem = f"the peer's certificate is {peer.peer_fingerprint}, not {self._pinned}"
        # Told now: aioquic tells when it has done with closing, and the peer is gone by then.
        self._over(Closed(peer.refuse_certificate(problem), problem))
        return False
