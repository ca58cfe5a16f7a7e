"""What an endpoint is told once, and the one name that both sides agree on."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TextIO

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.logger import QuicLogger

from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.protocol.connection_id import CONNECTION_ID_LENGTH
from quicpipe_lab.protocol.direct_states import DirectTiming
from quicpipe_lab.protocol.port_search import SearchLimits
from quicpipe_lab.protocol.quic import RandomBytes
from quicpipe_lab.protocol.relay_leg import (
    RelayTrust,
    RequestHook,
    ResponseHook,
    standard_request,
    standard_response,
)

ALPN = "quicpipe-lab/1"
"""Peers that agree on it have a control stream and may go direct. Under any other name (the
original's example says ``EXAMPLE``) the first stream is the application's and the relay stays."""


@dataclass
class EndpointConfig:
    """Everything that an endpoint is told once.

    ``relay_authority``: the relay's name in HTTP. ``host_addresses``: where the socket is bound,
    as seen from its own network; they become host candidates. ``direct``: whether to look for a
    direct path at all; ``direct_after_bytes``: only once so many bytes of the peer connection have
    gone through the relay (the dialer decides), for short exchanges are not worth the search.
    ``search``: how far port searches may go, where the peer wants them too; None for never.
    """

    relay: TransportAddress
    relay_authority: str
    relay_trust: RelayTrust
    random: RandomBytes
    host_addresses: Sequence[TransportAddress] = ()
    alpn: str = ALPN
    direct: bool = True
    direct_after_bytes: int = 0
    search: SearchLimits | None = None
    timing: DirectTiming = field(default_factory=DirectTiming)
    idle_timeout_s: float = 60.0
    connection_id_length: int = CONNECTION_ID_LENGTH
    qlog: QuicLogger | None = None
    keylog: TextIO | None = None
    request_hook: RequestHook = standard_request
    response_hook: ResponseHook = standard_response
    relay_quic: QuicConfiguration | None = None
    """QUIC and TLS settings of the relay's leg, where the standard ones will not do."""
    peer_quic: QuicConfiguration | None = None
    """The same of the peer's leg."""
