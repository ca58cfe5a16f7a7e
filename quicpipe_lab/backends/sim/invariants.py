"""What must hold in every run, whatever the network does: seen from outside the machines.

``Invariants`` looks at every frame at the three hosts, and at every timer that goes off. What it
knows of the machines themselves is only whom they say to have validated and bound. It raises
``InvariantBrokenError`` in the moment in which something is wrong, and the run ends there.
"""

from collections import Counter, defaultdict
from collections.abc import Callable
from functools import lru_cache
from ipaddress import ip_address

from quicpipe_lab.backends.script import RunFailedError
from quicpipe_lab.backends.sim.nat64 import to_ipv4
from quicpipe_lab.backends.sim.node import FrameSeen
from quicpipe_lab.backends.sim.packet import Udp
from quicpipe_lab.backends.transfer import EchoMismatchError
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.model.event import Event
from quicpipe_lab.model.scenario import Scenario
from quicpipe_lab.protocol.candidates import MAX_CANDIDATES
from quicpipe_lab.protocol.connection_id import is_relay_connection_id
from quicpipe_lab.protocol.direct_states import DirectTiming
from quicpipe_lab.protocol.endpoint import Endpoint
from quicpipe_lab.protocol.port_search import SearchLimits
from quicpipe_lab.protocol.relay import Relay
from quicpipe_lab.protocol.wire import PunchKind, parse_invariants

DATA = EchoMismatchError.invariant
"""No byte is lost, repeated or altered (transfer.py)."""
LIVENESS = "liveness"
"""What is waited for comes, and no connection dies, while there is a path (liveness.py)."""
AMPLIFICATION = "amplification"
"""RFC 9000, 8.1 and 9.3.1; NAT-TRAVERSAL's bounds of what is sent to who never answered."""
OPEN_RELAY = "open-relay"
"""Only what comes from a bound address is forwarded, and only to one."""
TIMER = "timer"
"""No timer goes off again and again for nothing, and none is missing."""
NAMES = (DATA, LIVENESS, AMPLIFICATION, OPEN_RELAY, TIMER)

Machine = Endpoint | Relay

_AMPLIFICATION = 3
_MOST_PUNCH_BYTES = 100
_HEARTBEATS = 40
"""That may be on their way to a peer that has just died, over a long round trip."""
_MOST_IDLE_ALARMS = 500
_IDLE_ALARMS_S = 0.01
_OVERDUE_S = 1.0
_REMEMBERED = 4096


class InvariantBrokenError(RunFailedError):
    """``invariant`` is one of NAMES."""

    def __init__(self, invariant: str, problem: str) -> None:
        super().__init__(f"invariant broken: {invariant}: {problem}")
        self.invariant = invariant


class Invariants:
    """``machine`` answers which machine runs at a node now, or None."""

    def __init__(self, scenario: Scenario, machine: Callable[[str], Machine | None]) -> None:
        self._machine = machine
        self._relay = _RelayWatch()
        self._relay_node = scenario.relay
        self._peers = {
            node: _PeerWatch(node, scenario) for node in (scenario.dialer, scenario.accepter)
        }
        self._alarms: dict[str, tuple[float, int]] = {}

    def see(self, frame: FrameSeen) -> None:
        """A frame at an interface of any node."""
        node, packet = frame.node, frame.packet
        if node != self._relay_node and node not in self._peers:
            return
        if not isinstance(packet, Udp) or packet.flipped_bits or not packet.data:
            return
        self._alarms.pop(node, None)
        machine = self._machine(node)
        if isinstance(machine, Relay):
            look = self._relay.came if frame.direction == "in" else self._relay.sent
            look(packet, machine)
        elif frame.direction == "in":
            self._peers[node].came(packet)
        elif isinstance(machine, Endpoint):
            self._peers[node].sent(packet, machine)

    def hear(self, event: Event) -> None:
        """Anybody has reported something."""
        if event.name in ("punch-started", "candidates-exchanged") and event.node in self._peers:
            self._peers[event.node].rounds += 1

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

    def has_stuck_timer(self, now: float) -> bool:
        """Whether a peer has no timer, or one that should have gone off long ago."""
        machines = (self._machine(node) for node in self._peers)
        timers = (one.get_timer() for one in machines if one is not None)
        return any(timer is None or timer < now - _OVERDUE_S for timer in timers)

    def relay_restarted(self) -> None:
        """What the former one knew is gone."""
        self._relay = _RelayWatch()


