"""What only virtual time can wait for: lifetimes and keepalives of minutes, reboots, restarts."""

from dataclasses import replace
from pathlib import Path

import pytest

from quicpipe_lab import simulate
from quicpipe_lab.analysis.sentences import sentence
from quicpipe_lab.backends.matrix import Cell
from quicpipe_lab.backends.sim.backend import SimBackend
from quicpipe_lab.console import summary_rows
from quicpipe_lab.errors import ScenarioError, UnsupportedBehaviorError
from quicpipe_lab.evidence import open_run
from quicpipe_lab.model.event import Event
from quicpipe_lab.model.link import LinkBehavior
from quicpipe_lab.model.nat import FilteringBehavior, MappingBehavior, NatBehavior
from quicpipe_lab.model.result import RunResult
from quicpipe_lab.model.scenario import (
    Cut,
    Idle,
    Meanwhile,
    Outcome,
    Reboot,
    RestartRelay,
    Scenario,
    Step,
    Switch,
    Transfer,
    WaitFor,
    Xdp,
)
from quicpipe_lab.model.scenario_data import dump_scenario
from quicpipe_lab.model.topology import CORE, Link, Topology
from quicpipe_lab.report.tables import tables
from quicpipe_lab.resources import find_topology

DIRECT, RELAYED = WaitFor(path=Outcome.DIRECT), WaitFor(path=Outcome.RELAYED)
FORGETFUL = NatBehavior(
    MappingBehavior.ADDRESS_DEPENDENT,
    FilteringBehavior.ADDRESS_DEPENDENT,
    mapping_lifetime_s=10.0,
)
"""The mapping towards the relay has an end of its own, before each of the relay's keepalives."""


def scenario(nat: NatBehavior, *steps: Step, expect: Outcome = Outcome.DIRECT) -> Scenario:
    usual = Cell("one", nat, "other", nat).scenario()
    return replace(usual, steps=steps, expect=expect, deadline_s=1000.0)


def run(one: Scenario, run_dir: Path) -> tuple[RunResult, list[Event]]:
    result = SimBackend(capture=False, qlog=False).run(one, run_dir, lambda _: None)
    lines = (run_dir / "events.jsonl").read_text().splitlines()
    return result, [Event.loads(line) for line in lines]


def moments(events: list[Event], node: str, name: str) -> list[float]:
    return [event.t_s for event in events if (event.node, event.name) == (node, name)]


def test_five_minutes_in_which_a_mapping_ends_again_and_again(tmp_path: Path) -> None:
    steps = DIRECT, Idle(300), Cut(("alice", "bob")), RELAYED, Transfer(100_000)
    result, events = run(scenario(FORGETFUL, *steps, expect=Outcome.RELAYED), tmp_path)
    assert result.ok, result.failure
    # Every keepalive comes from another port, and the relay follows.
    bound = [event for event in events if event.name == "bound"]
    assert len({event.data["address"] for event in bound}) == len(bound) == 42
    # The direct path has heartbeats of its own, and lives.
    assert moments(events, "alice", "direct-silent") == pytest.approx([300.4], abs=0.01)


def test_a_rebooted_nat_costs_the_path_and_no_byte(tmp_path: Path) -> None:
    again = WaitFor(path=Outcome.DIRECT, within_s=60)
    steps = DIRECT, Reboot("nat-a"), WaitFor(event="direct-silent"), again, Transfer(100_000)
    result, events = run(scenario(NatBehavior(), *steps), tmp_path)
    assert result.ok, result.failure
    assert result.transferred_bytes == 100_000
    ports = [event.data["address"] for event in events if event.name == "bound"]
    assert len(set(ports)) == 3  # bob's, alice's, and alice's after the reboot


def test_a_restarted_relay_is_found_again_by_both(tmp_path: Path) -> None:
    steps = DIRECT, RestartRelay(), Idle(70), Cut(("alice", "bob")), RELAYED, Transfer(100_000)
    result, events = run(scenario(NatBehavior(), *steps, expect=Outcome.RELAYED), tmp_path)
    assert result.ok, result.failure
    assert len(moments(events, "relay", "ready")) == 2
    for peer in ("alice", "bob"):
        (lost_s,) = moments(events, peer, "relay-lost")
        registered_s = moments(events, peer, "relay-registered")
        before_s = max(one for one in registered_s if one < lost_s)
        again_s = min(one for one in registered_s if one > lost_s)
        # The first keepalive, early since the peer was awaited, has no answer, and five seconds
        # later a second connection has.
        assert before_s < 1 < 7 < lost_s < again_s < lost_s + 0.1 < 7.2


