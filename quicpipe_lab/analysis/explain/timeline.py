"""One causal timeline of a run, from everything that it left: what the programs said, what the
NATs were seen to do, what routers dropped, what QUIC checked, what the relay and the links counted.
"""

from collections.abc import Iterator
from typing import NamedTuple

from quicpipe_lab.analysis.explain.facts import Facts
from quicpipe_lab.analysis.qlog import peer_trace
from quicpipe_lab.analysis.sentences import sentence
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.traffic.notes import why_dropped
from quicpipe_lab.traffic.routers import Drop, DropCause


class Happening(NamedTuple):
    """``node`` did ``text``. ``source``: which of the run's files says so."""

    t_s: float
    node: str
    text: str
    source: str


def timeline(facts: Facts) -> list[Happening]:
    """In order of time."""
    found = [
        *_events(facts),
        *_first_punches(facts),
        *_mappings(facts),
        *_drops(facts),
        *_path_checks(facts),
        *_counters(facts),
    ]
    return sorted(found, key=lambda one: one.t_s)


def _events(facts: Facts) -> Iterator[Happening]:
    for event in facts.run.events:
        text = sentence(event)
        if text is not None:
            yield Happening(event.t_s, event.node, text, "events.jsonl")


def _first_punches(facts: Facts) -> Iterator[Happening]:
    """The first punch of each side, and the first that reached the other."""
    for sender in (facts.dialer, facts.accepter):
        punches = facts.punches(sender)
        for first, what in (
            (next(iter(punches), None), "sends its first punch, to {asked_for}"),
            (
                next((one for one in punches if one.arrived), None),
                "is heard by {other}, from {source}",
            ),
        ):
            if first is None:
                continue
            where = first.last if "heard" in what else first.first
            names = {"asked_for": first.asked_for, "source": first.source}
            text = what.format(other=facts.other(sender).name, **names)
            yield Happening(facts.time_s(where), sender.name, text, "capture.pcapng")


def _mappings(facts: Facts) -> Iterator[Happening]:
    """Each NAT's mappings as they were first seen, and what they were used for."""
    seen: dict[tuple[str, TransportAddress, TransportAddress], set[TransportAddress]] = {}
    for one in facts.translations:
        if not one.outbound:
            continue
        remotes = seen.setdefault((one.nat, one.inside, one.external), set())
        if one.remote in remotes:
            continue
        first = "maps {0} to {1}, towards {2}" if not remotes else "uses {1} towards {2} as well"
        remotes.add(one.remote)
        text = first.format(one.inside, one.external, one.remote)
        yield Happening((one.time_ns - facts.epoch_ns) / 1e9, one.nat, text, "capture.pcapng")


def _drops(facts: Facts) -> Iterator[Happening]:
    """One for all that were dropped for the same reason between the same two."""
    alike: dict[tuple[object, ...], list[Drop]] = {}
    for drop in facts.drops:
        key = drop.node, drop.cause, drop.source, drop.destination
        alike.setdefault(key, []).append(drop)
    for group in alike.values():
        first, last = group[0], group[-1]
        text = why_dropped(first).removeprefix(f"dropped by {first.node}: ")
        what = "loses" if first.cause is DropCause.LOST else "drops"
        text = f"{what} a packet from {first.source} to {first.destination} ({text})"
        if len(group) > 1:
            until_s = (last.time_ns - facts.epoch_ns) / 1e9
            text += f", and {len(group) - 1} more until {until_s:.3f} s"
        t_s = (first.time_ns - facts.epoch_ns) / 1e9
        yield Happening(t_s, first.node, text, "capture.pcapng")


def _path_checks(facts: Facts) -> Iterator[Happening]:
    """QUIC's own check of the new path (RFC 9000, 8.2)."""
    words = {
        ("path_challenge", True): "challenges the new path",
        ("path_response", False): "has the answer: the new path is valid",
    }
    for peer in (facts.dialer, facts.accepter):
        path = facts.run.directory / "qlog" / f"{peer.name}.qlog"
        trace = peer_trace(path, facts.epoch_ns / 1e9)
        told: set[str] = set()
        for check in trace.checks:
            text = words.get((check.frame, check.is_sent))
            if text is not None and text not in told:
                told.add(text)
                yield Happening(check.t_s, peer.name, text, f"{peer.name}.qlog")
        if trace.lost:
            text = f"QUIC gave {trace.lost} packets up for lost"
            yield Happening(facts.run.end_s, peer.name, text, f"{peer.name}.qlog")


def _counters(facts: Facts) -> Iterator[Happening]:
    """What was counted until the end: by the relay and its filter, and by links that lose."""
    for event in facts.run.events:
        counted = {
            name: value
            for name, value in _numbers(event.data).items()
            if value and (event.name != "link-counters" or name.startswith(("drop", "lost")))
        }
        text = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in counted.items())
        if not text:
            continue
        if event.name == "link-counters":
            way = " to ".join(event.data["between"])
            yield Happening(event.t_s, event.node, f"counted {way}: {text}", "events.jsonl")
        elif event.name == "stopped":
            yield Happening(event.t_s, event.node, f"counted datagrams: {text}", "events.jsonl")


def _numbers(data: dict[str, object]) -> dict[str, int]:
    """The counters of an event, also of one inside it."""
    found: dict[str, int] = {}
    for name, value in data.items():
        if isinstance(value, dict):
            found |= {
                key if name == "datagrams" else f"{name} {key}": one for key, one in value.items()
            }
        elif isinstance(value, int) and not isinstance(value, bool):
            found[name] = value
    return {name: value for name, value in found.items() if isinstance(value, int)}
