"""Links that behave: what the wire adds of its own, and whether every preset does as it declares.

Latencies are one-way, by one clock. What the wire adds is the difference to a plain link of the
same lab, measured in turn. Delays are measured with packets so sparse that jitter's order does not
count; the rows of presets say how far off a measurement is, and their limits are what chance and
the wire's own 0.3 ms may make of it.
"""

from collections.abc import Sequence
from math import sqrt
from pathlib import Path

from quicpipe_lab.backends.netns.lab import Lab
from quicpipe_lab.model.link import LinkBehavior
from quicpipe_lab.model.link_presets import PRESETS
from quicpipe_lab.model.topology import CORE, Host, Link, Topology
from tests.backends.netns.remote import Sockets, port_of, sockets_of
from tests.bench import Row, median
from tests.bench._traffic import Arrival, Flow
from tests.bench._traffic import run as send

TITLE = "Links: latency that the wire adds, and presets against what they declare"

_ADDED_LIMIT_S = 0.0003
_RATES = (1000, 5000)
_SECONDS = 2
_ROUNDS = 2
_SIZE_BYTES = 1200
_HELD_S = 0.01
_SIGMAS = 4.5
_DELAY_PACKETS = 80
_LOSS_PACKETS = 2000
_LOSS_PER_S = 300.0
_FLOOD_S = 1.2
_RATE_LIMIT = 0.05
_TICKS_A_SECOND = 100


def run() -> list[Row]:
    return [*_added(), *_presets()]


# --- What the wire adds


def _added() -> list[Row]:
    links = Link((CORE, "plain")), Link.both_ways((CORE, "wired"), LinkBehavior())
    topology = Topology("links", (Host("plain"), Host("wired")), links)
    rows = []
    with Lab(topology) as lab, sockets_of(lab) as sockets:
        (wire,) = _children(lab.pid)
        for per_s in _RATES:
            plain: list[float] = []
            wired: list[float] = []
            held: list[float] = []
            cpu_shares = []
            for _ in range(_ROUNDS):
                plain += _latencies(lab, sockets, "plain", per_s)
                for latencies, delay_s in ((wired, 0.0), (held, _HELD_S)):
                    lab.set_link(CORE, "wired", LinkBehavior(delay_s=delay_s))
                    before_s = _cpu_s(wire)
                    latencies += [one - delay_s for one in _latencies(lab, sockets, "wired", per_s)]
                    cpu_shares.append((_cpu_s(wire) - before_s) / _SECONDS)
            rows += _added_rows(f"{per_s:,} packets/s", plain, wired, held, cpu_shares)
        missed = sum(counters.missed for counters in lab.link_counters().values())
        rows.append(Row("frames that the wire missed", missed, "", limit=0))
    return rows


def _added_rows(
    what: str,
    plain: list[float],
    wired: list[float],
    held: list[float],
    cpu_shares: Sequence[float],
) -> list[Row]:
    rows = [Row(f"{what}: plain link, median", median(plain), "s", note=_p99_note(plain))]
    for name, latencies in (("at once", wired), (f"held {_HELD_S * 1000:g} ms", held)):
        added_s = median(latencies) - median(plain)
        rows += [
            Row(f"{what}: added, {name}, median", added_s, "s", limit=_ADDED_LIMIT_S),
            Row(f"{what}: added, {name}, p99", _p99(latencies) - median(plain), "s"),
        ]
    return [*rows, Row(f"{what}: the wire's share of a core", median(cpu_shares))]


def _latencies(lab: Lab, sockets: Sockets, node: str, per_s: int) -> list[float]:
    sender, receiver = sockets.udp(CORE), sockets.udp(node)
    to = str(lab.topology.uplinks[node].lower_address), port_of(receiver)
    flow = Flow(node, sender, receiver, to, _SIZE_BYTES, per_s)
    return [one.received_s - one.sent_s for one in send([flow], per_s * _SECONDS)[node]]


def _p99(values: Sequence[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)]


def _p99_note(values: Sequence[float]) -> str:
    return f"p99 {_p99(values) * 1e6:.0f} us"


def _children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_A_SECOND


