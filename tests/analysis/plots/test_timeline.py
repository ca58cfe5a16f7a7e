"""The timeline of paths: what it takes from real runs, and its picture."""

import itertools
from dataclasses import replace

import pytest

from quicpipe_lab.analysis.moments import moments
from quicpipe_lab.analysis.paths import stretches
from quicpipe_lab.analysis.plots.timeline import timeline
from quicpipe_lab.analysis.qlog import peer_rtts
from quicpipe_lab.analysis.throughput import rates
from tests.analysis.plots.legible import assert_legible
from tests.real_runs import Runs

REAL = ("nat-to-nat", "symmetric-to-symmetric", "direct-dies", "three-layers", "udp-blocked")


@pytest.mark.netns
@pytest.mark.parametrize("name", REAL)
def test_real_runs_are_legible(name: str, real_run: Runs) -> None:
    real = real_run(name)
    axes = timeline(real.run, real.packets, dark=name == "direct-dies")
    words = assert_legible(axes)
    connected = bool(real.run.named("connected"))
    assert len(axes.child_axes) == (3 if connected else 1)
    assert ("alice sends" in words) == connected
    assert ("failed" in words) == (name == "udp-blocked")


@pytest.mark.netns
def test_a_path_that_dies_is_seen_in_all_panels(real_run: Runs) -> None:
    real = real_run("direct-dies")
    assert real.run.result is not None
    history = stretches(real.run, "alice")
    assert [one.direct for one in history] == [False, True, False, True]
    assert all(one.end_s == other.start_s for one, other in itertools.pairwise(history))
    (cut,) = real.run.named("cut")
    (silent,) = real.run.named("direct-silent", "alice") or real.run.named("direct-silent", "bob")
    assert cut.t_s < silent.t_s
    words = assert_legible(timeline(real.run, real.packets))
    assert {"cut alice to bob", "restored alice to bob"} <= set(words)

    # The capture counts what QUIC counts.
    end_s = real.run.end_s
    found = rates(real.packets, real.run.scenario, 0.0, end_s)
    for counted, bps in (
        (real.run.result.bytes.direct, found.direct_bps),
        (real.run.result.bytes.relayed, found.relayed_bps),
    ):
        assert sum(bps) * found.bin_s / 8 == pytest.approx(counted, rel=0.05)


@pytest.mark.netns
def test_round_trips_are_those_of_the_peers(real_run: Runs) -> None:
    run = real_run("nat-to-nat").run
    assert run.result is not None
    assert run.result.clock is not None
    samples = peer_rtts(run.directory / "qlog" / "alice.qlog", run.result.clock.epoch_unix_s)
    assert len(samples) > 10
    for least_s in (run.result.rtt_s.relayed, run.result.rtt_s.direct):
        assert any(one.rtt_s == pytest.approx(least_s, abs=1e-5) for one in samples)
    (first, *_, last) = samples
    assert run.named("initial-ready", "alice")[0].t_s < first.t_s < last.t_s < run.end_s
    assert peer_rtts(run.directory / "qlog" / "nobody.qlog", 0.0) == []


@pytest.mark.netns
def test_what_both_peers_do_together_is_one_moment(real_run: Runs) -> None:
    run = real_run("nat-to-nat").run
    apart = [one.text for one in moments(run)]
    assert {"alice connected", "bob connected", "alice direct", "bob direct"} <= set(apart)
    together = [one.text for one in moments(run, together_s=100.0)]
    assert "both connected" in together
    assert "alice connected" not in together


@pytest.mark.netns
def test_without_capture_result_or_any_event_there_is_less_to_see(real_run: Runs) -> None:
    run = real_run("nat-to-nat").run
    assert len(timeline(run).child_axes) == 2
    assert len(timeline(replace(run, result=None)).child_axes) == 1
    assert_legible(timeline(replace(run, events=(), result=None)))
