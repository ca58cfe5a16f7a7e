"""The story of a hole being punched, packet by packet: what the sequence diagram shows.

Registration, handshake and punching are shown packet by packet; of bulk data, how much there was.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from quicpipe_lab.analysis.packets import Packet
from quicpipe_lab.analysis.paths import steps_done_s
from quicpipe_lab.analysis.run_files import LAB, Run
from quicpipe_lab.analysis.throughput import PathOf
from quicpipe_lab.analysis.units import amount, duration
from quicpipe_lab.model.topology import CORE, Host

_MOST = 8
_MOST_ONCE_OPEN = {"direct": 3, "punch": 2}
"""So many packets of one kind in one phase are shown: more of them say nothing new."""


class Point(NamedTuple):
    """A packet at a node."""

    node: str
    t_s: float


@dataclass(frozen=True)
class Flight:
    """One packet's way. ``kind``: control (with the relay), relayed, direct, punch or oob.

    ``owner``: the peer in whose margin ``label`` stands, beside the point ``anchor``. ``dropped``:
    why it ended at its last point, None where it arrived; ``beyond``: it had left that node, or is
    at the core.
    """

    points: tuple[Point, ...]
    kind: str
    label: str
    owner: str
    anchor: int
    dropped: str | None = None
    beyond: bool = False

    @property
    def anchor_s(self) -> float:
        """The time that the label tells."""
        return self.points[self.anchor].t_s


@dataclass
class Phase:
    """A part of the story; ``notes`` tell of the packets that are not shown.

    ``most``: how many of each kind of packet are shown.
    """

    title: str
    start_s: float
    end_s: float
    most: Mapping[str, int]
    flights: list[Flight] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def story(run: Run, packets: Sequence[Packet]) -> list[Phase]:
    """The phases that the run came to, in order of time."""
    parts = _phases(run)
    journeys = _journeys(packets)
    teller = _Teller(run)
    for phase in parts:
        mine = [one for one in journeys if phase.start_s <= one[0].time_s < phase.end_s]
        _fill(teller, phase, mine)
    for sent, came in zip(run.named("oob-sent", LAB), run.named("oob-arrived", LAB), strict=False):
        for phase in parts:
            if phase.start_s <= sent.t_s < phase.end_s:
                phase.flights.insert(0, _out_of_band(run, sent.t_s, came.t_s, sent.data))
    return [phase for phase in parts if phase.flights or phase.notes]


def lifelines(run: Run) -> list[str]:
    """From left to right: the dialer, its NATs, the relay, the accepter's NATs, the accepter."""
    tree, scenario = run.scenario.topology, run.scenario
    left = tree.path_to_core(scenario.dialer)[:-1]
    right = tree.path_to_core(scenario.accepter)[:-1]
    above_relay = tree.path_to_core(scenario.relay)[1:-1]
    order = [*left, *above_relay, scenario.relay, *right[::-1]]
    return list(dict.fromkeys(order))


# Phases


def _phases(run: Run) -> list[Phase]:
    scenario = run.scenario
    peers = (scenario.dialer, scenario.accepter)
    done_s = steps_done_s(run)
    every = dict.fromkeys(("control", "relayed", "direct", "punch"), _MOST)
    bulk = every | {"relayed": 0}
    opened = bulk | _MOST_ONCE_OPEN
    marks: list[tuple[str, float | None, dict[str, int]]] = [
        (f"{scenario.dialer} registers", _first(run, "ready", scenario.accepter), every),
        ("the first packet travels out of band", _first(run, "oob-sent", LAB), every),
        (
            f"{scenario.accepter} registers, and the handshake goes through the relay",
            _first(run, "oob-arrived", LAB),
            every,
        ),
        ("connected: data goes through the relay", _last_first(run, "connected", peers), bulk),
        ("punching", _first(run, "punch-started", *peers), bulk),
        (
            "the hole is open; QUIC validates the path",
            _first(run, "punch-answered", *peers),
            opened,
        ),
        ("direct", _last_first(run, "path-changed", peers), opened),
    ]
    if marks[-1][1] is None and run.named("punch-failed"):
        failed_s = _last_first(run, "punch-failed", peers)
        marks[-1] = "no hole: the relay goes on", failed_s, opened
    known = [(title, start_s, most) for title, start_s, most in marks if start_s is not None]
    ends = [*(start_s for _, start_s, _ in known), done_s][1:]
    return [
        Phase(title, start_s, end_s, most)
        for (title, start_s, most), end_s in zip(known, ends, strict=True)
        if end_s > start_s
    ]


def _first(run: Run, name: str, *nodes: str) -> float | None:
    found = run.named(name, *nodes)
    return found[0].t_s if found else None


def _last_first(run: Run, name: str, nodes: Iterable[str]) -> float | None:
    """When the last of the nodes said it for the first time; None if one never did."""
    firsts = [_first(run, name, node) for node in nodes]
    said = [first for first in firsts if first is not None]
    return max(said) if len(said) == len(firsts) else None


