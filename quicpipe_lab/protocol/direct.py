"""The direct path: punch, choose, validate, watch, fall back, try again; search, if both want it.

One machine for both peers. The dialer is the controller: only a QUIC client may migrate (RFC 9000,
9), so it alone validates and moves; the accepter punches, answers and follows. The machine sends
punch datagrams itself and asks its owner for what only the QUIC connection can do (``Command``).
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.protocol.candidates import MAX_CANDIDATES, MAX_SEARCHED, MAX_SIGNALLED
from quicpipe_lab.protocol.direct_states import (
    TRANSITIONS,
    Command,
    CommandKind,
    DirectTiming,
    State,
    Trigger,
)
from quicpipe_lab.protocol.events import (
    DirectSilent,
    EndpointEvent,
    PortSearchEnded,
    PortSearchStarted,
    PunchAnswered,
    PunchFailed,
    PunchStarted,
)
from quicpipe_lab.protocol.port_search import Offer, PortSearch, SearchLimits
from quicpipe_lab.protocol.quic import RandomBytes
from quicpipe_lab.protocol.socket_routes import SocketRoutes
from quicpipe_lab.protocol.wire import Punch, PunchKind, decode_punch, encode_punch


@dataclass(slots=True)
class _Candidate:
    """``via``: by which of our sockets (SocketRoutes)."""

    address: TransportAddress
    via: int
    sent: int = 0
    next_s: float = 0.0


@dataclass(slots=True)
class _Sent:
    """``number``: of a port search's probe, else 0."""

    address: TransportAddress
    at_s: float
    via: int
    number: int


@dataclass(frozen=True, slots=True)
class _CrookedAnswer:
    """What went to one address of the peer's NAT was answered from another."""

    sent: _Sent
    heard_from: TransportAddress
    rtt_s: float


