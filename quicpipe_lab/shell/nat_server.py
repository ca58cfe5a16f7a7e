"""Probes the NATs between this machine and a STUN server out there."""

import socket
from dataclasses import dataclass

from quicpipe_lab.errors import BackendUnavailableError, QuicpipeLabError
from quicpipe_lab.model.address import TransportAddress, split_host_port
from quicpipe_lab.model.nat_measurement import NatMeasurement, ServerPoint
from quicpipe_lab.shell.nat_lifetime import LifetimeProber
from quicpipe_lab.shell.nat_prober import (
    OTHER,
    PRIMARY,
    SAME_ADDRESS,
    SAME_PORT,
    NatProber,
    Place,
)
from quicpipe_lab.shell.stun_client import LOSSY, NoAnswerError, StunClient, Timing
from quicpipe_lab.shell.stun_responder import STUN_PORT


@dataclass(frozen=True, slots=True)
class ServerCheck:
    """``other`` is None where the server has no second address."""

    server: TransportAddress
    other: TransportAddress | None
    measured: NatMeasurement


def parse_server(text: str) -> TransportAddress:
    """``HOST``, ``HOST:PORT`` or ``[IPv6]:PORT``. Raises QuicpipeLabError."""
    host, port = split_host_port(text, STUN_PORT)
    if port == 0:
        raise QuicpipeLabError(f"{text!r} is not HOST:PORT: nobody listens on port 0")
    return TransportAddress(host, port)


def check_server(
    named: TransportAddress, *, lifetime: bool = False, timing: Timing = LOSSY
) -> ServerCheck:
    """Raises QuicpipeLabError for a name that does not exist, BackendUnavailableError for silence.

    ``lifetime``: wait for idle mappings to end as well, up to five minutes.
    """
    family, primary = _resolve(named)

    def make(port: int) -> socket.socket:
        sock = socket.socket(family, socket.SOCK_DGRAM)
        sock.bind(("", port))
        return sock

    try:
        other = _greet(make(0), primary, timing)
        place = Place(_own_address(family, primary), make)
        measured = NatProber(_points(primary, other), timing, place).measure()
    except NoAnswerError as error:
        raise BackendUnavailableError(
            str(error), "is it a STUN server, and does UDP get through from here?"
        ) from None
    if lifetime:
        LifetimeProber(primary, make, timing, None).measure(measured)
    return ServerCheck(primary, other, measured)


def _greet(
    sock: socket.socket, server: TransportAddress, timing: Timing
) -> TransportAddress | None:
    """Whether a STUN server is there, and its other address. Connected, a socket hears of ICMP."""
    with StunClient(sock, timing) as client:
        try:
            sock.connect(server)
        except OSError as error:
            raise NoAnswerError(f"{server} cannot be reached: {error.strerror}") from None
        return client.ask(server).other


def _points(
    primary: TransportAddress, other: TransportAddress | None
) -> dict[ServerPoint, TransportAddress]:
    if other is None or other.host == primary.host or other.port == primary.port:
        return {PRIMARY: primary}
    return {
        PRIMARY: primary,
        SAME_ADDRESS: TransportAddress(primary.host, other.port),
        SAME_PORT: TransportAddress(other.host, primary.port),
        OTHER: other,
    }


def _resolve(named: TransportAddress) -> tuple[socket.AddressFamily, TransportAddress]:
    try:
        found = socket.getaddrinfo(named.host, named.port, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no host has such a name"
        raise QuicpipeLabError(f"--server {named.host}: {reason}") from None
    family, _, _, _, (host, port, *_) = found[0]
    return family, TransportAddress(str(host), int(port))


def _own_address(family: socket.AddressFamily, server: TransportAddress) -> str:
    """The address that this host sends from towards the server."""
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(server)
        except OSError as error:
            raise NoAnswerError(f"{server} cannot be reached: {error.strerror}") from None
        host: str = sock.getsockname()[0]
        return host
