"""Events in words: those of this version, and what others made of them."""

from typing import Any

import pytest

from quicpipe_lab.analysis.sentences import sentence
from quicpipe_lab.errors import QuicpipeLabError
from quicpipe_lab.model.event import Event


def test_what_is_said() -> None:
    for name, data, words in (
        ("lab-up", {}, "lab is up"),
        ("cut", {"between": ["alice", "bob"]}, "cut the way between alice and bob"),
        (
            "punch-answered",
            {"address": ["192.0.2.1", 7], "rtt_s": 0.0203},
            "got an answer from 192.0.2.1:7 after 20.3 ms",
        ),
        ("punch-answered", {"address": "a", "rtt_s": None}, "got an answer from a after 0.0 ms"),
        ("path-changed", {"address": "a", "direct": False}, "now sends to a (through the relay)"),
        ("statistics", {}, None),
    ):
        assert sentence(Event(0.0, "alice", name, data)) == words


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("punch-answered", {"address": "a"}),
        ("punch-answered", {"rtt_s": 0.1}),
        ("punch-answered", {"address": "a", "rtt_s": "soon"}),
        ("direct-silent", {"silence_s": None}),
        ("path-changed", {"address": "a"}),
        ("idle", {}),
    ],
)
def test_what_another_version_told_is_refused_in_one_line(name: str, data: dict[str, Any]) -> None:
    with pytest.raises(QuicpipeLabError) as refused:
        sentence(Event(0.0, "alice", name, data))
    assert str(refused.value).startswith(f"{name} of alice is not told as by this version: ")
