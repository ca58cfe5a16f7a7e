"""The direct path: punch, choose, validate, watch, fall back, try again.

One machine for both peers. The dialer is the controller: only a QUIC client may migrate (RFC 9000,
9), so it alone validates and moves; the accepter punches, answers and follows. The machine sends
punch datagrams itself and asks its owner for what only the QUIC connection can do (``Command``).
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.protocol.candidates import MAX_CANDIDATES
from quicpipe_lab.protocol.events import (
    DirectSilent,
    EndpointEvent,
    PunchAnswered,
    PunchFailed,
    PunchStarted,
)
from quicpipe_lab.protocol.quic import RandomBytes
from quicpipe_lab.protocol.wire import Punch, PunchKind, decode_punch, encode_punch


class State(Enum):
    """Where the direct path stands."""

    RELAYED = auto()
    """Data goes through the relay; perhaps another attempt is due later."""
    PUNCHING = auto()
    """Datagrams go to the peer's candidates; nobody has answered yet."""
    VALIDATING = auto()
    """Controller: QUIC validates the address that answered (RFC 9000, 8.2)."""
    DIRECT = auto()
    """Data goes to the peer itself."""


class Trigger(Enum):
    """What moves the machine."""

    CANDIDATES = auto()
    """The peer's candidates are known, or another round is due."""
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


@dataclass(frozen=True, slots=True)
class Command:
    """``address`` is None for RETURN and NEW_ROUND."""

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


@dataclass(slots=True)
class _Candidate:
    address: TransportAddress
    sent: int = 0
    next_s: float = 0.0


@dataclass(slots=True)
class _Sent:
    address: TransportAddress
    at_s: float


@dataclass(frozen=True, slots=True)
class _CrookedAnswer:
    """What went to one address of the peer's NAT was answered from another."""

    sent_to: TransportAddress
    heard_from: TransportAddress
    rtt_s: float


