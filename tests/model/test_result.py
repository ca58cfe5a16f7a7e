"""result.json: its round trip, its form, and what is refused."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quicpipe_lab.model.nat import FilteringBehavior, MappingBehavior
from quicpipe_lab.model.result import (
    FORMAT,
    Bytes,
    CaptureStats,
    Certified,
    Clock,
    NatDeclared,
    PortSearched,
    RelayedBy,
    Rtts,
    RunResult,
    Times,
)
from quicpipe_lab.model.scenario import Outcome

_seconds = st.floats(0, 1e6)
_maybe_s = st.none() | _seconds
_counts = st.integers(0, 2**63)
_words = st.dictionaries(st.text(), st.none() | st.text())
_results = st.builds(
    RunResult,
    scenario=st.text(),
    backend=st.sampled_from(["netns", "sim"]),
    outcome=st.sampled_from(Outcome),
    expected=st.sampled_from(Outcome),
    ok=st.booleans(),
    times_s=st.builds(Times, _maybe_s, _maybe_s, _maybe_s, _maybe_s, _maybe_s),
    rtt_s=st.builds(Rtts, _maybe_s, _maybe_s),
    bytes=st.builds(Bytes, _counts, _counts),
    nat=st.dictionaries(
        st.sampled_from(["dialer", "accepter"]),
        st.builds(
            NatDeclared,
            st.none() | st.sampled_from(MappingBehavior),
            st.none() | st.sampled_from(FilteringBehavior),
        ),
    ),
    run_dir=st.none() | st.text(),
    longest_gap_s=_maybe_s,
    transferred_bytes=_counts,
    failure=st.none() | st.text(),
    clock=st.none() | st.builds(Clock, st.text(), _seconds),
    capture=st.none() | st.builds(CaptureStats, _counts, _counts),
    certified=st.none()
    | st.dictionaries(st.text(), st.builds(Certified, st.booleans(), _words, _words)),
    relayed_by=st.none()
    | st.builds(RelayedBy, _counts, st.none() | _counts, st.none() | st.text()),
    search=st.none()
    | st.builds(PortSearched, st.booleans(), st.none() | _counts, _counts, _counts, _seconds),
)


@given(_results)
def test_round_trip(result: RunResult) -> None:
    line = result.dumps()
    assert "\n" not in line
    assert RunResult.from_json(json.loads(line)) == result


def _minimal() -> RunResult:
    return RunResult("nat-to-nat", "netns", Outcome.DIRECT, Outcome.DIRECT, True)


def test_form_of_what_a_run_reports() -> None:
    data = json.loads(_minimal().dumps())
    assert {
        "scenario": "nat-to-nat",
        "backend": "netns",
        "outcome": "direct",
        "expected": "direct",
        "ok": True,
        "times_s": dict.fromkeys(["lab_up", "relay_ready", "connected", "direct", "total"]),
        "rtt_s": {"relayed": None, "direct": None},
        "bytes": {"relayed": 0, "direct": 0},
        "nat": {},
        "run_dir": None,
    }.items() <= data.items()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": FORMAT + 1}, "format"),
        ({"outcome": "sideways"}, "sideways"),
        ({"expected": None}, "None"),
        ({"times_s": {"lunch": 1.0}}, "lunch"),
        ({"times_s": None}, "not a result"),
        ({"nat": {"dialer": {"mapping": "EIM", "colour": "red"}}}, "colour"),
        ({"nat": []}, "not a result"),
        ({"clock": {"kind": "monotonic"}}, "epoch_unix_s"),
        ({"certified": {"nat": {"verdict": "ok"}}}, "verdict"),
        ({"certified": ["nat"]}, "not a result"),
        ({"search": {"lost": 1}}, "lost"),
        ({"search": [1]}, "not a result"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_what_is_no_result_is_a_value_error(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        RunResult.from_json(_minimal().to_json() | change)


@pytest.mark.parametrize(
    ("version", "lacks"),
    [
        (1, ("certified", "relayed_by", "search")),
        (2, ("relayed_by", "search")),
        (3, ("search",)),
    ],
)
def test_results_of_earlier_versions_are_still_read(version: int, lacks: tuple[str, ...]) -> None:
    data = _minimal().to_json() | {"format": version}
    for field in lacks:
        del data[field]
    assert RunResult.from_json(data) == _minimal()


def test_a_search_of_format_5_said_seconds() -> None:
    result = replace(_minimal(), search=PortSearched(True, 3, 4, 5, 6.5))
    data = result.to_json()
    data["search"]["seconds"] = data["search"].pop("took_s")
    assert RunResult.from_json(data | {"format": 5}) == result


@pytest.mark.parametrize("field", ["format", "scenario", "outcome", "times_s", "capture"])
def test_a_missing_field_is_a_value_error(field: str) -> None:
    data = _minimal().to_json()
    del data[field]
    with pytest.raises(ValueError):
        RunResult.from_json(data)


def test_a_document_that_is_no_object_is_a_value_error() -> None:
    document: Any = json.loads("[1]")
    with pytest.raises(ValueError):
        RunResult.from_json(document)


def test_nan_is_refused_because_json_has_none() -> None:
    result = RunResult(
        "s", "sim", Outcome.FAILED, Outcome.DIRECT, False, rtt_s=Rtts(relayed=float("nan"))
    )
    with pytest.raises(ValueError):
        result.dumps()
