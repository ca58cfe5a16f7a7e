"""What is read of the peers' qlogs: round-trip times, path validation, and what was lost."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from quicpipe_lab.errors import QuicpipeLabError

_WRITER = "aioquic"
"""Other QUIC stacks name other events, and count times from another moment."""
_HEAD = '{"qlog_format": "JSON"'


class RttSample(NamedTuple):
    """A measurement, on the run's clock."""

    t_s: float
    rtt_s: float


def peer_rtts(path: Path, epoch_unix_s: float) -> list[RttSample]:
    """Of the connection with the peer, not that with the relay. Empty where there is no qlog, or
    none that is whole: programs write theirs as they end. Raises QuicpipeLabError where it is none
    of ours."""
    with _refused(path):
        return sorted(
            sample for events in _with_peer(path) for sample in _samples(events, epoch_unix_s)
        )


class PathCheck(NamedTuple):
    """A frame of path validation (RFC 9000, 8.2) in a packet that was sent or received."""

    t_s: float
    frame: str
    is_sent: bool


class PeerTrace(NamedTuple):
    """Of the connection with the peer: path validation, and how many packets QUIC gave up for
    lost."""

    checks: list[PathCheck]
    lost: int


def peer_trace(path: Path, epoch_unix_s: float) -> PeerTrace:
    """Empty and refused as those of ``peer_rtts``."""
    with _refused(path):
        events = [event for trace in _with_peer(path) for event in trace]
        lost = sum(event.get("name") == "recovery:packet_lost" for event in events)
        return PeerTrace(list(_checks(events, epoch_unix_s)), lost)


def _checks(events: list[dict[str, Any]], epoch_unix_s: float) -> Iterator[PathCheck]:
    for event in events:
        name = event.get("name")
        if name not in ("transport:packet_sent", "transport:packet_received"):
            continue
        for frame in event.get("data", {}).get("frames", []):
            if (kind := frame.get("frame_type")) in ("path_challenge", "path_response"):
                t_s = event["time"] / 1000 - epoch_unix_s
                yield PathCheck(t_s, kind, name == "transport:packet_sent")


@contextmanager
def _refused(path: Path) -> Iterator[None]:
    """Whatever taking such a document apart raises."""
    try:
        yield
    except OSError as error:
        raise QuicpipeLabError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise QuicpipeLabError(f"{path} is no qlog that a program of ours wrote") from None


def _with_peer(path: Path) -> list[list[dict[str, Any]]]:
    """The events of each connection. Raises all that indexing and decoding raise."""
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return []
    try:
        traces = json.loads(text)["traces"]
    except json.JSONDecodeError:
        if text and not text.startswith(_HEAD):
            raise
        return []  # of a program that was killed
    if any(trace["vantage_point"]["name"] != _WRITER for trace in traces):
        raise ValueError("another program's")
    all_events = [trace["events"] for trace in traces]
    return [events for events in all_events if not _is_with_relay(events)]


def _is_with_relay(events: list[dict[str, Any]]) -> bool:
    """HTTP/3 is spoken with the relay alone."""
    return any(str(event.get("name", "")).startswith("http:") for event in events)


def _samples(events: list[dict[str, Any]], epoch_unix_s: float) -> list[RttSample]:
    """QUIC's qlog repeats the latest sample with each change of any metric: taken when new."""
    found: list[RttSample] = []
    latest_ms: float | None = None
    for event in events:
        if event.get("name") != "recovery:metrics_updated":
            continue
        sample_ms = event.get("data", {}).get("latest_rtt")
        if isinstance(sample_ms, int | float) and sample_ms != latest_ms:
            latest_ms = sample_ms
            found.append(RttSample(event["time"] / 1000 - epoch_unix_s, sample_ms / 1000))
    return found
