"""``quicpipe-lab capture``: what is in a run's capture, and parts cut out of it."""

import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from quicpipe_lab.analysis.packets import Packet
from quicpipe_lab.cycle_search import no_cycle_search
from quicpipe_lab.errors import QuicpipeLabError
from quicpipe_lab.evidence import Evidence, open_run
from quicpipe_lab.model.topology import CORE
from quicpipe_lab.shell import pcapng
from quicpipe_lab.shell.out_file import require_file
from quicpipe_lab.traffic.compose import compose
from quicpipe_lab.traffic.frame import OUT_OF_BAND, CapturedFrame

COLUMNS = ("flow", "kind", "type", "journey", "interface", "direction", "dcid", "comment")
"""Columns of the table of packets that a filter may name, besides host and port."""
_DROPS_SHOWN = 10


def report(
    run_dir: Path, nodes: Sequence[str], conditions: str | None, out: Path | None, wants_json: bool
) -> int:
    """Cut, or say what there is."""
    evidence = open_run(run_dir)
    if evidence.capture is None:
        raise QuicpipeLabError(f"{run_dir} has no capture.pcapng: it was not captured")
    for warning in evidence.warnings:
        print(f"quicpipe-lab: {warning}", file=sys.stderr)
    if not (nodes or conditions is not None or out):
        _print_summary(evidence, wants_json)
        return 0
    frames = _of_nodes(evidence, nodes)
    if conditions is not None:
        frames = _filtered(evidence, frames, parse_filter(conditions))
    out = out or run_dir / "cut.pcapng"
    if out.resolve() == (run_dir / "capture.pcapng").resolve():
        raise QuicpipeLabError(f"{out} is the capture itself; give -o another name")
    require_file(out)
    write_cut(out, frames, evidence)
    told = {"file": str(out), "frames": len(frames), "of": len(evidence.frames)}
    print(json.dumps(told) if wants_json else f"{out}: {len(frames)} of {told['of']} frames")
    return 0


def _of_nodes(evidence: Evidence, nodes: Sequence[str]) -> list[CapturedFrame]:
    """The frames at some nodes, all where none is named, and what went out of band."""
    known = {CORE, *evidence.run.scenario.topology.by_name}
    for node in nodes:
        if node not in known:
            raise QuicpipeLabError(
                f"the run has no node {node!r}; there are {', '.join(sorted(known))}"
            )
    wanted = {*nodes, OUT_OF_BAND}
    return [frame for frame in evidence.frames if not nodes or frame.node in wanted]


def write_cut(out: Path, frames: Sequence[CapturedFrame], evidence: Evidence) -> None:
    """A capture file of these frames of a run, which decrypts as the whole does."""
    secrets = evidence.capture.secrets if evidence.capture else b""
    with no_cycle_search():
        seen = sorted((one for one in frames if one.node != OUT_OF_BAND), key=_time)
        carried = [one for one in frames if one.node == OUT_OF_BAND]
        try:
            pcapng.write(out, compose(seen, carried), secrets=secrets)
        except OSError as error:
            raise QuicpipeLabError(f"cannot write {out}: {error.strerror or error}") from None


def _time(frame: CapturedFrame) -> int:
    return frame.time_ns


def parse_filter(text: str) -> list[tuple[str, str]]:
    """Columns and patterns. Raises QuicpipeLabError."""
    found = []
    for part in text.split(","):
        key, equals, pattern = (one.strip() for one in part.partition("="))
        if not equals or not pattern:
            raise QuicpipeLabError(f"filter: {part.strip()!r} is not COLUMN=PATTERN")
        if key not in (known := ("host", "port", *COLUMNS)):
            raise QuicpipeLabError(f"filter: no column {key!r}; there are {', '.join(known)}")
        found.append((key, pattern))
    return found


def matches(packet: Packet, conditions: Iterable[tuple[str, str]]) -> bool:
    """Whether all conditions hold for a packet."""
    return all(
        any(fnmatchcase(value, pattern) for value in _values(packet, key))
        for key, pattern in conditions
    )


def _values(packet: Packet, key: str) -> list[str]:
    ends = [end for end in (packet.source, packet.destination) if end is not None]
    if key == "host":
        return [end.host for end in ends]
    if key == "port":
        return [str(end.port) for end in ends]
    value = getattr(packet, key)
    return [] if value is None else [str(value)]


def _filtered(
    evidence: Evidence, frames: Sequence[CapturedFrame], conditions: list[tuple[str, str]]
) -> list[CapturedFrame]:
    chosen = {
        (packet.time_ns, packet.node, packet.interface, packet.direction)
        for packet in evidence.packets
        if matches(packet, conditions)
    }
    return [frame for frame in frames if tuple(frame[:4]) in chosen]


def _print_summary(evidence: Evidence, wants_json: bool) -> None:
    packets = evidence.packets
    interfaces = Counter(
        f"{one.node}/{one.interface}" if one.interface else one.node for one in packets
    )
    journeys: dict[tuple[str, str], set[int]] = {}
    for one in packets:
        journeys.setdefault((one.flow, one.kind), set()).add(one.journey)
    flows = {f"{flow} {kind}": len(numbers) for (flow, kind), numbers in journeys.items()}
    dropped = [one for one in packets if one.comment and "dropped by" in one.comment]
    if wants_json:
        told = {"interfaces": interfaces, "packets": flows, "dropped": len(dropped)}
        print(json.dumps({"frames": len(packets), **told}))
        return
    print(f"{len(packets)} frames at {len(interfaces)} interfaces")
    for name in sorted(interfaces):
        print(f"  {name:<24}{interfaces[name]:>8}")
    print(f"{sum(flows.values())} packets, each counted once")
    for name in sorted(flows):
        print(f"  {name:<24}{flows[name]:>8}")
    for one in dropped[:_DROPS_SHOWN]:
        print(f"{one.time_s:9.6f} s  {one.comment}")
    if len(dropped) > _DROPS_SHOWN:
        print(f"and {len(dropped) - _DROPS_SHOWN} more dropped: --filter 'comment=*dropped*'")
