"""One contract for both backends: what is said of a run must not depend on where it ran.

The kernel's side is Linux with real programs, the other is the simulator. A run is told as a story:
how it ended and why, what each peer went through on its paths, what every NAT was measured to be.
Both must tell the same one. Where they may not, the run is in KNOWN_DIFFERENCES with its reason.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from quicpipe_lab import resources
from quicpipe_lab.analysis.explain.causes import Cause
from quicpipe_lab.backends import base, matrix
from quicpipe_lab.backends.base import AUTO, NAMES
from quicpipe_lab.backends.many import Manner
from quicpipe_lab.backends.matrix import CELLS, CellResult, Run, cells_of, run_matrix
from quicpipe_lab.backends.situations import situations
from quicpipe_lab.console import summary_rows
from quicpipe_lab.evidence import open_run
from quicpipe_lab.model.event import Event
from quicpipe_lab.model.nat import FilterScope
from quicpipe_lab.model.result import RunResult
from quicpipe_lab.model.scenario import (
    Cut,
    Idle,
    Outcome,
    Reboot,
    RestartRelay,
    Scenario,
    Step,
    Transfer,
    WaitFor,
)
from tests.analysis.explain.playing import verdict_on
from tests.backends.narrow import PACKET_BYTES, narrow

_BACKENDS = [name for name in NAMES if name != AUTO]

pytestmark = pytest.mark.netns

NAT64 = "nat64-to-nat"
KNOWN_DIFFERENCES: dict[str, str] = {}
"""A run's name to the reason why the backends tell it differently. Each has a test of its own."""

RTT_SLACK_S = 0.1
"""What a busy machine adds to the least round trip that a connection ever sees."""
FASTER_S = 0.005
"""The kernel takes no less time than the simulator, but for jitter that falls differently."""
SLOWER_S = 1.0
"""Nor much more than its programs need to be scheduled, on a machine with other things to do."""
PATH_EVENTS = {"connected", "path-changed", "direct-silent", "punch-failed", "closed"}


@dataclass(frozen=True)
class Story:
    """See the module. ``paths``: by peer."""

    outcome: Outcome
    failure: str | None
    disturbed: list[tuple[str, list[str]]]
    paths: dict[str, list[str]]
    measured: dict[str, Any]


def story_of(scenario: Scenario, result: RunResult, run_dir: Path) -> Story:
    events = [Event.loads(line) for line in (run_dir / "events.jsonl").read_text().splitlines()]
    certified = result.certified or {}
    return Story(
        result.outcome,
        result.failure,
        [(one.what, one.nodes) for one in result.disturbed],
        paths_of(scenario, events),
        {nat: one.measured for nat, one in certified.items()},
    )


def paths_of(scenario: Scenario, events: Sequence[Event]) -> dict[str, list[str]]:
    """By peer. That the accepter has punched in vain is left out: it says so when its own round is
    over, be the dialer, which alone decides, about to move the connection or not. And where no
    step waits for the dialer's verdict, it depends on how long the data took whether it comes."""
    waits = [step for step in scenario.steps if isinstance(step, WaitFor)]
    awaited = any(step.settled or step.event == "punch-failed" for step in waits)
    paths = {peer: path_of(events, peer) for peer in (scenario.dialer, scenario.accepter)}
    for peer in paths if not awaited else (scenario.accepter,):
        paths[peer] = [name for name in paths[peer] if name != "punch-failed"]
    return paths


def path_of(events: Sequence[Event], peer: str) -> list[str]:
    """What happened to a peer's path, until the steps were done: how a goodbye travels is chance.

    How often it punched in vain depends on how long the run went on, and is left out.
    """
    told: list[str] = []
    for event in events:
        if event.name == "steps-done":
            break
        if event.node != peer or event.name not in PATH_EVENTS:
            continue
        name = event.name
        if name == "path-changed":
            name = "direct" if event.data["direct"] else "relayed"
        if not told or told[-1] != name:
            told.append(name)
    return told


def both(scenario: Scenario, tmp_path: Path) -> dict[str, RunResult]:
    """Run on the kernel and in virtual time; the stories must be equal."""
    results, stories = {}, {}
    for backend in _BACKENDS:
        run_dir = tmp_path / backend
        results[backend] = base.run(scenario, backend=backend, run_dir=run_dir)
        stories[backend] = story_of(scenario, results[backend], run_dir)
    assert stories["netns"] == stories["sim"]
    assert results["netns"].nat == results["sim"].nat
    assert results["netns"].transferred_bytes == results["sim"].transferred_bytes
    return results


