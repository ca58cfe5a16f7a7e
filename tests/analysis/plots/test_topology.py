"""The picture of who is where, drawn from real runs and from every bundled topology."""

from dataclasses import replace
from pathlib import Path

import pytest

from quicpipe_lab import resources
from quicpipe_lab.analysis.plots.topology import topology
from quicpipe_lab.analysis.plots.tree import address_of
from quicpipe_lab.analysis.run_files import Run
from quicpipe_lab.model.event import Event
from quicpipe_lab.model.link_presets import PRESETS
from quicpipe_lab.model.result import Bytes, Certified, Rtts, RunResult
from quicpipe_lab.model.scenario import Outcome, Scenario
from tests.analysis.plots.legible import assert_legible, points
from tests.real_runs import Runs

REAL = ("nat-to-nat", "symmetric-to-symmetric", "direct-dies", "three-layers", "udp-blocked")


@pytest.mark.netns
@pytest.mark.parametrize("name", REAL)
def test_real_runs_say_who_is_where(name: str, real_run: Runs) -> None:
    run = real_run(name).run
    assert run.result is not None
    words = assert_legible(topology(run, dark=name == "direct-dies"))
    for node in run.scenario.topology.nodes:
        assert node.name in words
    assert ("direct path:" in " ".join(words)) == (run.result.bytes.direct > 0)
    assert ("through the relay:" in " ".join(words)) == (run.result.bytes.relayed > 0)
    assert ("no path was ever up:" in " ".join(words)) == (run.result.outcome is Outcome.FAILED)


def _of(name: str, *events: Event, result: RunResult | None = None) -> Run:
    return Run(Path(), resources.find_scenario(name), events, result)


def _lines(run: Run) -> list[tuple[str, list[tuple[float, float]]]]:
    """The paths of a picture: their line style and their points."""
    axes = topology(run)
    return [
        (str(line.get_linestyle()), points(line))
        for line in axes.lines
        if line.get_linewidth() >= 2 and len(points(line)) > 2
    ]


CONNECTED = Event(1.0, "alice", "connected")


@pytest.mark.parametrize("name", resources.scenario_names())
def test_before_and_without_a_result(name: str) -> None:
    """Whatever is known is shown; of a run that was killed at once, the topology."""
    words = assert_legible(topology(_of(name)))
    assert "no path was ever up: the run was broken off" in words


def test_paths_run_from_dialer_to_accepter_and_do_not_cross_the_core_needlessly() -> None:
    moved = Event(2.0, "alice", "path-changed", {"direct": True, "address": "192.168.0.10:1"})
    (relayed, far), (direct, near) = _lines(_of("same-nat", CONNECTED, moved))
    assert relayed != direct  # without colour, too
    assert far[0][1] == near[0][1] == far[-1][1] == near[-1][1]  # both end at the hosts
    assert min(y for _, y in far) < min(y for _, y in near)  # only one goes up to the relay


def test_a_hairpin_turns_where_the_address_is() -> None:
    run = _of("same-carrier", CONNECTED)
    tree = run.scenario.topology
    outside = tree.external_addresses["carrier"][0]
    tops = []
    for address in ("192.168.0.10:1", f"{outside}:4000"):
        moved = Event(2.0, "alice", "path-changed", {"direct": True, "address": address})
        _, (_, line) = _lines(replace(run, events=(CONNECTED, moved)))
        tops.append(min(y for _, y in line))
    assert tops[0] >= tops[1]


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_link_that_stands_by_is_dashed_and_legible(mirrored: bool) -> None:
    """On whichever side of the picture the phone is."""
    phone = resources.find_topology("phone-and-home")
    peers = ("bob", "alice") if mirrored else ("alice", "bob")
    scenario = Scenario("phone", phone, *peers, "relay", Outcome.DIRECT, ())
    switched = Event(2.0, "lab", "switched", {"host": "alice", "to": "carrier"})
    axes = topology(Run(Path(), scenario, (CONNECTED, switched), None))
    words = assert_legible(axes)
    assert "192.168.0.10 (carrier)" in words and "13 Mbit/s" in " ".join(words)
    assert "alice switched to carrier at 2.00 s" in words
    dashed = [line for line in axes.get_lines() if line.get_linestyle() == "--"]
    thin = [line for line in dashed if line.get_linewidth() < 2]
    assert len(thin) == len(phone.standby["alice"])


def test_what_links_do_and_nats_that_lie_is_said() -> None:
    scenario = resources.find_scenario("long-way")
    result = RunResult(
        "long-way",
        "netns",
        Outcome.DIRECT,
        Outcome.DIRECT,
        True,
        rtt_s=Rtts(0.218, 0.077),
        bytes=Bytes(2_500_000, 12),
        certified={"nat-a": Certified(False), "nat-b": Certified(True)},
    )
    moved = Event(2.0, "alice", "path-changed", {"direct": True, "address": "198.18.0.14:1"})
    words = assert_legible(topology(Run(Path(), scenario, (CONNECTED, moved), result)))
    assert "NOT as declared" in words
    assert "direct path: 12 B, round trip 77.0 ms" in words
    assert any(f"{PRESETS['dsl'].down.rate_bps / 1e6:g} Mbit/s" in one for one in words)  # type: ignore[operator]


def test_a_host_behind_a_nat64_has_an_ipv6_address() -> None:
    scenario = resources.find_scenario("nat64-to-nat")
    run = Run(Path("none"), scenario, ())
    assert address_of(run, "alice").startswith("2001:db8:")
    assert address_of(run, "bob") == "192.168.0.6"
    assert_legible(topology(run))
