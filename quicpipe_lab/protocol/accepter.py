"""The accepter: takes the one Initial that came out of band, and is the connection's server."""

from dataclasses import dataclass
from typing import Any

from quicpipe_lab.errors import LocalProtocolError
from quicpipe_lab.protocol.endpoint import Endpoint, EndpointConfig
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
        check_initial(initial)
        self._initial = initial
        if self.registered is not None:
            self._answer(now)

    def _on_registered(self, now: float) -> None:
        if self._initial is not None and self._peer is None:
            self._answer(now)

    def _check_peer(self, peer: Connection) -> bool:  # noqa: ARG002
        return True  # only whoever made the Initial that came out of band can finish this handshake

    def _answer(self, now: float) -> None:
        assert self._initial is not None
        configuration = self.config.peer_quic or self._configuration(
            is_client=False, alpn=[self.config.alpn]
        )
        configuration.certificate = self._certificate
        configuration.private_key = self._private_key
        self._peer = Connection(
            configuration,
            self._ids,
            original_destination_connection_id=check_initial(self._initial).destination,
        )
        self._peer.receive_datagram(self._initial, self.config.relay, now)
        self._peer.trust_address()
        self._turn(now)
