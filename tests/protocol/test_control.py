"""The control stream between peers."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quicpipe_lab.errors import RemoteProtocolError
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.protocol.control import (
    MAX_LINE_BYTES,
    ControlReader,
    Message,
    MovedMessage,
    PunchMessage,
    SearchMessage,
)
from quicpipe_lab.protocol.port_search import Offer

ADDRESSES = st.builds(TransportAddress, st.ip_addresses().map(str), st.integers(1, 65535))
PUNCHES = st.builds(
    PunchMessage,
    round=st.integers(0, 10**6),
    key=st.binary(min_size=32, max_size=32),
    candidates=st.lists(ADDRESSES, max_size=6).map(tuple),
    observed=st.none() | ADDRESSES,
    search=st.booleans(),
)
OFFERS = st.builds(Offer, st.integers(0, 10**6), st.floats(0, 1e6))
SEARCHES = st.builds(SearchMessage, st.integers(0, 10**6), OFFERS)
MESSAGES = PUNCHES | SEARCHES | st.builds(MovedMessage, ADDRESSES)


@given(st.lists(MESSAGES, max_size=5), st.data())
def test_round_trip_however_the_stream_is_cut(messages: list[Message], data: st.DataObject) -> None:
    stream = b"".join(message.encode() for message in messages)
    reader, read = ControlReader(), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        read += reader.feed(stream[:size])
        stream = stream[size:]
    assert read == messages


@given(st.binary(max_size=300))
def test_garbage_is_refused_and_never_raises_anything_else(garbage: bytes) -> None:
    with contextlib.suppress(RemoteProtocolError):
        assert ControlReader().feed(garbage + b"\n") == []


GOOD = {"punch": 1, "key": "A" * 43 + "=", "candidates": [["198.51.100.1", 1]], "observed": None}


@pytest.mark.parametrize(
    "change",
    [
        {"punch": "x"},
        {"key": "AAAA"},
        {"key": "!"},
        {"candidates": 5},
        {"candidates": [["198.51.100.1"]]},
        {"candidates": [["198.51.100.1", "1"]]},
        {"observed": ["a", "b"]},
    ],
)
def test_a_wrong_field_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(RemoteProtocolError):
        ControlReader().feed(json.dumps(GOOD | change).encode() + b"\n")


@pytest.mark.parametrize("number", ["Infinity", "-Infinity", "NaN", "1e999", "[]", "null"])
def test_a_round_that_is_no_number_is_refused(number: str) -> None:
    line = json.dumps(GOOD | {"punch": "?"}).replace('"?"', number)
    with pytest.raises(RemoteProtocolError):
        ControlReader().feed(line.encode() + b"\n")


def test_unknown_kinds_are_passed_over() -> None:
    lines = b'{"later": 1}\n' + json.dumps(GOOD).encode() + b"\n"
    assert len(ControlReader().feed(lines)) == 1


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_line_that_is_too_long_is_refused(end: bytes) -> None:
    line = b'{"later": 1}'.ljust(MAX_LINE_BYTES)
    assert ControlReader().feed(line + end) == []
    with pytest.raises(RemoteProtocolError):
        ControlReader().feed(b" " + line + end)


@pytest.mark.parametrize(
    "change",
    [
        {"search": "x"},
        {"search": float("inf")},
        {"probes": -1},
        {"probes": None},
        {"seconds": -1.0},
        {"seconds": float("inf")},
        {"seconds": float("nan")},
        {"seconds": "soon"},
    ],
)
def test_a_wrong_field_of_a_search_is_refused(change: dict[str, object]) -> None:
    good: dict[str, object] = {"search": 1, "probes": 10, "seconds": 1.0}
    assert ControlReader().feed(json.dumps(good).encode() + b"\n")
    with pytest.raises(RemoteProtocolError):
        ControlReader().feed(json.dumps(good | change).encode() + b"\n")
