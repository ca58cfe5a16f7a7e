"""Where a direct path can stand, every way from there in one table, and its numbers.

What each transition does is in direct.py.
"""

from dataclasses import dataclass
from enum import Enum, auto

from quicpipe_lab.model.address import TransportAddress


class State(Enum):
    """Where the direct path stands."""

    RELAYED = auto()
    """Data goes through the relay; perhaps another attempt is due later."""
    PUNCHING = auto()
    """Datagrams go to the peer's candidates; nobody has answered yet."""
    SEARCHING = auto()
    """Punching was in vain; one side opens many ports, the other knocks (port_search.py)."""
    VALIDATING = auto()
    """Controller: QUIC validates the address that answered (RFC 9000, 8.2)."""
    DIRECT = auto()
    """Data goes to the peer itself."""


class Trigger(Enum):
    """What moves the machine."""

    CANDIDATES = auto()
    """The peer's candidates are known, or another round is due."""
    SEARCH = auto()
    """Both sides want a port search, and this round has come to nothing."""
    ANSWERED = auto()
    """Controller: an authenticated answer came back."""
    EXHAUSTED = auto()
    """All punch datagrams are spent, or validation came to nothing."""
    MOVED_DIRECT = auto()
    """The QUIC connection uses the direct path now."""
    SILENT = auto()
    """Controller: the oldest heartbeat without an answer is too old."""
    MOVED_RELAYED = auto()
    """The QUIC connection uses the relay again."""


TRANSITIONS: dict[tuple[State, Trigger], State] = {
    (State.RELAYED, Trigger.CANDIDATES): State.PUNCHING,
    (State.RELAYED, Trigger.MOVED_DIRECT): State.DIRECT,  # a follower whose own round had ended
    (State.PUNCHING, Trigger.CANDIDATES): State.PUNCHING,
    (State.PUNCHING, Trigger.ANSWERED): State.VALIDATING,
    (State.PUNCHING, Trigger.EXHAUSTED): State.RELAYED,
    (State.PUNCHING, Trigger.MOVED_DIRECT): State.DIRECT,
    (State.PUNCHING, Trigger.SEARCH): State.SEARCHING,
    (State.RELAYED, Trigger.SEARCH): State.SEARCHING,  # a follower whose own round had ended
    (State.SEARCHING, Trigger.ANSWERED): State.VALIDATING,
    (State.SEARCHING, Trigger.EXHAUSTED): State.RELAYED,
    (State.SEARCHING, Trigger.MOVED_DIRECT): State.DIRECT,
    (State.SEARCHING, Trigger.CANDIDATES): State.PUNCHING,
    (State.VALIDATING, Trigger.MOVED_DIRECT): State.DIRECT,
    (State.VALIDATING, Trigger.EXHAUSTED): State.RELAYED,
    (State.DIRECT, Trigger.SILENT): State.RELAYED,
    (State.DIRECT, Trigger.MOVED_RELAYED): State.RELAYED,
}
"""Every transition; what is not here changes nothing."""


class CommandKind(Enum):
    """What the owner is asked for."""

    PROBE = auto()
    """Validate ``address`` with a PATH_CHALLENGE and move there."""
    ABANDON = auto()
    """Stop validating ``address``."""
    RETURN = auto()
    """Move back to the relay."""
    NEW_ROUND = auto()
    """Tell the peer our candidates again, so that it punches at the same time."""
    REFRESH = auto()
    """Ask the relay where it sees us; where that is elsewhere now, tell the peer."""
    SEARCH = auto()
    """Tell the peer that we would search now, and what we would do (``DirectPath.offer``)."""


@dataclass(frozen=True, slots=True)
class Command:
    """``address`` is that of PROBE and ABANDON."""

    kind: CommandKind
    address: TransportAddress | None = None


@dataclass(frozen=True, slots=True)
class DirectTiming:
    """The numbers of the direct path; seconds and counts.

    Probing: ``probes`` punch datagrams a candidate, a bound on what a peer can make us send. The
    first half go ``probe_interval_s`` apart, or an eighth of the relayed round trip if that is
    more; the second half four times as far apart: several round trips in all.

    Heartbeats: every ``busy_heartbeat_s`` while data awaits acknowledgement, else every
    ``idle_heartbeat_s``. The path counts as dead when a heartbeat has been without an answer for
    ``silence_heartbeats`` intervals and two of the longest round trips of late. A transfer then
    stands still for about half a second; Tailscale's 3 s / 6.5 s would be felt.
    """

    probes: int = 20
    probe_interval_s: float = 0.02
    challenge_interval_s: float = 0.1
    challenges: int = 8
    busy_heartbeat_s: float = 0.1
    idle_heartbeat_s: float = 1.0
    silence_heartbeats: int = 3
    retry_s: float = 1.0
    max_retry_s: float = 30.0
