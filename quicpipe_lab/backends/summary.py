"""From what was recorded during a run to its result. Pure."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quicpipe_lab.backends.transfer import Transfer
from quicpipe_lab.model.address import Family
from quicpipe_lab.model.event import Event
from quicpipe_lab.model.ipv6 import over_ipv6
from quicpipe_lab.model.result import (
    Bytes,
    CaptureStats,
    Certified,
    Clock,
    Disturbance,
    NatDeclared,
    PortSearched,
    RelayedBy,
    Rtts,
    RunResult,
    Times,
)
from quicpipe_lab.model.scenario import Outcome, Scenario


@dataclass
class RunRecord:
    """What a run gathers. ``failure``: one line, or None. ``broken``: the name of the invariant
    that was broken, as far as somebody looked."""

    clock: Clock
    events: list[Event] = field(default_factory=list)
    transfers: list[Transfer] = field(default_factory=list)
    failure: str | None = None
    broken: str | None = None
    capture: CaptureStats | None = None
    certified: dict[str, Certified] | None = None


def summarize(
    scenario: Scenario, record: RunRecord, run_dir: Path | None, backend: str
) -> RunResult:
    """The result of a run on a backend."""
    dialer = [event for event in record.events if event.node == scenario.dialer]
    statistics = next((one for one in dialer if one.name == "statistics"), None)
    outcome = Outcome.FAILED
    if record.failure is None:
        # What becomes of the path while the programs end is of no account: a goodbye that is lost
        # looks to the one that it was meant for like a path that died.
        done_s = _moment(record.events, "steps-done", "lab")
        before = [event for event in dialer if done_s is None or event.t_s <= done_s]
        outcome = Outcome.DIRECT if _is_direct(before) else Outcome.RELAYED
    return RunResult(
        scenario=scenario.name,
        backend=backend,
        outcome=outcome,
        expected=scenario.expect,
        ok=outcome is scenario.expect,
        times_s=_times(scenario, record.events),
        rtt_s=_rtts(dialer, statistics),
        bytes=Bytes(**statistics.data["bytes"]) if statistics else Bytes(),
        nat={
            "dialer": _nat(scenario, scenario.dialer),
            "accepter": _nat(scenario, scenario.accepter),
        },
        run_dir=None if run_dir is None else str(run_dir),
        punching_s=_moment(record.events, "punch-started", scenario.dialer, scenario.accepter),
        longest_gap_s=_rounded(max((one.longest_gap_s for one in record.transfers), default=None)),
        transferred_bytes=sum(one.echoed_bytes for one in record.transfers),
        failure=record.failure,
        clock=record.clock,
        capture=record.capture,
        certified=record.certified,
        relayed_by=_relayed_by(scenario, record.events),
        search=_search(scenario, record.events),
        disturbed=_disturbed(scenario, record.events),
    )


def _disturbed(scenario: Scenario, events: list[Event]) -> list[Disturbance]:
    found = []
    for event in events:
        match event.name:
            case "cut" | "restored":
                nodes = list(event.data["between"])
            case "rebooted":
                nodes = [event.data["router"]]
            case "switched":
                nodes = [event.data["host"], event.data["to"]]
            case "relay-restarted":
                nodes = [scenario.relay]
            case _:
                continue
        found.append(Disturbance(round(event.t_s, 6), event.name, nodes))
    return found


def _search(scenario: Scenario, events: list[Event]) -> PortSearched | None:
    """All searches that both peers report, up to the first that found a path, as one; None where
    there was none."""
    seen = _searches(events, scenario.dialer)
    if not seen:
        return None
    hit, ends = None, seen + _searches(events, scenario.accepter)
    for peer in (scenario.dialer, scenario.accepter):
        before = 0
        for one in _searches(events, peer):
            hit = hit or (one["hit"] and before + one["hit"])
            before += one["probes"]
    return PortSearched(
        found=seen[-1]["found"],
        hit=hit,
        probes=sum(one["probes"] for one in ends),
        opened=sum(one["opened"] for one in ends),
        took_s=round(sum(one["took_s"] for one in seen), 6),
    )


def _searches(events: list[Event], peer: str) -> list[dict[str, Any]]:
    ended = [one.data for one in events if (one.node, one.name) == (peer, "port-search-ended")]
    upto = next((n for n, one in enumerate(ended, 1) if one["found"]), len(ended))
    return ended[:upto]


def _is_direct(events: list[Event]) -> bool:
    changes = [event for event in events if event.name == "path-changed"]
    return bool(changes) and bool(changes[-1].data["direct"])


def _times(scenario: Scenario, events: list[Event]) -> Times:
    peers = (scenario.dialer, scenario.accepter)
    return Times(
        lab_up=_moment(events, "lab-up", "lab"),
        relay_ready=_moment(events, "ready", scenario.relay),
        connected=_moment(events, "connected", *peers),
        direct=_moment(events, "direct", *peers),
        total=_moment(events, "done", "lab"),
    )


def _moment(events: list[Event], name: str, *nodes: str) -> float | None:
    """When the last of the nodes said it for the first time; None if one never did."""
    firsts = [
        min((one.t_s for one in events if one.node == node and _named(one, name)), default=None)
        for node in nodes
    ]
    said = [first for first in firsts if first is not None]
    return round(max(said), 6) if len(said) == len(nodes) else None


def _named(event: Event, name: str) -> bool:
    if name == "direct":
        return event.name == "path-changed" and bool(event.data["direct"])
    return event.name == name


def _rtts(dialer: list[Event], statistics: Event | None) -> Rtts:
    """Each path's RTT as it was when the path was last left, or at the end."""
    seen: dict[bool, float | None] = {}
    for event in dialer:
        if event.name == "path-changed":
            seen[not event.data["direct"]] = event.data["rtt_s"]
    if statistics is not None and statistics.data["rtt_s"] is not None:
        seen[statistics.data["direct"]] = statistics.data["rtt_s"]
    return Rtts(relayed=_rounded(seen.get(False)), direct=_rounded(seen.get(True)))


def _relayed_by(scenario: Scenario, events: list[Event]) -> RelayedBy | None:
    """From the relay's last words."""
    for event in events:
        if event.node == scenario.relay and event.name == "stopped":
            userspace, xdp = event.data["datagrams"]["forwarded"], event.data.get("xdp")
            if xdp is None:
                return RelayedBy(userspace)
            mode = xdp["interfaces"][0]["mode"]
            return RelayedBy(userspace, xdp["datagrams"]["forwarded"], mode)
    return None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def _nat(scenario: Scenario, node: str) -> NatDeclared:
    nats = scenario.topology.nats_above(node)
    if not nats:
        return NatDeclared()
    behavior = nats[0].behavior
    if scenario.family_of(node) is Family.IPV6:
        behavior = over_ipv6(behavior)
    return NatDeclared(behavior.mapping.value, behavior.filtering.value)
