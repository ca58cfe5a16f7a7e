"""Qlogs that are read, that break off, and that others wrote."""

import json
from pathlib import Path
from typing import Any

import pytest

from quicpipe_lab.analysis.qlog import PathCheck, RttSample, peer_rtts, peer_trace
from quicpipe_lab.errors import QuicpipeLabError

RTT = {"name": "recovery:metrics_updated", "time": 5000.0, "data": {"latest_rtt": 20.0}}
SENT = {
    "name": "transport:packet_sent",
    "time": 6000.0,
    "data": {"frames": [{"frame_type": "path_challenge"}, {"frame_type": "ping"}]},
}
LOST = {"name": "recovery:packet_lost", "time": 7000.0, "data": {}}
HTTP = {"name": "http:frame_created", "time": 5000.0, "data": {}}


def of(*traces: list[Any], writer: str = "aioquic") -> dict[str, Any]:
    """As aioquic writes them."""
    point = {"name": writer, "type": "client"}
    found = [{"common_fields": {}, "events": one, "vantage_point": point} for one in traces]
    return {"qlog_format": "JSON", "qlog_version": "0.3", "traces": found}


def test_the_peers_connection_is_read_and_the_relays_is_not(tmp_path: Path) -> None:
    path = tmp_path / "alice.qlog"
    path.write_text(json.dumps(of([RTT, RTT, SENT, LOST], [HTTP, RTT, LOST])))
    assert peer_rtts(path, 4.0) == [RttSample(1.0, 0.02)]
    assert peer_trace(path, 4.0) == ([PathCheck(2.0, "path_challenge", True)], 1)


def test_of_a_program_that_was_killed_nothing_is_known(tmp_path: Path) -> None:
    path = tmp_path / "alice.qlog"
    text = json.dumps(of([RTT, SENT]))
    for there in ("", text[:40], text[:-1]):
        path.write_text(there)
        assert peer_rtts(path, 0.0) == []
        assert peer_trace(path, 0.0) == ([], 0)
    path.unlink()
    assert peer_rtts(path, 0.0) == []


@pytest.mark.parametrize(
    "document",
    [
        "\x1e" + json.dumps(of()),  # JSON-SEQ
        json.dumps({"qlog_version": "0.3", "qlog_format": "NDJSON"}) + "\n" + json.dumps(RTT),
        [1],
        {},
        {"traces": 1},
        {"traces": [1]},
        {"traces": [{"events": []}]},
        of([RTT], writer="quic-go"),
        of([["5000", "recovery", "metrics_updated", {"latest_rtt": 20}]]),  # up to draft 02
        of([{**RTT, "time": "soon"}, {**SENT, "time": "soon"}]),
        of([{"name": RTT["name"], "data": RTT["data"]}, {"name": SENT["name"], **SENT, "data": 1}]),
        "no JSON",
        "[" * 100_000,
    ],
    ids=lambda one: str(one)[:60],
)
def test_what_others_wrote_is_refused_by_name(document: Any, tmp_path: Path) -> None:
    path = tmp_path / "alice.qlog"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    for read in (peer_rtts, peer_trace):
        with pytest.raises(QuicpipeLabError) as refused:
            read(path, 0.0)
        assert str(refused.value) == f"{path} is no qlog that a program of ours wrote"


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    for read in (peer_rtts, peer_trace):
        with pytest.raises(QuicpipeLabError, match=r"cannot read .*: Is a directory"):
            read(tmp_path, 0.0)