def _out_of_band(run: Run, sent_s: float, came_s: float, data: dict[str, object]) -> Flight:
    scenario = run.scenario
    points = (Point(scenario.dialer, sent_s), Point(scenario.accepter, came_s))
    label = f"first packet, {amount(float(str(data.get('size_bytes', 0))))}"
    return Flight(points, "oob", label, scenario.dialer, 0)


# Flights


def _journeys(packets: Sequence[Packet]) -> list[list[Packet]]:
    """The UDP ones, each hop by hop."""
    found: dict[int, list[Packet]] = {}
    for packet in packets:
        if packet.kind in ("quic", "punch") and not packet.is_out_of_band:
            found.setdefault(packet.journey, []).append(packet)
    return list(found.values())


def _fill(teller: "_Teller", phase: Phase, journeys: list[list[Packet]]) -> None:
    shown: dict[str, int] = {}
    rest: dict[str, list[Packet]] = {}
    lost: dict[str, int] = {}
    for hops in journeys:
        kind = teller.kind(hops[0])
        flight = teller.flight(hops, kind) if kind else None
        if flight is None:
            continue
        if shown.get(kind, 0) < phase.most[kind]:
            shown[kind] = shown.get(kind, 0) + 1
            phase.flights.append(flight)
        else:
            rest.setdefault(kind, []).append(hops[0])
            lost[kind] = lost.get(kind, 0) + (flight.dropped is not None)
    for kind, sent in rest.items():
        phase.notes.append(_note(kind, sent, bool(shown.get(kind)), lost[kind], phase))


_NAMES = {
    "relayed": "through the relay",
    "direct": "on the direct path",
    "punch": "of the punching",
    "control": "to and from the relay",
}


def _note(kind: str, sent: list[Packet], some_shown: bool, lost: int, phase: Phase) -> str:
    more = "more " if some_shown else ""
    size = amount(sum(packet.size_bytes for packet in sent))
    took = duration(phase.end_s - phase.start_s)
    packets = "packet" if len(sent) == 1 else "packets"
    text = f"{len(sent):,} {more}{packets} {_NAMES[kind]}: {size} in {took}"
    return text + (f"; {lost:,} did not arrive" if lost else "")


class _Teller:
    """From packets to flights of one run."""

    def __init__(self, run: Run) -> None:
        self._scenario = run.scenario
        self._columns = frozenset(lifelines(run))
        self._peers = (run.scenario.dialer, run.scenario.accepter)
        self._path_of = PathOf(run.scenario)

    def kind(self, start: Packet) -> str:
        """Empty for what belongs to no part of the story."""
        if start.kind == "punch":
            return "punch"
        direct = self._path_of(start)
        if direct is not None:
            return "direct" if direct else "relayed"
        ends, peers = set(start.flow.split("~")), set(self._peers)
        with_relay = ends & peers and ends <= peers | {self._scenario.relay, "?"}
        return "control" if with_relay else ""

    def flight(self, hops: list[Packet], kind: str) -> Flight | None:
        """None where no lifeline saw it."""
        points = self._points(hops)
        if not points:
            return None
        owner = points[0].node if points[0].node in self._peers else points[-1].node
        if owner not in self._peers:
            ends = hops[0].flow.split("~")
            owner = next((name for name in self._peers if name in ends), self._peers[0])
        last = hops[-1]
        end = self._scenario.topology.by_name.get(last.node)
        arrived = last.direction == "in" and isinstance(end, Host)
        return Flight(
            tuple(points),
            kind,
            _label(hops[0]),
            owner,
            0 if owner == points[0].node else len(points) - 1,
            None if arrived else _reason(hops),
            not arrived and (last.direction == "out" or last.node == CORE),
        )

    def _points(self, hops: list[Packet]) -> list[Point]:
        relay = self._scenario.relay
        seen_by_relay = any(hop.node == relay for hop in hops)
        points = []
        for hop in hops:
            # The filter works below where the relay's interface is captured: seen at the link's
            # other end alone.
            at_filter = hop.node == CORE and hop.interface == relay and not seen_by_relay
            node = relay if at_filter else hop.node
            if node in self._columns:
                points.append(Point(node, hop.time_s))
        return points


_TYPES = {
    "initial": "Initial",
    "handshake": "Handshake",
    "0-rtt": "0-RTT",
    "1-rtt": "1-RTT",
    "retry": "Retry",
    "punch": "punch",
    "punch-answer": "punch answer",
}


def _label(packet: Packet) -> str:
    names = packet.types or ((packet.type,) if packet.type else ())
    return " + ".join(dict.fromkeys(_TYPES.get(name, name) for name in names)) or packet.kind


_REASONS = {
    "filtered": "filtered",
    "port": "no mapping",
    "the mapping": "expired",
    "it does not hairpin": "no hairpin",
    "may not leave": "blocked",
    "nobody inside": "unsolicited",
    "no route": "no route",
}
"""How the capture's comments begin, and what the picture has room for."""


def _reason(hops: list[Packet]) -> str:
    for hop in hops:
        _, found, why = (hop.comment or "").rpartition("dropped by ")
        if found:
            why = why.partition(": ")[2]
            return next((text for start, text in _REASONS.items() if why.startswith(start)), "lost")
    return "lost"
