"""Lines of events.jsonl: what is written can be read, what is no event is refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quicpipe_lab.model.event import Event

_json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.floats(allow_nan=False).filter(lambda value: abs(value) != float("inf")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
_data_keys = st.text().filter(lambda key: key not in ("t_s", "node", "event"))
_events = st.builds(
    Event,
    # What is exact after rounding to a microsecond.
    t_s=st.integers(0, 10**12).map(lambda microseconds: round(microseconds / 1e6, 6)),
    node=st.text(),
    name=st.text(),
    data=st.dictionaries(_data_keys, _json_values, max_size=4),
)


@given(_events)
def test_round_trip(event: Event) -> None:
    line = event.dumps()
    assert "\n" not in line
    assert Event.loads(line) == event


def test_form_of_a_line() -> None:
    line = Event(1.23456789, "alice", "direct", {"rtt_s": 0.03}).dumps()
    assert json.loads(line) == {
        "t_s": 1.234568,
        "node": "alice",
        "event": "direct",
        "rtt_s": 0.03,
    }


@pytest.mark.parametrize(
    "line",
    [
        "",
        "no JSON",
        "1",
        "null",
        "[1, 2]",
        '"text"',
        "{}",
        '{"t_s": 1, "node": "a"}',
        '{"t_s": 1, "event": "e"}',
        '{"node": "a", "event": "e"}',
        '{"t_s": "1", "node": "a", "event": "e"}',
        '{"t_s": true, "node": "a", "event": "e"}',
        '{"t_s": 1, "node": 2, "event": "e"}',
        '{"t_s": 1, "node": "a", "event": null}',
        pytest.param("[" * 100_000, id="deep"),
    ],
)
def test_what_is_no_event_is_a_value_error(line: str) -> None:
    with pytest.raises(ValueError):
        Event.loads(line)


@given(st.text())
def test_any_text_is_an_event_or_a_value_error(line: str) -> None:
    with pytest.raises(ValueError):
        Event.loads(line)


@pytest.mark.parametrize("key", ["t_s", "node", "event"])
def test_data_cannot_hide_an_events_own_fields(key: str) -> None:
    with pytest.raises(ValueError, match=key):
        Event(0.0, "alice", "direct", {key: 1})


def test_nan_is_refused_because_json_has_none() -> None:
    with pytest.raises(ValueError):
        Event(0.0, "alice", "direct", {"rtt_s": float("nan")}).dumps()