@dataclass
class DirectPath:
    """The machine. Its own five calls are receive, datagrams_to_send, get_timer, handle_timer and
    next_event; ``next_command`` comes beside them."""

    is_controller: bool
    random: RandomBytes
    timing: DirectTiming = field(default_factory=DirectTiming)
    search_limits: SearchLimits | None = None
    """None: we take part in no port search."""
    state: State = State.RELAYED
    round: int = 0

    def __post_init__(self) -> None:
        self._key: bytes | None = None
        self._candidates: list[_Candidate] = []
        self._signalled: tuple[TransportAddress, ...] = ()
        self._heard_from: TransportAddress | None = None
        self.routes = SocketRoutes()
        limits = self.search_limits
        self._search = None if limits is None else PortSearch(limits, self.random)
        self._search_at: TransportAddress | None = None
        self._is_shared = False
        self._transactions: dict[bytes, _Sent] = {}
        self._pings = 0
        self._most_transactions = 512 if self.search_limits is None else 4096
        self._answer: TransportAddress | None = None
        self._last_direct: TransportAddress | None = None
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
        self.extra_outbox: list[tuple[int, bytes, TransportAddress]] = []
        """What goes out by another socket than the first; the owner empties it."""
        self._commands: deque[Command] = deque()
        self._events: deque[EndpointEvent] = deque()

    # What the owner tells

    def punch(
        self,
        key: bytes,
        candidates: Sequence[TransportAddress],
        relay_rtt_s: float | None,
        now: float,
        search_at: TransportAddress | None = None,
    ) -> None:
        """Both sides know each other's candidates: begin, or begin another round.

        ``search_at``: where a port search may go if the round comes to nothing, None for nowhere.
        """
        self._key = key
        self._signalled = tuple(candidates)
        self._search_at = search_at
        self._is_shared = True
        self._interval_s = max(self.timing.probe_interval_s, (relay_rtt_s or 0.0) / 8)
        if self.state in (State.RELAYED, State.PUNCHING, State.SEARCHING):
            self._start_round(now)

    def learn(
        self,
        candidates: Sequence[TransportAddress],
        search_at: TransportAddress | None,
        now: float,
    ) -> None:
        """The peer is seen elsewhere than where the round said: look for it there as well."""
        self._signalled = tuple(dict.fromkeys((*candidates, *self._signalled)))[:MAX_SIGNALLED]
        self._search_at = search_at
        for address in candidates:
            if self.state is State.PUNCHING and len(self._candidates) < MAX_SIGNALLED:
                self._consider(address, 0, now)
            elif self.state is State.SEARCHING and self._search is not None:
                self._search.redirect(address, now)
        self.try_again(now)

    def try_again(self, now: float) -> None:
        """One of us is seen elsewhere now: what has failed so far may do so no more."""
        self._retry_s = self.timing.retry_s
        if self._retry_at is not None:
            self._retry_at = min(self._retry_at, now + self._retry_s)

    @property
    def offer(self) -> Offer:
        """What we would do in a port search now."""
        if self._search is None:
            return Offer(0, 0.0)
        return self._search.offer(heard=self._heard_from is not None)

    def search(self, ours: Offer, theirs: Offer, relay_rtt_s: float | None, now: float) -> None:
        """Both sides have said what they would do: do it."""
        if self._search is None or self._search_at is None:
            return
        if self._search.is_spent or not (ours.probes or theirs.probes):
            if self.state is State.SEARCHING:
                self._go(Trigger.EXHAUSTED, now)
            return
        self._go(Trigger.SEARCH, now)
        if self.state is not State.SEARCHING:
            return
        at = self._search_at
        aim = self._heard_from if self._heard_from and self._heard_from.host == at.host else at
        self._search.begin(at, aim, ours, theirs, relay_rtt_s or 0.0, now)
        self._events.append(PortSearchStarted(at.host, len(self._search.sockets), ours.probes))

    def moved(self, address: TransportAddress | None, now: float) -> None:
        """The QUIC connection changed its path: to ``address``, or to the relay (None)."""
        if address is None:
            self._go(Trigger.MOVED_RELAYED, now)
            return
        self._answer = self._last_direct = address
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
        self.extra_outbox.clear()
        self._commands.clear()

    @property
    def extra_sockets(self) -> frozenset[int]:
        """The sockets, beside the endpoint's own, that are needed now; their numbers are ours."""
        wanted: set[int] = set()
        if self._search is not None and self.state in (State.SEARCHING, State.VALIDATING):
            wanted.update(self._search.sockets)
        if self._last_direct is not None:
            wanted.add(self.routes.via(self._last_direct))
        return frozenset(wanted - {0})

    # The five calls

    def receive(self, data: bytes, source: TransportAddress, now: float, via: int = 0) -> None:
        """A datagram that is not QUIC. What is not authentic leaves no trace."""
        punch = decode_punch(data, self._key) if self._key is not None else None
        if punch is None or punch.from_dialer == self.is_controller:
            return
        self.routes.authentic(source, via)
        if punch.kind is PunchKind.PING:
            self._heard_from = source
            self._send(PunchKind.PONG, source, punch.transaction, via)
            self._consider(source, via, now)
            return
        sent = self._transactions.pop(punch.transaction, None)
        if sent is None or sent.via != via:
            return
        if sent.address == self.canonical(source):
            self._answered(sent, now)
        elif self.state is State.PUNCHING and self._crooked is None:
            # ICE would discard it (RFC 8445, 7.2.5.2.1). We keep the first, for want of better.
            self._crooked = _CrookedAnswer(sent, source, now - sent.at_s)

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
            self._ping_candidates(now)
        elif self.state is State.SEARCHING:
            assert self._search is not None
            self._ping_candidates(now)
            for via, address, number in self._search.due(now):
                self._ping(address, now, via, number)
        elif self.state is State.DIRECT and self.is_controller:
            assert self._heartbeat_at is not None and self._answer is not None
            if self._heartbeat_at <= now:
                self._ping(self._answer, now, self.routes.via(self._answer))
                if self._unanswered_since is None:
                    self._unanswered_since = now
                self._heartbeat_at = now + self._heartbeat_s
        due = list(self._outbox)
        self._outbox.clear()
        return due

    def get_timer(self) -> float | None:
        """When ``handle_timer`` wants to be called next."""
        times: list[float | None] = [self._retry_at]
        unspent = [one.next_s for one in self._candidates if not self._is_spent(one)]
        if self.state is State.PUNCHING:
            # When all is sent, answers still have as long as to the next datagram.
            times.append(min(unspent) if unspent else self._round_ends_at)
        elif self.state is State.SEARCHING:
            assert self._search is not None
            times += [*unspent, self._search.get_timer()]
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
                self._is_shared = False
                self._start_round(now)
        if self.state is State.PUNCHING:
            if all(map(self._is_spent, self._candidates)) and self._round_ends_at <= now:
                self._end_round(now)
        elif self.state is State.SEARCHING:
            assert self._search is not None
            if self._search.is_to_ask(now):
                self._commands.append(Command(CommandKind.REFRESH))
            if self._search.ends_s <= now:
                self._go(Trigger.EXHAUSTED, now)
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
        if before is State.SEARCHING:
            self._end_search(trigger, now)
        if self._search is not None and after not in (State.SEARCHING, State.VALIDATING):
            self._search.stop()
        if after is State.SEARCHING:
            self._candidates = []
        elif after is State.VALIDATING:
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
            retry_s = self._retry_s if self.is_controller else 0.0
            self._events.append(PunchFailed(self._pings, retry_s, self._searches_left))
        self._retry_s = min(self._retry_s * 2, self.timing.max_retry_s)

    def _start_round(self, now: float) -> None:
        ways = [(address, 0) for address in self._signalled]
        if self._last_direct is not None:
            # What was direct before may be so again, though nobody signals it.
            ways.append((self._last_direct, self.routes.via(self._last_direct)))
        self._candidates = [
            _Candidate(address, via, next_s=now) for address, via in dict.fromkeys(ways)
        ]
        self._heard_from = None
        self._pings = 0
        self._retry_at = self._crooked = self._alias = None
        if self.state is not State.PUNCHING:
            self._events.append(PunchStarted(self.round))
            # Our NAT may have forgotten us, and what we have told be wrong; the round goes on.
            self._commands.append(Command(CommandKind.REFRESH))
        self._go(Trigger.CANDIDATES, now)

    # Parts

    def _consider(self, source: TransportAddress, via: int, now: float) -> None:
        """An authentic datagram came from an address: punch there too (peer-reflexive)."""
        if self.state not in (State.PUNCHING, State.SEARCHING):
            return
        known = {(one.address, one.via) for one in self._candidates}
        most = MAX_CANDIDATES if self.state is State.PUNCHING else MAX_SEARCHED
        if (source, via) not in known and len(known) < most:
            self._candidates.append(_Candidate(source, via, next_s=now))
        if self.state is State.SEARCHING and self._search is not None:
            self._search.aim(source, now)

    def _end_round(self, now: float) -> None:
        """Nobody answered straight: a crooked answer has to do, if there was one; else a search."""
        crooked, search = self._crooked, self._search
        if not self.is_controller:
            self._go(Trigger.EXHAUSTED, now)
        elif crooked is not None:
            self._alias = crooked.heard_from
            self._answered(crooked.sent, now, heard_from=crooked.heard_from, rtt_s=crooked.rtt_s)
        elif search and self._searches_left and self._is_shared and search.may_begin(now):
            self._go(Trigger.SEARCH, now)
            search.await_answer(now)
            self._commands.append(Command(CommandKind.SEARCH))
        else:
            self._go(Trigger.EXHAUSTED, now)

    @property
    def _searches_left(self) -> int:
        return 0 if self._search is None or self._search_at is None else self._search.left

    def _end_search(self, trigger: Trigger, now: float) -> None:
        search = self._search
        if search is None or search.began_s is None:
            return
        found = trigger in (Trigger.ANSWERED, Trigger.MOVED_DIRECT)
        took_s = now - search.began_s
        self._events.append(PortSearchEnded(found, search.sent, search.opened, search.hit, took_s))

    def _ping_candidates(self, now: float) -> None:
        for candidate in self._candidates:
            if not self._is_spent(candidate) and candidate.next_s <= now:
                self._ping(candidate.address, now, candidate.via)
                candidate.sent += 1
                half = candidate.sent < self.timing.probes // 2
                candidate.next_s = now + self._interval_s * (1 if half else 4)

    def _is_spent(self, candidate: _Candidate) -> bool:
        return candidate.sent >= self.timing.probes

    @property
    def _round_ends_at(self) -> float:
        """When the last candidate's last datagram has had its time; at once without candidates."""
        return max((one.next_s for one in self._candidates), default=0.0)

    def _answered(
        self,
        sent: _Sent,
        now: float,
        heard_from: TransportAddress | None = None,
        rtt_s: float | None = None,
    ) -> None:
        address, rtt_s = sent.address, now - sent.at_s if rtt_s is None else rtt_s
        if self.state is State.DIRECT and address == self._answer:
            self._unanswered_since = None
            # The largest of late, slowly forgotten: a busy peer answers late before it is dead.
            self._answer_rtt_s = max(rtt_s, 0.9 * self._answer_rtt_s)
        elif self.state in (State.PUNCHING, State.SEARCHING):
            reflexive = address not in self._signalled
            self._events.append(PunchAnswered(address, rtt_s, reflexive, heard_from))
            if self._search is not None:
                self._search.found(sent.number)
            if self.is_controller:
                self._answer, self._answer_rtt_s = address, rtt_s
                self.routes.use(address, sent.via)
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

    def _ping(self, address: TransportAddress, now: float, via: int = 0, number: int = 0) -> None:
        self._pings += 1
        transaction = self.random(8)
        self._transactions[transaction] = _Sent(address, now, via, number)
        while (
            len(self._transactions) > self._most_transactions
        ):  # forget the oldest, long without an answer
            self._transactions.pop(next(iter(self._transactions)))
        self._send(PunchKind.PING, address, transaction, via)

    def _send(
        self, kind: PunchKind, address: TransportAddress, transaction: bytes, via: int
    ) -> None:
        assert self._key is not None
        data = encode_punch(Punch(kind, self.is_controller, transaction), self._key)
        if via:
            self.extra_outbox.append((via, data, address))
        else:
            self._outbox.append((data, address))

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
