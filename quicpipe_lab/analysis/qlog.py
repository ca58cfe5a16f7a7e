"""What is read of the peers' qlogs: the round-trip times that QUIC measured."""

import json
from pathlib import Path
from typing import Any, NamedTuple


class RttSample(NamedTuple):
    """A measurement, on the run's clock."""

    t_s: float
    rtt_s: float


def peer_rtts(path: Path, epoch_unix_s: float) -> list[RttSample]:
    """Of the connection with the peer, not that with the relay. Empty where there is no qlog:
    programs write theirs as they end."""
    try:
        traces = json.loads(path.read_text("utf-8"))["traces"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    found: list[RttSample] = []
    for trace in traces:
        events = trace.get("events", [])
        if not _is_with_relay(events):
            found += _samples(events, epoch_unix_s)
    return sorted(found)


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
