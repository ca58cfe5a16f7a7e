"""The relay's work, by its process and by its filter."""

from pathlib import Path

import pytest

from quicpipe_lab.analysis.plots.relay import relay
from quicpipe_lab.analysis.plots.relays import relays
from quicpipe_lab.analysis.relaying import FILTER, USERSPACE, relaying
from quicpipe_lab.cli import main
from quicpipe_lab.errors import QuicpipeLabError
from tests.analysis.plots.legible import assert_legible
from tests.real_runs import Runs


@pytest.mark.netns
def test_by_the_process(real_run: Runs) -> None:
    real = real_run("symmetric-to-symmetric")
    assert real.run.result is not None
    assert real.run.result.relayed_by is not None
    found = relaying(real.packets, real.run.scenario)
    assert list(found.at_s) == [USERSPACE]
    # What the relay counts and what was captured are the same packets.
    counted = real.run.result.relayed_by.userspace
    assert len(found.at_s[USERSPACE]) == pytest.approx(counted, rel=0.01)
    assert all(0 < one < 1 for one in found.latency_s[USERSPACE])
    assert any("by the process" in one for one in assert_legible(relay(real.run, real.packets)))


@pytest.mark.netns
def test_by_the_filter_whose_packets_never_reach_the_relays_own_interface(real_run: Runs) -> None:
    """The frames of a run that the process relayed, without those that a filter would hide."""
    real = real_run("symmetric-to-symmetric")
    hidden = sorted({one.journey for one in real.packets if one.node == "relay"})[::2]
    gone = set(hidden)
    packets = [one for one in real.packets if one.node != "relay" or one.journey not in gone]
    found = relaying(packets, real.run.scenario)
    assert set(found.at_s) == {FILTER, USERSPACE}
    whole = relaying(real.packets, real.run.scenario)
    assert sum(map(len, found.at_s.values())) == sum(map(len, whole.at_s.values()))
    assert_legible(relay(real.run, packets, dark=True))
    peers = {one.journey for one in real.packets if one.flow == "alice~bob"}
    few = set(sorted(peers & gone)[:2])
    nearly = [one for one in real.packets if one.node != "relay" or one.journey not in few]
    two = {"with": found, "without": relaying(nearly, real.run.scenario)}
    words = assert_legible(relays(two))
    for number, by in ((1, "filter"), (1, "process"), (2, "process")):
        assert any(one.startswith(f"{number}, by the {by} (n = ") for one in words)
    assert any(one.startswith("2 by the filter, ") for one in words), "two have no curve"
    assert not any(one.startswith("2, by the filter") for one in words)


@pytest.mark.netns
def test_a_relay_that_forwarded_nothing_has_no_picture(real_run: Runs) -> None:
    real = real_run("udp-blocked")
    with pytest.raises(QuicpipeLabError, match="forwarded nothing"):
        relay(real.run, real.packets)


@pytest.mark.netns
def test_two_runs_beside_each_other(
    real_run: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    relayed = str(real_run("symmetric-to-symmetric").run.directory)
    other = str(real_run("nat-to-nat").run.directory)
    out = ["-o", str(tmp_path / "both.svg")]
    assert main(["plot", relayed, "relay", "--beside", other, *out]) == 0
    capsys.readouterr()
    blocked = str(real_run("udp-blocked").run.directory)
    for name, beside, says in (
        ("relay", other, f"{blocked}: the relay forwarded nothing"),
        ("relay", blocked, "have the same name, or are the same run"),
        ("sequence", other, "only the picture relay compares two runs"),
    ):
        assert main(["plot", blocked, name, "--beside", beside, *out]) == 2
        assert says in capsys.readouterr().err
