"""What a run's events say of its end."""

from pathlib import Path
from typing import Any

import pytest

from quicpipe_lab.backends.summary import RunRecord, summarize
from quicpipe_lab.model.event import Event
from quicpipe_lab.model.result import Clock, PortSearched
from quicpipe_lab.model.scenario import Outcome
from quicpipe_lab.resources import find_scenario


def path_changed(t_s: float, direct: bool, rtt_s: float) -> Event:
    """``rtt_s`` is that of the path that is left."""
    return Event(t_s, "alice", "path-changed", {"direct": direct, "rtt_s": rtt_s})


def done(t_s: float) -> Event:
    return Event(t_s, "lab", "steps-done", {})


def ended(t_s: float, direct: bool, rtt_s: float | None) -> Event:
    data: dict[str, Any] = {"direct": direct, "rtt_s": rtt_s, "bytes": {"relayed": 1, "direct": 2}}
    return Event(t_s, "alice", "statistics", data)


DIRECT_LOST = [path_changed(1.0, True, 0.2), path_changed(3.0, False, 0.08)]


@pytest.mark.parametrize(
    ("events", "outcome"),
    [
        ([*DIRECT_LOST[:1], done(2.0), ended(4.0, True, 0.08)], Outcome.DIRECT),
        # The peer's goodbye was lost: the path did not die while it was needed.
        ([DIRECT_LOST[0], done(2.0), DIRECT_LOST[1], ended(4.0, False, None)], Outcome.DIRECT),
        ([*DIRECT_LOST, done(3.5), ended(4.0, False, None)], Outcome.RELAYED),
        ([done(2.0)], Outcome.RELAYED),
    ],
)
def test_the_outcome_is_the_path_when_the_steps_are_done(
    events: list[Event], outcome: Outcome
) -> None:
    record = RunRecord(Clock("CLOCK_MONOTONIC", 0.0), events=events)
    result = summarize(find_scenario("nat-to-nat"), record, Path("run"), "netns")
    assert result.outcome is outcome
    if len(events) > 1:
        assert (result.rtt_s.relayed, result.rtt_s.direct) == (0.2, 0.08)


def search_ended(node: str, t_s: float, **data: Any) -> Event:
    return Event(t_s, node, "port-search-ended", {"opened": 0, "hit": None, **data})


def test_a_search_is_both_sides_doing_up_to_the_first_that_found_a_path() -> None:
    events = [
        search_ended("bob", 0.9, found=False, probes=1024, took_s=7.0),
        search_ended("alice", 1.0, found=False, probes=0, opened=1024, took_s=7.1),
        search_ended("bob", 2.1, found=True, probes=120, hit=113, took_s=1.0),
        search_ended("alice", 2.0, found=True, probes=0, opened=256, took_s=0.9),
        search_ended("alice", 9.0, found=False, probes=0, opened=1024, took_s=13.0),
        done(10.0),
    ]
    record = RunRecord(Clock("CLOCK_MONOTONIC", 0.0), events=events)
    result = summarize(find_scenario("port-search"), record, Path("run"), "netns")
    assert result.search == PortSearched(True, 1024 + 113, 1024 + 120, 1024 + 256, 8.0)