# --- Presets


def _presets() -> list[Row]:
    nodes = tuple(Host(name) for name in PRESETS)
    links = tuple(Link((CORE, name), one.down, one.up) for name, one in PRESETS.items())
    rows = []
    with Lab(Topology("presets", nodes, links)) as lab, sockets_of(lab) as sockets:
        flows = _flows(lab, sockets)
        behaviors = {
            f"{name} {direction}": getattr(preset, direction)
            for name, preset in PRESETS.items()
            for direction in ("down", "up")
        }
        sparse_s = 2 * max(behavior.jitter_s for behavior in behaviors.values())
        arrivals = send([one._replace(per_s=1 / sparse_s) for one in flows], _DELAY_PACKETS)
        rows += [_delay_row(name, one, arrivals[name]) for name, one in behaviors.items()]
        small = [one._replace(size_bytes=100, per_s=_LOSS_PER_S) for one in flows]
        arrivals = send(small, _LOSS_PACKETS)
        rows += [_loss_row(name, one, len(arrivals[name])) for name, one in behaviors.items()]
        for flow in flows:
            if (rate_bps := behaviors[flow.name].rate_bps) is not None:
                rows.append(_rate_row(flow, rate_bps))
        missed = sum(counters.missed for counters in lab.link_counters().values())
        rows.append(Row("frames that the wire missed", missed, "", limit=0))
    return rows


def _flows(lab: Lab, sockets: Sockets) -> list[Flow]:
    flows = []
    for name in PRESETS:
        uplink = lab.topology.uplinks[name]
        core, node = sockets.udp(CORE), sockets.udp(name)
        to_node = str(uplink.lower_address), port_of(node)
        to_core = str(uplink.upper_address), port_of(core)
        flows += [
            Flow(f"{name} down", core, node, to_node, _SIZE_BYTES, 1.0),
            Flow(f"{name} up", node, core, to_core, _SIZE_BYTES, 1.0),
        ]
    return flows


def _delay_row(name: str, behavior: LinkBehavior, arrivals: list[Arrival]) -> Row:
    sending_s = _SIZE_BYTES * 8 / behavior.rate_bps if behavior.rate_bps else 0.0
    declared_s = behavior.delay_s + sending_s
    measured_s = median([one.received_s - one.sent_s for one in arrivals])
    chance_s = _SIGMAS * behavior.jitter_s / sqrt(len(arrivals))  # of an even spread's median
    return Row(
        f"{name}: delay off by",
        abs(measured_s - declared_s),
        "s",
        limit=chance_s + _ADDED_LIMIT_S,
        note=f"{measured_s * 1000:.2f} of {declared_s * 1000:.2f} ms",
    )


def _loss_row(name: str, behavior: LinkBehavior, arrived: int) -> Row:
    declared, measured = behavior.mean_loss, 1 - arrived / _LOSS_PACKETS
    # Bursts of a mean length multiply the variance of single losses by about twice that length.
    burst = 2 / behavior.burst_loss.leave if behavior.burst_loss else 1.0
    chance = _SIGMAS * sqrt(burst * declared / _LOSS_PACKETS)
    return Row(
        f"{name}: loss off by",
        abs(measured - declared),
        limit=max(chance, 2 / _LOSS_PACKETS),
        note=f"{measured:.3%} of {declared:.3%}",
    )


def _rate_row(flow: Flow, rate_bps: float) -> Row:
    """From the second half of what came while the queue overflowed."""
    packet_bits = _SIZE_BYTES * 8
    per_s = 1.5 * rate_bps / packet_bits
    received = send([flow._replace(per_s=per_s)], int(per_s * _FLOOD_S))[flow.name]
    settled = received[len(received) // 2 :]
    took_s = settled[-1].received_s - settled[0].received_s
    measured_bps = (len(settled) - 1) * packet_bits / took_s
    return Row(
        f"{flow.name}: rate off by",
        abs(measured_bps / rate_bps - 1),
        limit=_RATE_LIMIT,
        note=f"{measured_bps / 1e6:.2f} of {rate_bps / 1e6:g} Mbit/s",
    )