def assert_times_agree(scenario: Scenario, kernel: RunResult, simulated: RunResult) -> None:
    """Whatever both have measured, and neither only one of them. Jitter is drawn for each packet,
    and the least round trip is a matter of luck within it."""
    links = scenario.topology.links
    ways = [one for link in links for one in (link.towards_lower, link.towards_upper) if one]
    luck_s = FASTER_S + sum(one.jitter_s for one in ways)
    # One packet more or less may be ahead in a slow link's queue (test_phases.py).
    queue_s = sum(PACKET_BYTES * 8 / one.rate_bps for one in ways if one.rate_bps)
    for of in ("relayed", "direct"):
        real_s, virtual_s = getattr(kernel.rtt_s, of), getattr(simulated.rtt_s, of)
        assert (real_s is None) == (virtual_s is None), of
        if real_s is not None:
            assert virtual_s - luck_s < real_s < virtual_s + luck_s + RTT_SLACK_S, of
    if scenario.search:
        return  # how soon a port is hit is chance
    for real_s, virtual_s in (durations(one) for one in pairs(kernel, simulated)):
        assert virtual_s - FASTER_S - queue_s < real_s < virtual_s + SLOWER_S


def pairs(kernel: RunResult, simulated: RunResult) -> list[tuple[float | None, float | None]]:
    """From the relay's start to the relayed connection, from the first punch to the direct path."""
    found = []
    for end, start in (("connected", "relay_ready"), ("direct", None)):
        spans = []
        for one in (kernel, simulated):
            began_s = one.punching_s if start is None else getattr(one.times_s, start)
            ended_s = getattr(one.times_s, end)
            spans.append(None if began_s is None or ended_s is None else ended_s - began_s)
        found.append((spans[0], spans[1]))
    return found


def durations(pair: tuple[float | None, float | None]) -> tuple[float, float]:
    real_s, virtual_s = pair
    assert (real_s is None) == (virtual_s is None)
    return (real_s or 0.0, virtual_s or 0.0)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.nat64] if name == NAT64 else [])
        for name in resources.scenario_names()
        if name not in KNOWN_DIFFERENCES
    ],
)
def test_bundled_scenarios(name: str, tmp_path: Path) -> None:
    scenario = resources.find_scenario(name)
    results = both(scenario, tmp_path)
    for result in results.values():
        assert result.ok, (result.backend, result.failure)
        assert result.outcome is scenario.expect
        assert (result.failure is None) == (result.outcome is not Outcome.FAILED)
        if result.outcome is Outcome.RELAYED:
            assert result.bytes.direct == 0
    assert_times_agree(scenario, results["netns"], results["sim"])


def two_homes(
    *steps: Step, expect: Outcome = Outcome.DIRECT, nats: str = "EIM/APDF", bobs: str = ""
) -> Scenario:
    usual = cells_of({"one": CELLS[nats]}, {"other": CELLS[bobs or nats]})[0].scenario()
    return replace(usual, steps=steps, expect=expect)


def test_idling(tmp_path: Path) -> None:
    results = both(
        two_homes(WaitFor(settled=True), Idle(1.5), Transfer(10_000), bobs="EIM/ADF"), tmp_path
    )
    for result in results.values():
        assert result.times_s.total is not None
        assert result.times_s.direct is not None
        assert result.times_s.total - result.times_s.direct > 1.5


DIRECT, RELAYED = WaitFor(path=Outcome.DIRECT, within_s=30), WaitFor(path=Outcome.RELAYED)


def test_a_rebooted_nat(tmp_path: Path) -> None:
    """The direct path falls silent, the relay follows the new mapping, and a hole is punched."""
    steps = DIRECT, Reboot("nat-a"), RELAYED, DIRECT, Transfer(100_000)
    for result in both(two_homes(*steps), tmp_path).values():
        assert result.ok, (result.backend, result.failure)


