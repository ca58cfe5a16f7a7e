"""Who was switched off in the middle of a run, and has forgotten what was before."""

from collections.abc import Iterable
from typing import NamedTuple

from quicpipe_lab.model.event import Event


class Outage(NamedTuple):
    """A router that was rebooted, or the relay's program that was restarted. Unix times."""

    node: str
    since_ns: int
    until_ns: int


def outages(events: Iterable[Event], relay: str, epoch_unix_s: float = 0.0) -> list[Outage]:
    """In order of time. A relay that did not come again was away until the end."""
    found: list[Outage] = []
    last_s = 0.0

    def at_ns(t_s: float) -> int:
        return round((epoch_unix_s + t_s) * 1e9)

    for event in sorted(events, key=lambda one: one.t_s):
        last_s = event.t_s
        match event.name:
            case "rebooted":
                since_s = event.data.get("since_s", event.t_s)
                found.append(Outage(event.data["router"], at_ns(since_s), at_ns(event.t_s)))
            case "relay-restarted":
                found.append(Outage(relay, at_ns(event.t_s), -1))
            case "ready" if event.node == relay:
                found = [_until(one, at_ns(event.t_s)) for one in found]
    return [_until(one, at_ns(last_s)) for one in found]


def _until(one: Outage, time_ns: int) -> Outage:
    """One that has had no end until now ends."""
    return one if one.until_ns >= 0 else one._replace(until_ns=time_ns)
