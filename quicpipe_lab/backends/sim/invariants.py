"""What must hold in every run, whatever the network does: seen from outside the machines.

``Invariants`` looks at every frame at the three hosts, at every timer that goes off, and hears what
the relay says that it binds. No machine is asked what it holds for right: who has shown that he
receives somewhere is validation.py's to say; who may send through the relay follows from it. Where
something is wrong it raises ``InvariantBrokenError`` at once, and the run ends there.
"""

from collections import Counter, defaultdict
from collections.abc import Callable
from functools import lru_cache
from ipaddress import ip_address

from quicpipe_lab.backends.script import RunFailedError
from quicpipe_lab.backends.sim.farewell import Farewell
from quicpipe_lab.backends.sim.nat64 import to_ipv4
from quicpipe_lab.backends.sim.node import FrameSeen
from quicpipe_lab.backends.sim.packet import Udp
from quicpipe_lab.backends.sim.relay_silence import RelaySilence
from quicpipe_lab.backends.sim.validation import REMEMBERED, Validation
from quicpipe_lab.backends.transfer import EchoMismatchError
from quicpipe_lab.model.address import TransportAddress, split_host_port
from quicpipe_lab.model.event import Event
from quicpipe_lab.model.scenario import Scenario
from quicpipe_lab.protocol.candidates import MAX_CANDIDATES
from quicpipe_lab.protocol.connection_id import is_relay_connection_id
from quicpipe_lab.protocol.direct_states import DirectTiming
from quicpipe_lab.protocol.endpoint import Endpoint
from quicpipe_lab.protocol.port_search import SearchLimits
from quicpipe_lab.protocol.relay import Relay
from quicpipe_lab.protocol.relay_limits import RelayLimits
from quicpipe_lab.protocol.wire import PunchKind, parse_invariants

DATA = EchoMismatchError.invariant
"""No byte is lost, repeated or altered (transfer.py)."""
LIVENESS = "liveness"
"""What is waited for comes, and no connection dies, while there is a path (liveness.py); nor does
one end without a word (farewell.py)."""
AMPLIFICATION = "amplification"
"""RFC 9000, 8.1 and 9.3.1; NAT-TRAVERSAL's bounds of what is sent to who never answered. What is
bound where nobody has answered lets others send there without limit."""
OPEN_RELAY = "open-relay"
"""Only what comes from a bound address is forwarded, and only to one."""
TIMER = "timer"
"""No timer goes off again and again for nothing, and none is missing or says too little."""
NAMES = (DATA, LIVENESS, AMPLIFICATION, OPEN_RELAY, TIMER)

Machine = Endpoint | Relay

_AMPLIFICATION = 3
_MOST_PUNCH_BYTES = 100
_HEARTBEATS = 40
"""That may be on their way to a peer that has just died, over a long round trip."""
_MOST_IDLE_ALARMS = 500
_IDLE_ALARMS_S = 0.01
_OVERDUE_S = 1.0
_NAP_S = 0.05
_SLEEP_S = 1.0
"""A machine that is woken so long before its timer, or longer, has nothing to send. With less it
may have: aioquic's pacing says when the next packet may go at the latest, which is within a second.
"""
_EVE_S = 0.001
"""Nor has it anything else to do, if it is woken so long before its timer."""
_LEASE_S = RelayLimits().idle_timeout_s + RelayLimits().linger_s + 10.0
"""A binding may outlive the last datagram from its address by so much: its connection's end, what
it lingers, and probes that go unanswered."""


class InvariantBrokenError(RunFailedError):
    """``invariant`` is one of NAMES."""

    def __init__(self, invariant: str, problem: str) -> None:
        super().__init__(f"invariant broken: {invariant}: {problem}")
        self.invariant = invariant