@pytest.mark.parametrize("mode", [Xdp.ON, Xdp.GENERIC])
def test_the_simulator_refuses_by_name_what_only_the_kernel_has(mode: Xdp) -> None:
    with pytest.raises(UnsupportedBehaviorError, match=r"no kernel for --xdp.*--backend netns"):
        simulate(replace(scenario(NatBehavior(), DIRECT), xdp=mode))


def phone() -> Topology:
    """Wi-Fi and LTE behind a NAT each, on links that do nothing but take time."""
    near = LinkBehavior(delay_s=0.01)
    given = find_topology("phone-and-home")
    links = (
        Link.both_ways(one.between, near) if CORE in one.between else Link(one.between)
        for one in given.links
    )
    return replace(given, links=tuple(links))


@pytest.mark.parametrize("dialer", ["alice", "bob"])
def test_what_a_relay_did_not_pass_on_after_a_switch_is_no_congestion(
    dialer: str, tmp_path: Path
) -> None:
    """It binds the new address a round trip and a half after it has first seen it. What it drops
    meanwhile left the dialer with half of a fresh window, and 4 s for these 2 MB."""
    accepter = "alice" if dialer == "bob" else "bob"
    size = 2_000_000
    steps = (
        DIRECT,
        Transfer(size, wait=False),
        WaitFor(echoed_bytes=size // 4),
        Switch("alice", "carrier"),
        WaitFor(transfer=True),
    )
    switching = Scenario("phone", phone(), dialer, accepter, "relay", Outcome.DIRECT, steps)
    _, events = run(switching, tmp_path)
    (switched_s,) = moments(events, "lab", "switched")
    (complete_s,) = moments(events, "lab", "transfer-complete")
    assert complete_s - switched_s < 2.0


@pytest.mark.parametrize(
    ("step", "where"),
    [
        (Idle(0), r"step\[0\].seconds"),
        (Idle(float("nan")), r"step\[0\].seconds"),
        (Idle(1000), r"step\[0\].seconds"),
        (Reboot("alice"), r"step\[0\].node"),
        (Reboot("nowhere"), r"step\[0\].node"),
    ],
)
def test_steps_that_cannot_be(step: Step, where: str) -> None:
    with pytest.raises(ScenarioError, match=where):
        scenario(NatBehavior(), step)


def test_what_was_due_after_the_last_step_is_said_to_be_missed(tmp_path: Path) -> None:
    """Nothing takes time on plain cables, but on a kernel: there the same might come in time."""
    meanwhile = (
        Meanwhile(0.3, Cut(("alice", "bob")), for_s=1.0),
        Meanwhile(0.0, Reboot("nat-a")),
        Meanwhile(1.0, RestartRelay()),
    )
    one = replace(scenario(NatBehavior(), DIRECT), meanwhile=meanwhile)
    result, events = run(one, tmp_path)
    assert [one.what for one in result.disturbed] == ["rebooted"]
    missed = [event for event in events if event.name == "missed"]
    assert [event.data for event in missed] == [
        {"do": "cut", "at_s": 0.3},
        {"do": "restart-relay", "at_s": 1.0},
    ]
    due = "never did the cut that was due after 0.3 s: the steps were done before"
    assert sentence(missed[0]) == due


def test_a_run_that_fails_does_not_say_that_nothing_was_sent(tmp_path: Path) -> None:
    """Nobody asked the dialer what it had counted."""
    one = scenario(NatBehavior(), DIRECT, Transfer(100_000), WaitFor(event="direct-silent"))
    result, _ = run(one, tmp_path)
    assert (result.outcome, result.transferred_bytes) == (Outcome.FAILED, 100_000)
    assert "bytes" not in dict(summary_rows(result))
    (tmp_path / "scenario.json").write_text(dump_scenario(one))
    (tmp_path / "result.json").write_text(result.dumps())
    (paths,) = [each for each in tables(open_run(tmp_path).run, ()) if each.title == "Paths"]
    assert [row[1] for row in paths.rows] == ["not told"]
