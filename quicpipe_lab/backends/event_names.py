"""The names of all events that a run can report, by who reports them."""

from typing import get_args

from quicpipe_lab.model.event import PEER_EVENTS, name_of
from quicpipe_lab.model.scenario import Scenario
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
    "switched",
    "relay-restarted",
    "attacked",
    "steps-done",
    "missed",
    "failed",
    "link-counters",
    "lab-down",
    "done",
)
_RELAY = ("ready", "status", "stopped", *(name_of(one) for one in get_args(RelayEvent)))


def event_names(scenario: Scenario) -> dict[str, tuple[str, ...]]:
    """By node; the lab's own are ``lab``'s."""
    return {
        scenario.dialer: PEER_EVENTS,
        scenario.accepter: PEER_EVENTS,
        scenario.relay: _RELAY,
        LAB: _LAB,
    }
