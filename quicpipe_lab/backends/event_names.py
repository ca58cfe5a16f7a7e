"""The names of all events that a run can report, by who reports them."""

from typing import get_args

from quicpipe_lab.model.event import name_of
from quicpipe_lab.model.scenario import Scenario
from quicpipe_lab.protocol.events import EndpointEvent, StreamData
from quicpipe_lab.protocol.relay_events import RelayEvent

LAB = "lab"
_LAB = (
    "lab-up",
    "certified",
    "oob-sent",
    "oob-arrived",
    "transfer-started",
    "transfer-complete",
    "cut",
    "restored",
    "idle",
    "rebooted",
    "relay-restarted",
    "attacked",
    "steps-done",
    "failed",
    "link-counters",
    "lab-down",
    "done",
)
_PEER = ("ready", "statistics", *(name_of(one) for one in get_args(EndpointEvent)))
_RELAY = ("ready", "status", "stopped", *(name_of(one) for one in get_args(RelayEvent)))


def event_names(scenario: Scenario) -> dict[str, tuple[str, ...]]:
    """By node; the lab's own are ``lab``'s. What streams carry is not reported."""
    peer = tuple(name for name in _PEER if name != name_of(StreamData))
    return {
        scenario.dialer: peer,
        scenario.accepter: peer,
        scenario.relay: _RELAY,
        LAB: _LAB,
    }