class Invariants:
    """``machine`` answers which machine runs at a node now, or None."""

    def __init__(self, scenario: Scenario, machine: Callable[[str], Machine | None]) -> None:
        self._machine = machine
        self._relay_node = scenario.relay
        self._peers = {
            node: _PeerWatch(node, scenario) for node in (scenario.dialer, scenario.accepter)
        }
        self._farewell = Farewell(*self._peers)
        self._silences = {node: RelaySilence() for node in self._peers}
        self._alarms: dict[str, tuple[float, int]] = {}
        self.relay_restarted()

    def see(self, frame: FrameSeen) -> None:
        """A frame at an interface of any node."""
        node, packet = frame.node, frame.packet
        if node != self._relay_node and node not in self._peers:
            return
        if not isinstance(packet, Udp) or packet.flipped_bits or not packet.data:
            return
        self._alarms.pop(node, None)
        self._relay.now = frame.time_s
        if node == self._relay_node:
            self._see_relay(frame.direction, packet)
            return
        for validation in self._validations[node]:
            if frame.direction == "in":
                validation.heard(node, packet.data)
            else:
                validation.answered(node, packet.data)
        watch, silence = self._peers[node], self._silences[node]
        if frame.direction == "in":
            watch.came(packet)
            silence.heard(packet.data, frame.time_s)
        else:
            watch.sent(packet)
            silence.said(packet.data)
            self._farewell.sent(node, packet.data)

    def _see_relay(self, direction: str, packet: Udp) -> None:
        if direction == "in":
            self._relay.came(packet)
            for silence in self._silences.values():
                silence.reached(packet.data)
            return
        self._relay.sent(packet)
        owner = self._relay.validation.owner_of(packet.destination)
        if owner is not None:
            self._silences[owner].answered(packet.data)

    def hear(self, event: Event) -> None:
        """Anybody has reported something."""
        self._farewell.hear(event)
        if event.name in ("punch-started", "candidates-exchanged") and event.node in self._peers:
            self._peers[event.node].rounds += 1
        elif event.node == self._relay_node:
            self._relay.hear(event)

    def woken(self, node: str, since_s: float, now: float) -> None:
        """A machine is called, which was not since ``since_s``. What its timer leaves out it does
        all the same, as soon as anything else wakes it; only late, and where much goes on nobody
        sees it. So it is woken once more, well before it wants to be: then it has nothing to do."""
        machine = self._machine(node)
        assert machine is not None
        timer = machine.get_timer()
        for before_s in (_SLEEP_S, _EVE_S):
            early_s = now if timer is None else min(now, timer - before_s)
            if early_s - since_s < _NAP_S:
                continue
            machine.handle_timer(early_s)
            sent = machine.datagrams_to_send(early_s) if before_s == _SLEEP_S else []
            event = machine.next_event()
            if event is not None:
                what = type(event).__name__
            elif sent:
                what = f"{len(sent)} datagrams to send"
            elif machine.get_timer() != timer:
                what = "something to do"
            else:
                continue
            raise InvariantBrokenError(
                TIMER, f"{node} had {what} when it was woken, and would have slept on"
            )

    def fired(self, node: str, now: float) -> None:
        """A machine's timer went off. That it does so without anything being sent or received is
        usual, but not hundreds of times in no time."""
        began_s, count = self._alarms.get(node, (now, 0))
        if now - began_s > _IDLE_ALARMS_S:
            began_s, count = now, 0
        self._alarms[node] = began_s, count + 1
        if count >= _MOST_IDLE_ALARMS:
            raise InvariantBrokenError(
                TIMER, f"{node}'s timer went off {count} times in {now - began_s:.6f} s for nothing"
            )

    def ended(self, node: str) -> None:
        """A program has ended by itself."""
        problem = self._farewell.problem(node)
        if problem is not None:
            raise InvariantBrokenError(LIVENESS, problem)

    def may_give_up_relay(self, node: str, now: float) -> bool:
        """Whether a peer that has heard nothing of the relay could have."""
        return self._silences[node].excuses(now)

    def has_stuck_timer(self, now: float) -> bool:
        """Whether a peer has no timer, or one that should have gone off long ago."""
        machines = (self._machine(node) for node in self._peers)
        timers = (one.get_timer() for one in machines if one is not None)
        return any(timer is None or timer < now - _OVERDUE_S for timer in timers)

    def relay_restarted(self) -> None:
        """What the former one knew is gone."""
        self._relay = _RelayWatch()
        dialer, accepter = self._peers.values()
        self._validations = {
            node: (self._relay.validation, other.validation)
            for node, other in zip(self._peers, (accepter, dialer), strict=True)
        }


