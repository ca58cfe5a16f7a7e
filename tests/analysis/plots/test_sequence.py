"""The sequence diagram of hole punching: the story of real runs, and its picture."""

import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from quicpipe_lab import resources
from quicpipe_lab.analysis.plots.sequence import sequence
from quicpipe_lab.analysis.sequence import lifelines, story
from quicpipe_lab.backends import base
from quicpipe_lab.evidence import open_run
from tests.analysis.plots.legible import assert_legible
from tests.real_runs import Runs

REAL = ("nat-to-nat", "symmetric-to-symmetric", "direct-dies", "three-layers", "same-nat")


@pytest.mark.netns
@pytest.mark.parametrize("name", [*REAL, "udp-blocked"])
def test_real_runs_are_legible_and_show_every_node(name: str, real_run: Runs) -> None:
    real = real_run(name)
    words = assert_legible(sequence(real.run, real.packets))
    assert set(lifelines(real.run)) <= set(words)
    for number, phase in enumerate(story(real.run, real.packets), 1):
        assert f"{number}  {phase.title}" in words


@pytest.mark.netns
@pytest.mark.parametrize("name", REAL)
def test_packets_go_from_node_to_node_and_time_goes_on(name: str, real_run: Runs) -> None:
    real = real_run(name)
    columns = lifelines(real.run)
    phases = story(real.run, real.packets)
    assert [phase.start_s for phase in phases] == sorted(phase.start_s for phase in phases)
    for flight in (flight for phase in phases for flight in phase.flights):
        times = [point.t_s for point in flight.points]
        assert times == sorted(times)
        if flight.kind == "oob":
            continue
        for one, other in itertools.pairwise(flight.points):
            low, high = sorted((columns.index(one.node), columns.index(other.node)))
            # The relay hangs off the core, which has no lifeline: it may be passed by.
            assert set(columns[low + 1 : high]) <= {real.run.scenario.relay}


@pytest.mark.netns
def test_a_hole_is_punched(real_run: Runs) -> None:
    real = real_run("nat-to-nat")
    phases = story(real.run, real.packets)
    assert [phase.title for phase in phases] == [
        "alice registers",
        "the first packet travels out of band",
        "bob registers, and the handshake goes through the relay",
        "connected: data goes through the relay",
        "punching",
        "the hole is open; QUIC validates the path",
        "direct",
    ]
    assert {flight.kind for flight in phases[1].flights} >= {"oob"}
    assert any(flight.kind == "relayed" for flight in phases[2].flights)
    assert "through the relay" in phases[3].notes[0]
    handshake = next(flight for flight in phases[2].flights if flight.kind == "relayed")
    nodes = [point.node for point in handshake.points]
    assert nodes == ["bob", "nat-b", "nat-b", "relay", "relay", "nat-a", "nat-a", "alice"]
    direct = [flight for flight in phases[-1].flights if flight.kind == "direct"]
    assert all("relay" not in [point.node for point in one.points] for one in direct)


@pytest.mark.netns
def test_drops_are_marked_at_the_nat_that_dropped(real_run: Runs) -> None:
    real = real_run("symmetric-to-symmetric")
    punching = next(one for one in story(real.run, real.packets) if one.title == "punching")
    punches = [flight for flight in punching.flights if flight.kind == "punch"]
    assert punches
    for flight in punches:
        assert flight.dropped == "filtered"
        # Each gets through its own NAT, and not through the other's.
        other = {"alice": "nat-b", "bob": "nat-a"}[flight.owner]
        assert flight.points[-1].node == other
    assert any("did not arrive" in note for note in punching.notes)


@pytest.mark.netns
def test_what_a_run_that_was_broken_off_came_to(real_run: Runs) -> None:
    real = real_run("nat-to-nat")
    connected = real.run.named("connected", "bob")[0].t_s
    events = tuple(event for event in real.run.events if event.t_s <= connected)
    packets = [packet for packet in real.packets if packet.time_s <= connected]
    broken = replace(real.run, events=events, result=None)
    assert story(broken, packets)[-1].title.startswith("bob registers")
    assert_legible(sequence(broken, packets, dark=True))
    assert story(replace(real.run, events=()), []) == []
    assert_legible(sequence(replace(real.run, events=()), []))


@pytest.mark.netns
def test_a_dialer_whose_udp_is_blocked_gets_no_farther(real_run: Runs) -> None:
    real = real_run("udp-blocked")
    (only,) = story(real.run, real.packets)
    assert only.title == "dave registers"
    assert {flight.dropped for flight in only.flights} == {"blocked"}
    assert {flight.points[-1].node for flight in only.flights} == {"blocked"}


def test_over_ipv6_a_nat_is_told_by_what_it_does_to_that(tmp_path: Path) -> None:
    scenario = resources.find_scenario("nptv6-to-nptv6")
    base.run(scenario, backend="sim", run_dir=tmp_path)
    evidence = open_run(tmp_path)
    words = assert_legible(sequence(evidence.run, evidence.packets))
    assert words.count("nptv6") == 2
    assert "EIM/APDF" not in words
