"""What a run's page says in tables, as plain rows of text."""

import shlex
import time
from collections.abc import Sequence
from typing import NamedTuple

from quicpipe_lab.analysis.explain.timeline import Happening
from quicpipe_lab.analysis.plots.tree import address_of, describe_link
from quicpipe_lab.analysis.run_files import LAB, Run
from quicpipe_lab.analysis.units import amount, duration
from quicpipe_lab.model.result import RunResult
from quicpipe_lab.model.scenario import Scenario


class Table(NamedTuple):
    """``header`` is empty where the first column says what the second is."""

    title: str
    header: list[str]
    rows: list[list[str]]
    folded: bool = False


def tables(run: Run, happenings: Sequence[Happening]) -> list[Table]:
    """Those that have rows, in the order of the page."""
    found = [_results(run), _paths(run.result), _nats(run), _links(run), _timeline(happenings)]
    return [table for table in found if table.rows]


def _results(run: Run) -> Table:
    result, rows = run.result, []
    scenario = run.scenario
    for role in ("dialer", "accepter", "relay"):
        name = str(getattr(scenario, role))
        rows.append([role, f"{name}, {address_of(run, name)}"])
    if result is None:
        return Table("The run", [], [*rows, ["result", "none: the run was broken off"]])
    rows.append(["ran on", f"{result.backend}, seed {scenario.seed}"])
    if result.clock is not None:
        began = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(result.clock.epoch_unix_s))
        rows.append(["began", began])
    if result.failure:
        rows.append(["failed", result.failure])
    times = result.times_s
    for text, start, end in (
        ("lab up after", 0.0, times.lab_up),
        ("relayed after", times.relay_ready, times.connected),
        ("direct after", result.punching_s, times.direct),
        ("in all", 0.0, times.total),
    ):
        if start is not None and end is not None:
            since = {"relayed after": ", from the relay's start", "direct after": ", of punching"}
            rows.append([text, duration(end - start) + since.get(text, "")])
    rows.append(["data checked", f"{amount(result.transferred_bytes)} each way, byte by byte"])
    if result.longest_gap_s is not None:
        rows.append(["longest gap", f"{duration(result.longest_gap_s)} without a new byte"])
    if result.capture is not None:
        missed = f", {result.capture.dropped:,} missed" if result.capture.dropped else ""
        rows.append(["captured", f"{result.capture.packets:,} frames{missed}"])
    return Table("The run", [], rows)


def _paths(result: RunResult | None) -> Table:
    rows = []
    if result is not None:
        for name, size, rtt_s in (
            ("through the relay", result.bytes.relayed, result.rtt_s.relayed),
            ("direct", result.bytes.direct, result.rtt_s.direct),
        ):
            if size or rtt_s is not None:
                least = "" if rtt_s is None else duration(rtt_s)
                rows.append([name, amount(size) if result.has_bytes else "not told", least])
    return Table("Paths", ["path", "carried", "least round trip"], rows)


def _nats(run: Run) -> Table:
    certified = (run.result.certified if run.result else None) or {}
    rows = []
    for nat, one in certified.items():
        for key, declared in one.declared.items():
            measured = one.measured.get(key)
            verdict = "ok" if declared == measured else "DIFFERENT"
            if measured is None or declared is None:
                verdict = ""
            rows.append([nat, key, declared or "", measured or "", verdict])
    header = ["NAT", "property", "declared", "measured", "verdict"]
    return Table("NATs, declared and measured", header, rows, folded=True)


def _links(run: Run) -> Table:
    counted = {
        tuple(event.data["between"]): event.data for event in run.named("link-counters", LAB)
    }
    rows = []
    for uplink in run.scenario.topology.all_links:
        does = describe_link(uplink).replace("\n", "; ") or "plain cable"
        for ends in ((uplink.upper, uplink.lower), (uplink.lower, uplink.upper)):
            counters = counted.get(ends, {})
            told = ", ".join(
                f"{value:,} {name.replace('_', ' ')}"
                for name, value in counters.items()
                if name != "between" and isinstance(value, int) and value
            )
            rows.append([" to ".join(ends), does, told])
    if not any(row[2] for row in rows):
        rows = [row[:2] for row in rows[::2]]
        return Table("Links", ["link", "what it does"], rows, folded=True)
    return Table("Links", ["link", "what it does", "its packets"], rows, folded=True)


def _timeline(happenings: Sequence[Happening]) -> Table:
    rows = [[f"{one.t_s:.6f} s", one.node, one.text] for one in happenings]
    return Table("Everything in order", ["time", "node", "what happened"], rows, folded=True)


def commands(run: Run) -> list[tuple[str, str]]:
    """(what for, what to type) to have it again, and to look closer."""
    where = shlex.quote(str(run.directory))
    found = [("the same again", f"quicpipe-lab scenario {where}/scenario.json")]
    if _is_bundled(run.scenario):
        found.insert(0, ("as it is bundled", f"quicpipe-lab scenario {run.scenario.name}"))
    found.append(("why it ended so", f"quicpipe-lab explain {where}"))
    if (run.directory / "capture.pcapng").exists():
        found.append(("its packets", f"quicpipe-lab capture {where}"))
        found.append(("its packets, decrypted", f"wireshark {where}/capture.pcapng"))
    found.append(("a picture by itself", f"quicpipe-lab plot {where} sequence -o sequence.svg"))
    return found


def _is_bundled(scenario: Scenario) -> bool:
    from quicpipe_lab import resources

    return scenario.name in resources.scenario_names()
