"""The accepter: takes the one Initial that came out of band, and is the connection's server."""

from dataclasses import dataclass
from typing import Any

from quicpipe_lab.errors import LocalProtocolError, RemoteProtocolError
from quicpipe_lab.protocol.connection_id import ConnectionIdGenerator
from quicpipe_lab.protocol.endpoint import Endpoint
from quicpipe_lab.protocol.endpoint_config import EndpointConfig
from quicpipe_lab.protocol.quic import Connection
from quicpipe_lab.protocol.wire import check_initial


@dataclass
class AccepterConfig(EndpointConfig):
    """``certificate`` and ``private_key``: of the cryptography package."""

    certificate: Any = None
    private_key: Any = None


class Accepter(Endpoint):
    """The machine of the side that is dialled."""

    is_dialer = False

    def __init__(self, config: AccepterConfig) -> None:
        super().__init__(config)
        self._certificate = config.certificate
        self._private_key = config.private_key
        self._initial: bytes | None = None

    def accept(self, initial: bytes, now: float) -> None:
        """Answer an Initial, as soon as the relay forwards to us. Raises RemoteProtocolError
        where it is none; one endpoint accepts one."""
        if self._initial is not None:
            raise LocalProtocolError("an accepter accepts one Initial")
        server = self._server(initial, now)
        self._initial = initial
        if self.registered is not None:
            self._peer = server
            self._turn(now)

    def _on_registered(self, now: float) -> None:
        # Not before: what comes back would find no way to us. And made anew: the first, which
        # showed that the Initial is a good one, has aged since.
        if self._initial is not None:
            self._peer = self._server(self._initial, now)

    def _check_peer(self, peer: Connection) -> bool:  # noqa: ARG002
        return True  # only whoever made the Initial that came out of band can finish this handshake

    def _server(self, initial: bytes, now: float) -> Connection:
        """The connection's server, with the Initial taken in."""
        configuration = self.config.peer_quic or self._configuration(
            is_client=False, alpn=[self.config.alpn]
        )
        if self._certificate is not None:
            configuration.certificate = self._certificate
            configuration.private_key = self._private_key
        self._ids = ConnectionIdGenerator(
            self.key, relay_leg=False, length=self.config.connection_id_length
        )
        peer = Connection(
            configuration,
            self._ids,
            original_destination_connection_id=check_initial(initial).destination,
        )
        peer.receive_datagram(initial, self.config.relay, now)
        if not peer.has_received:
            raise RemoteProtocolError("the Initial was damaged on its way", "RFC 9001, 5.2")
        peer.trust_address()
        return peer