class _RelayWatch:
    """What is forwarded is known by its connection ID, where it came from by its bytes."""

    def __init__(self) -> None:
        self._received: Counter[TransportAddress] = Counter()
        self._sent: Counter[TransportAddress] = Counter()
        self._validated: set[TransportAddress] = set()
        self._arrived: dict[bytes, tuple[TransportAddress, bool]] = {}

    def came(self, packet: Udp, relay: Relay) -> None:
        self._received[packet.source] += len(packet.data)
        header = parse_invariants(packet.data)
        if header is None or is_relay_connection_id(header.destination):
            return
        is_bound = relay.sender(packet.source) is not None
        self._arrived[packet.data] = packet.source, is_bound
        if len(self._arrived) > _REMEMBERED:
            del self._arrived[next(iter(self._arrived))]

    def sent(self, packet: Udp, relay: Relay) -> None:
        to = packet.destination
        header = parse_invariants(packet.data)
        if header is not None and is_relay_connection_id(header.destination):
            self._sent_own(packet, relay)
            return
        source, was_bound = self._arrived.get(packet.data, (None, False))
        if source is None:
            raise InvariantBrokenError(OPEN_RELAY, f"the relay sent {to} what nobody sent to it")
        if not was_bound and relay.sender(source) is None:
            raise InvariantBrokenError(
                OPEN_RELAY, f"the relay forwarded a datagram of {source}, which is not bound"
            )
        if relay.sender(to) is None:
            raise InvariantBrokenError(
                OPEN_RELAY, f"the relay forwarded a datagram to {to}, which is not bound"
            )

    def _sent_own(self, packet: Udp, relay: Relay) -> None:
        to = packet.destination
        if to in self._validated:
            return
        if relay.has_validated(to):
            self._validated.add(to)
            return
        self._sent[to] += len(packet.data)
        _require_allowance("the relay", to, self._sent[to], self._received[to])


class _PeerWatch:
    """``rounds``: how many of punching the peer has begun or taken up."""

    def __init__(self, node: str, scenario: Scenario) -> None:
        self.rounds = 0
        self._node = node
        self._is_dialer = node == scenario.dialer
        self._relay = TransportAddress(scenario.relay_host(node), 0)
        self._received: Counter[TransportAddress] = Counter()
        self._sent: Counter[TransportAddress] = Counter()
        self._validated: set[TransportAddress] = set()
        self._heard: set[TransportAddress] = set()
        self._unanswered: defaultdict[TransportAddress, int] = defaultdict(int)
        limits = SearchLimits()
        self._probes = limits.probes if scenario.search else 0
        per_aim = limits.sockets * limits.openings * limits.searches
        self._openings = per_aim * limits.aims if scenario.search else 0
        self._probes_a_round = DirectTiming().probes

    def came(self, packet: Udp) -> None:
        source = _as_programs_see(packet.source)
        self._received[source] += len(packet.data)
        self._heard.add(source)
        self._unanswered.pop(source, None)

    def sent(self, packet: Udp, endpoint: Endpoint) -> None:
        to, data = _as_programs_see(packet.destination), packet.data
        if not _is_fit(to.host) or not to.port:
            raise InvariantBrokenError(
                AMPLIFICATION, f"{self._node} sent to {to}, which is no peer's (RFC 9000, 21.5.6)"
            )
        if data[0] < 0x40:
            self._punched(to, data)
        elif to.host != self._relay.host:
            self._sent_quic(to, len(data), endpoint)

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

    def _sent_quic(self, to: TransportAddress, size_bytes: int, endpoint: Endpoint) -> None:
        """Past the relay. An authentic answer to a punch shows the dialer that the peer receives
        there, perhaps by another port (``DirectPath.canonical``); the accepter is QUIC's server."""
        if self._is_dialer:
            if to not in self._heard and to.host not in {one.host for one in self._heard}:
                raise InvariantBrokenError(
                    AMPLIFICATION, f"{self._node} sent QUIC to {to}, which never answered a punch"
                )
            return
        if to in self._validated:
            return
        if endpoint.has_validated(to):
            self._validated.add(to)
            return
        self._sent[to] += size_bytes
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