@dataclass
class DirectPath:
    """The machine. Its own five calls are receive, datagrams_to_send, get_timer, handle_timer and
    next_event; ``next_command`` comes beside them."""

    is_controller: bool
    random: RandomBytes
    timing: DirectTiming = field(default_factory=DirectTiming)
    state: State = State.RELAYED
    round: int = 0

    def __post_init__(self) -> None:
        self._key: bytes | None = None
        self._candidates: list[_Candidate] = []
        self._signalled: set[TransportAddress] = set()
        self._transactions: dict[bytes, _Sent] = {}
        self._answer: TransportAddress | None = None
        self._crooked: _CrookedAnswer | None = None
        self._alias: TransportAddress | None = None
        self._answer_rtt_s = 0.0
        self._interval_s = self.timing.probe_interval_s
        self._challenges_sent = 0
        self._challenge_at: float | None = None
        self._heartbeat_at: float | None = None
        self._unanswered_since: float | None = None
        self._busy = False
        self._retry_at: float | None = None
        self._retry_s = self.timing.retry_s
        self._outbox: deque[tuple[bytes, TransportAddress]] = deque()
        self._commands: deque[Command] = deque()
        self._events: deque[EndpointEvent] = deque()

    # What the owner tells

    def punch(
        self,
        key: bytes,
        candidates: Sequence[TransportAddress],
        relay_rtt_s: float | None,
        now: float,
    ) -> None:
        """Both sides know each other's candidates: begin, or begin another round."""
        self._key = key
        self._signalled = set(candidates)
        self._interval_s = max(self.timing.probe_interval_s, (relay_rtt_s or 0.0) / 8)
        if self.state in (State.RELAYED, State.PUNCHING):
            self._start_round(candidates, now)

    def moved(self, address: TransportAddress | None, now: float) -> None:
        """The QUIC connection changed its path: to ``address``, or to the relay (None)."""
        if address is None:
            self._go(Trigger.MOVED_RELAYED, now)
            return
        self._answer = address
        self._go(Trigger.MOVED_DIRECT, now)

    def set_busy(self, busy: bool, now: float) -> None:
        """Whether data awaits acknowledgement: heartbeats are then closer."""
        if busy and not self._busy and self._heartbeat_at is not None:
            self._heartbeat_at = min(self._heartbeat_at, now + self.timing.busy_heartbeat_s)
        self._busy = busy

    def heard(self) -> None:
        """The peer acknowledged on the direct path what was sent there: it lives both ways."""
        self._unanswered_since = None

    def stop(self) -> None:
        """The connection is over: send nothing more, answer nobody, want nothing."""
        self.state = State.RELAYED
        self._key = self._retry_at = None
        self._outbox.clear()
        self._commands.clear()

    # The five calls

    def receive(self, data: bytes, source: TransportAddress, now: float) -> None:
        """A datagram that is not QUIC. What is not authentic leaves no trace."""
        punch = decode_punch(data, self._key) if self._key is not None else None
        if punch is None or punch.from_dialer == self.is_controller:
            return
        if punch.kind is PunchKind.PING:
            self._send(PunchKind.PONG, source, punch.transaction)
            self._consider(source, now)
            return
        sent = self._transactions.pop(punch.transaction, None)
        if sent is None:
            return
        if sent.address == self.canonical(source):
            self._answered(sent.address, now - sent.at_s, now)
        elif self.state is State.PUNCHING and self._crooked is None:
            # ICE would discard it (RFC 8445, 7.2.5.2.1). We keep the first, for want of better.
            self._crooked = _CrookedAnswer(sent.address, source, now - sent.at_s)

    def canonical(self, source: TransportAddress) -> TransportAddress:
        """The address that what comes from ``source`` is to count as coming from.

        Between two APDM mappings each side's port depends on the other's: we send to one port of
        the peer's NAT and hear from another. Both are the peer's, as its authenticated answer
        said, and to QUIC, which knows a path by one address, they are one.
        """
        return self._answer if source == self._alias and self._answer is not None else source

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, TransportAddress]]:
        """Whatever is due at ``now``."""
        if self.state is State.PUNCHING:
            for candidate in self._candidates:
                if not self._is_spent(candidate) and candidate.next_s <= now:
                    self._ping(candidate.address, now)
                    candidate.sent += 1
                    half = candidate.sent < self.timing.probes // 2
                    candidate.next_s = now + self._interval_s * (1 if half else 4)
        elif self.state is State.DIRECT and self.is_controller:
            assert self._heartbeat_at is not None and self._answer is not None
            if self._heartbeat_at <= now:
                self._ping(self._answer, now)
                if self._unanswered_since is None:
                    self._unanswered_since = now
                self._heartbeat_at = now + self._heartbeat_s
        due = list(self._outbox)
        self._outbox.clear()
        return due

    def get_timer(self) -> float | None:
        """When ``handle_timer`` wants to be called next."""
        times: list[float | None] = [self._retry_at]
        if self.state is State.PUNCHING:
            unspent = [one.next_s for one in self._candidates if not self._is_spent(one)]
            # When all is sent, answers still have as long as to the next datagram.
            times.append(min(unspent) if unspent else self._round_ends_at)
        elif self.state is State.VALIDATING:
            times.append(self._challenge_at)
        elif self.state is State.DIRECT:
            times += [self._heartbeat_at, self._silent_at]
        return min((time for time in times if time is not None), default=None)

    def handle_timer(self, now: float) -> None:
        """Make what is due happen; call ``datagrams_to_send`` afterwards."""
        if self._retry_at is not None and self._retry_at <= now:
            self._retry_at = None
            if self.state is State.RELAYED:
                self.round += 1
                self._commands.append(Command(CommandKind.NEW_ROUND))
                # Nor wait for the peer: its mapping may still be open, and the relay be gone.
                self._start_round([one.address for one in self._candidates], now)
        if self.state is State.PUNCHING:
            if all(map(self._is_spent, self._candidates)) and self._round_ends_at <= now:
                self._end_round(now)
        elif self.state is State.VALIDATING and self._challenge_at is not None:
            if self._challenge_at <= now:
                self._challenge(now)
        elif self.state is State.DIRECT and self._silent_at is not None and self._silent_at <= now:
            self._judge_silence(now)

    def next_event(self) -> EndpointEvent | None:
        """The next event, or None."""
        return self._events.popleft() if self._events else None

    def next_command(self) -> Command | None:
        """The next wish to the owner, or None."""
        return self._commands.popleft() if self._commands else None

    # Transitions

    def _go(self, trigger: Trigger, now: float) -> None:
        before = self.state
        after = TRANSITIONS.get((before, trigger))
        if after is None:
            return
        self.state = after
        if after is State.VALIDATING:
            self._challenges_sent = 0
            self._challenge(now)
        elif after is State.DIRECT:
            self._retry_at = None
            self._retry_s = self.timing.retry_s
            self._unanswered_since = None
            self._heartbeat_at = now + self.timing.busy_heartbeat_s if self.is_controller else None
        elif after is State.RELAYED:
            self._back_to_relay(before, now)

    def _back_to_relay(self, before: State, now: float) -> None:
        self._heartbeat_at = self._unanswered_since = self._challenge_at = None
        self._transactions.clear()
        if before is State.VALIDATING:
            self._commands.append(Command(CommandKind.ABANDON, self._answer))
        elif before is State.DIRECT and self.is_controller:
            self._commands.append(Command(CommandKind.RETURN))
        if self.is_controller:
            self._retry_at = now + self._retry_s
        if before is not State.DIRECT:
            sent = sum(one.sent for one in self._candidates)
            self._events.append(PunchFailed(sent, self._retry_s if self.is_controller else 0.0))
        self._retry_s = min(self._retry_s * 2, self.timing.max_retry_s)

    def _start_round(self, candidates: Sequence[TransportAddress], now: float) -> None:
        self._candidates = [_Candidate(address, next_s=now) for address in candidates]
        self._retry_at = self._crooked = self._alias = None
        if self.state is not State.PUNCHING:
            self._events.append(PunchStarted(self.round))
        self._go(Trigger.CANDIDATES, now)

    # Parts

    def _consider(self, source: TransportAddress, now: float) -> None:
        """An authentic datagram came from an address: punch there too (peer-reflexive)."""
        known = {one.address for one in self._candidates}
        if self.state is State.PUNCHING and source not in known and len(known) < MAX_CANDIDATES:
            self._candidates.append(_Candidate(source, next_s=now))

    def _end_round(self, now: float) -> None:
        """Nobody answered straight: a crooked answer has to do, if there was one."""
        crooked = self._crooked
        if crooked is None or not self.is_controller:
            self._go(Trigger.EXHAUSTED, now)
            return
        self._alias = crooked.heard_from
        self._answered(crooked.sent_to, crooked.rtt_s, now, heard_from=crooked.heard_from)

    def _is_spent(self, candidate: _Candidate) -> bool:
        return candidate.sent >= self.timing.probes

    @property
    def _round_ends_at(self) -> float:
        """When the last candidate's last datagram has had its time; at once without candidates."""
        return max((one.next_s for one in self._candidates), default=0.0)

    def _answered(
        self,
        address: TransportAddress,
        rtt_s: float,
        now: float,
        heard_from: TransportAddress | None = None,
    ) -> None:
        if self.state is State.DIRECT and address == self._answer:
            self._unanswered_since = None
            # The largest of late, slowly forgotten: a busy peer answers late before it is dead.
            self._answer_rtt_s = max(rtt_s, 0.9 * self._answer_rtt_s)
        elif self.state is State.PUNCHING:
            reflexive = address not in self._signalled
            self._events.append(PunchAnswered(address, rtt_s, reflexive, heard_from))
            if self.is_controller:
                self._answer, self._answer_rtt_s = address, rtt_s
                self._go(Trigger.ANSWERED, now)

    def _challenge(self, now: float) -> None:
        if self._challenges_sent >= self.timing.challenges:
            self._go(Trigger.EXHAUSTED, now)
            return
        self._challenges_sent += 1
        self._commands.append(Command(CommandKind.PROBE, self._answer))
        self._challenge_at = now + max(self.timing.challenge_interval_s, 2 * self._answer_rtt_s)

    def _judge_silence(self, now: float) -> None:
        assert self._silent_at is not None
        assert self._unanswered_since is not None
        if now - self._silent_at > self.timing.busy_heartbeat_s:
            # It was we who slept (a busy machine, a suspended laptop): ask once more.
            self._unanswered_since = self._heartbeat_at = now
            return
        self._events.append(DirectSilent(now - self._unanswered_since))
        self._go(Trigger.SILENT, now)

    def _ping(self, address: TransportAddress, now: float) -> None:
        transaction = self.random(8)
        self._transactions[transaction] = _Sent(address, now)
        while len(self._transactions) > 512:  # forget the oldest, long without an answer
            self._transactions.pop(next(iter(self._transactions)))
        self._send(PunchKind.PING, address, transaction)

    def _send(self, kind: PunchKind, address: TransportAddress, transaction: bytes) -> None:
        assert self._key is not None
        self._outbox.append(
            (encode_punch(Punch(kind, self.is_controller, transaction), self._key), address)
        )

    @property
    def _heartbeat_s(self) -> float:
        return self.timing.busy_heartbeat_s if self._busy else self.timing.idle_heartbeat_s

    @property
    def _silent_at(self) -> float | None:
        if self._unanswered_since is None:
            return None
        return (
            self._unanswered_since
            + self.timing.silence_heartbeats * self._heartbeat_s
            + 2 * self._answer_rtt_s
        )