def test_a_rebooted_nat_that_no_filter_asks_the_port_of(tmp_path: Path) -> None:
    """Bob's lets alice in from her new port, and QUIC follows her (RFC 9000, 9.3)."""
    steps = DIRECT, Transfer(1000), Reboot("nat-a"), Transfer(100_000)
    for result in both(two_homes(*steps, bobs="EIM/ADF"), tmp_path).values():
        assert result.ok, (result.backend, result.failure)


def test_a_restarted_relay(tmp_path: Path) -> None:
    """The direct path does not notice, and the peers register anew before they need the relay."""
    lost, parted = WaitFor(event="relay-lost", within_s=40), Cut(("alice", "bob"))
    steps = DIRECT, RestartRelay(), lost, parted, RELAYED, Transfer(100_000)
    scenario = two_homes(*steps, expect=Outcome.RELAYED)
    for result in both(scenario, tmp_path).values():
        assert result.ok, (result.backend, result.failure)


HURRIED = WaitFor(transfer=True, within_s=2.0)
"""Ten times less than it takes to miss a relay."""


@pytest.mark.parametrize(
    ("nat", "steps", "cause", "comments"),
    [
        (
            "EIM/APDF",
            (DIRECT, Reboot("nat-a"), RELAYED),
            Cause.MAPPING_FORGOTTEN,
            ("nat-a was rebooted before this",),
        ),
        (
            "APDM/APDF",
            (RestartRelay(), Transfer(1000, wait=False), HURRIED),
            Cause.RELAY_RESTARTED,
            ("the relay was restarted before this",),
        ),
    ],
    ids=["reboot", "restart"],
)
def test_capture_sentence_and_summary_tell_it(
    nat: str, steps: tuple[Step, ...], cause: Cause, comments: tuple[str, ...], tmp_path: Path
) -> None:
    scenario = two_homes(*steps, expect=Outcome.RELAYED, nats=nat)
    for backend, result in both(scenario, tmp_path).items():
        evidence = open_run(tmp_path / backend)
        verdict = verdict_on(evidence)
        assert verdict.cause is cause, verdict.sentence
        assert (result.failure or "") in verdict.sentence
        told = "\n".join(frame.comment or "" for frame in evidence.frames)
        assert all(one in told for one in comments), told
        ((_, row),) = [one for one in summary_rows(result) if one[0] == "disturbed"]
        word = "rebooted nat-a" if cause is Cause.MAPPING_FORGOTTEN else "restarted relay"
        assert row.startswith(f"{word} at ")


def test_narrow_links(tmp_path: Path) -> None:
    """Punching goes on while their queues are full."""
    scenario = narrow()
    results = both(scenario, tmp_path)
    assert all(one.ok for one in results.values())
    assert_times_agree(scenario, results["netns"], results["sim"])


def matrix_on_both(runs: Sequence[Run], tmp_path: Path) -> None:
    """Both must agree on every run, and with what theory says."""
    results: dict[str, list[CellResult]] = {}
    for backend in _BACKENDS:
        results[backend] = run_matrix(runs, tmp_path / backend, manner=Manner(backend))
    different = []
    for run, kernel, simulated in zip(runs, results["netns"], results["sim"], strict=True):
        assert kernel.ok, kernel
        assert simulated.ok, simulated
        stories = [cell_story(run, tmp_path / backend) for backend in _BACKENDS]
        if run.expected is not None and stories[0] != stories[1]:
            different.append((run.name, stories))
    assert {name for name, _ in different} <= set(KNOWN_DIFFERENCES), different


def cell_story(run: Run, folder: Path) -> dict[str, list[str]]:
    lines = (folder / run.name / "events.jsonl").read_text().splitlines()
    events = [Event.loads(line) for line in lines]
    return paths_of(run.scenario(), events)


@pytest.mark.parametrize("scope", FilterScope)
def test_every_pair(scope: FilterScope, tmp_path: Path) -> None:
    nats = matrix.parse_nats(None, scope)
    matrix_on_both(cells_of(nats, nats), tmp_path)


def test_situations_that_no_pair_describes(tmp_path: Path) -> None:
    matrix_on_both(situations(), tmp_path)


def test_differences_are_few_and_each_is_of_a_run_that_there_is() -> None:
    """Whoever has to add one adds its test beside it, and changes this one."""
    assert set(KNOWN_DIFFERENCES) == set() <= set(resources.scenario_names())
