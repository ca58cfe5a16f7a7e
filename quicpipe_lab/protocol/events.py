"""What an endpoint tells whoever drives it."""

from dataclasses import dataclass

from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.protocol.error_names import transport_error


@dataclass(frozen=True, slots=True)
class RelayRegistered:
    """The relay forwards to us. ``num``: how many of our connection IDs it was asked to know, those
    that were given back since among them. ``observed``: where it saw us, None if it does not say.
    """

    num: int
    observed: TransportAddress | None


@dataclass(frozen=True, slots=True)
class RelayRefused:
    """The relay answered, and not with success, or is not the one that was pinned. Final."""

    status: int
    problem: str

    def describe(self) -> str:
        """One line for a person."""
        return f"the relay refused: {self.problem}" if self.status else self.problem


@dataclass(frozen=True, slots=True)
class RelayLost:
    """The connection with the relay ended; another attempt follows in ``retry_s`` seconds."""

    problem: str
    retry_s: float


@dataclass(frozen=True, slots=True)
class MailboxAnswered:
    """The relay's answer to a mailbox request."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class InitialReady:
    """The dialer's first datagram is to be carried to the accepter out of band."""

    packet: bytes


@dataclass(frozen=True, slots=True)
class Connected:
    """The handshake with the peer is complete, through the relay. ``fingerprint``: the peer's."""

    alpn: str
    fingerprint: str | None


@dataclass(frozen=True, slots=True)
class StreamData:
    """Bytes of a stream, in order, each once."""

    stream_id: int
    data: bytes
    ended: bool


@dataclass(frozen=True, slots=True)
class StreamBroken:
    """The peer gave a stream up before its end (RESET_STREAM): what has come is not all."""

    stream_id: int
    error_code: int


@dataclass(frozen=True, slots=True)
class StreamRefused:
    """The peer wants no more of what we send on a stream (STOP_SENDING)."""

    stream_id: int
    error_code: int


@dataclass(frozen=True, slots=True)
class CandidatesExchanged:
    """Both sides know where the other might be reached."""

    ours: tuple[TransportAddress, ...]
    theirs: tuple[TransportAddress, ...]


@dataclass(frozen=True, slots=True)
class PunchStarted:
    """Datagrams go out to the peer's candidates."""

    round: int


@dataclass(frozen=True, slots=True)
class PunchAnswered:
    """What was sent to ``address`` was answered: the hole is open both ways.

    ``peer_reflexive``: the peer had not named the address. ``heard_from``: where the answer came
    from, where that is another address (see DirectPath.canonical), else None.
    """

    address: TransportAddress
    rtt_s: float
    peer_reflexive: bool
    heard_from: TransportAddress | None = None


@dataclass(frozen=True, slots=True)
class PunchFailed:
    """Nobody answered, or the address did not stand QUIC's validation; the relay goes on.
    ``searches_left``: how many port searches may follow further rounds."""

    sent: int
    retry_s: float
    searches_left: int = 0


@dataclass(frozen=True, slots=True)
class PortSearchStarted:
    """Ports of ``host`` are searched for, with at most so many probes (0: only the peer knocks);
    ``sockets`` were opened beside ours, for the peer to find one (0: only we knock)."""

    host: str
    sockets: int
    probes: int


@dataclass(frozen=True, slots=True)
class PortSearchEnded:
    """``found``: somebody found the other. ``hit``: which of our ``probes`` it was, from 1; None
    where none of ours was. ``opened``: datagrams that opened ports of ours."""

    found: bool
    probes: int
    opened: int
    hit: int | None
    took_s: float


@dataclass(frozen=True, slots=True)
class DirectSilent:
    """Nothing authentic came from the direct path for so long; the relay takes over."""

    silence_s: float


@dataclass(frozen=True, slots=True)
class PathChanged:
    """Data now goes to ``address``. ``rtt_s``: the least that QUIC saw on the path it left."""

    direct: bool
    address: TransportAddress
    rtt_s: float | None


@dataclass(frozen=True, slots=True)
class Closed:
    """The connection with the peer is over. ``error_code`` 0 is an orderly end."""

    error_code: int
    reason: str

    def describe(self) -> str:
        """One line for a person."""
        reason = self.reason or transport_error(self.error_code)
        return f"the connection with the peer ended: {reason}"


EndpointEvent = (
    RelayRegistered
    | RelayRefused
    | RelayLost
    | MailboxAnswered
    | InitialReady
    | Connected
    | StreamData
    | StreamBroken
    | StreamRefused
    | CandidatesExchanged
    | PunchStarted
    | PunchAnswered
    | PunchFailed
    | PortSearchStarted
    | PortSearchEnded
    | DirectSilent
    | PathChanged
    | Closed
)