class _RelayWatch:
    """What is forwarded is known by its connection ID, where it came from by its bytes.

    A peer registers one key, so that it is bound at one address: the last that the relay told of,
    while any of its IDs is. ``_bound`` is by peer: the address, and of how many IDs.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.validation = Validation()
        self._received: Counter[TransportAddress] = Counter()
        self._sent: Counter[TransportAddress] = Counter()
        self._came_s: dict[TransportAddress, float] = {}
        self._arrived: dict[bytes, list[tuple[TransportAddress, bool]]] = {}
        self._bound: dict[str, tuple[TransportAddress, int]] = {}
        self._suspects: list[tuple[float, bytes, TransportAddress]] = []

    def hear(self, event: Event) -> None:
        """Which is told after what was sent in the same turn."""
        if event.name not in ("bound", "unbound", "expired"):
            return
        address = TransportAddress(*split_host_port(event.data["address"]))
        owner = self.validation.owner_of(address)
        if owner is None:
            raise InvariantBrokenError(
                AMPLIFICATION,
                f"the relay bound {address}, which has not shown that it receives (RFC 9000, 8)",
            )
        was, ids = self._bound.get(owner, (address, 0))
        match event.name:
            case "bound":
                ids = event.data["num"] + (ids if was == address else 0)
                self._bound[owner] = address, ids
            case "unbound" if was == address:
                self._bound[owner] = address, ids - event.data["num"]
            case "expired" if was == address:
                self._bound.pop(owner, None)

    def came(self, packet: Udp) -> None:
        source, data = packet.source, packet.data
        self._judge_suspects()
        self._received[source] += len(data)
        self.validation.came(data, source)
        header = parse_invariants(data)
        if header is not None and not is_relay_connection_id(header.destination):
            self._arrived.setdefault(data, []).append((source, self._is_bound(source)))
            if len(self._arrived) > REMEMBERED:
                del self._arrived[next(iter(self._arrived))]
        self._came_s[source] = self.now

    def sent(self, packet: Udp) -> None:
        to, data = packet.destination, packet.data
        self._judge_suspects()
        header = parse_invariants(data)
        if header is not None and is_relay_connection_id(header.destination):
            self.validation.said(data, to)
            if self.validation.owner_of(to) is None:
                self._sent[to] += len(data)
                _require_allowance("the relay", to, self._sent[to], self._received[to])
        elif not self._is_right(data, to):
            self._suspects.append((self.now, data, to))

    def _is_right(self, data: bytes, to: TransportAddress) -> bool:
        """Whether somebody bound sent it, once for each time that it is forwarded."""
        came = self._arrived.get(data, [])
        for one in came:
            source, was_bound = one
            if (was_bound or self._is_bound(source)) and self._is_bound(to):
                came.remove(one)
                return True
        return False

    def _is_bound(self, address: TransportAddress) -> bool:
        came_s = self._came_s.get(address, self.now)
        is_told = any(one == address and ids > 0 for one, ids in self._bound.values())
        return is_told and self.now - came_s < _LEASE_S

    def _judge_suspects(self) -> None:
        """What was bound in the turn in which it was forwarded is known only now."""
        while self._suspects and self._suspects[0][0] < self.now:
            _, data, to = self._suspects.pop(0)
            if self._is_right(data, to):
                continue
            if not self._is_bound(to):
                what = f"a datagram to {to}, which is not bound"
            elif self._arrived.get(data):
                what = f"a datagram of {self._arrived[data][-1][0]}, which is not bound"
            else:
                what = f"to {to} what nobody sent to it"
            raise InvariantBrokenError(OPEN_RELAY, f"the relay forwarded {what}")


class _PeerWatch:
    """``rounds``: how many of punching the peer has begun or taken up."""

    def __init__(self, node: str, scenario: Scenario) -> None:
        self.rounds = 0
        self.validation = Validation()
        self._node = node
        self._is_dialer = node == scenario.dialer
        self._relay = TransportAddress(scenario.relay_host(node), 0)
        self._received: Counter[TransportAddress] = Counter()
        self._sent: Counter[TransportAddress] = Counter()
        self._unanswered: defaultdict[TransportAddress, int] = defaultdict(int)
        limits = SearchLimits()
        self._probes = limits.probes if scenario.search else 0
        per_aim = limits.sockets * limits.openings * limits.searches
        self._openings = per_aim * limits.aims if scenario.search else 0
        self._probes_a_round = DirectTiming().probes

    def came(self, packet: Udp) -> None:
        source = _as_programs_see(packet.source)
        self._received[source] += len(packet.data)
        self._unanswered.pop(source, None)
        self.validation.came(packet.data, source)

    def sent(self, packet: Udp) -> None:
        to, data = _as_programs_see(packet.destination), packet.data
        if not _is_fit(to.host) or not to.port:
            raise InvariantBrokenError(
                AMPLIFICATION, f"{self._node} sent to {to}, which is no peer's (RFC 9000, 21.5.6)"
            )
        has_shown = self.validation.owner_of(to) is not None
        if not has_shown:
            self.validation.said(data, to)
        if data[0] < 0x40:
            self._punched(to, data)
        if data[0] != PunchKind.PING and not has_shown and to.host != self._relay.host:
            self._sent_unproven(to, data)

    def _punched(self, to: TransportAddress, data: bytes) -> None:
        if len(data) > _MOST_PUNCH_BYTES:
            raise InvariantBrokenError(
                AMPLIFICATION, f"{self._node} sent {to} a punch datagram of {len(data)} bytes"
            )
        if data[0] != PunchKind.PING:
            return
        self._unanswered[to] += 1
        # What a peer reports comes after what it sends.
        rounds = self.rounds + 1
        most = rounds * self._probes_a_round + _HEARTBEATS + self._openings
        if self._unanswered[to] > most:
            raise InvariantBrokenError(
                AMPLIFICATION,
                f"{self._node} sent {self._unanswered[to]} punch datagrams in {rounds - 1} rounds"
                f" to {to}, which never answered",
            )
        if len(self._unanswered) > rounds * MAX_CANDIDATES + self._probes:
            raise InvariantBrokenError(
                AMPLIFICATION,
                f"{self._node} punches at {len(self._unanswered)} addresses in {rounds - 1} rounds",
            )

    def _sent_unproven(self, to: TransportAddress, data: bytes) -> None:
        """An answer to a punch, or QUIC past the relay. An authentic answer shows the dialer that
        the peer receives at a host, perhaps by another port (``DirectPath.canonical``); the
        accepter is QUIC's server."""
        if self._is_dialer and data[0] >= 0x40:
            if not self.validation.has_shown(to.host):
                raise InvariantBrokenError(
                    AMPLIFICATION, f"{self._node} sent QUIC to {to}, which never answered a punch"
                )
            return
        self._sent[to] += len(data)
        _require_allowance(self._node, to, self._sent[to], self._received[to])


def _require_allowance(who: str, to: TransportAddress, sent: int, received: int) -> None:
    if sent > _AMPLIFICATION * received:
        raise InvariantBrokenError(
            AMPLIFICATION,
            f"{who} sent {sent} bytes to {to}, which has not shown that it receives there and sent"
            f" {received} (RFC 9000, 8)",
        )


def _as_programs_see(address: TransportAddress) -> TransportAddress:
    """Behind a NAT64, IPv4."""
    if ":" not in address.host:
        return address
    ipv4 = to_ipv4(address.host)
    return address if ipv4 is None else TransportAddress(ipv4, address.port)


@lru_cache(maxsize=1024)
def _is_fit(host: str) -> bool:
    address = ip_address(host)
    return not (address.is_loopback or address.is_multicast or address.is_unspecified)
