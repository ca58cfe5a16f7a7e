"""Routers that are rebooted and relays that are restarted: from events to comments on packets."""

from itertools import chain

import pytest

from quicpipe_lab.analysis.nat_tables import router_lives
from quicpipe_lab.analysis.packets import table
from quicpipe_lab.model.event import Event
from quicpipe_lab.traffic.frame import CapturedFrame
from quicpipe_lab.traffic.journeys import follow
from quicpipe_lab.traffic.notes import notes
from quicpipe_lab.traffic.outages import Outage, outages
from tests.traffic import scene

READY, RESTARTED = Event(1.0, "relay", "ready"), Event(2.0, "lab", "relay-restarted")
REBOOTED = Event(3.0, "lab", "rebooted", {"router": "nat-a", "since_s": 2.5})
SECOND_NS = 1_000_000_000
OFF = Outage("nat-a", 2 * SECOND_NS, 3 * SECOND_NS)


def test_a_relay_is_away_until_it_is_ready_again() -> None:
    again = Event(2.5, "relay", "ready")
    reboot = Outage("nat-a", 12_500_000_000, 13_000_000_000)
    found = outages([READY, RESTARTED, REBOOTED, again], "relay", 10.0)
    assert found == [Outage("relay", 12_000_000_000, 12_500_000_000), reboot]
    found = outages([READY, RESTARTED, REBOOTED], "relay", 10.0)
    assert found == [Outage("relay", 12_000_000_000, 13_000_000_000), reboot]


def comments(off: Outage, *frames: list[CapturedFrame]) -> list[str]:
    sightings = follow(sorted(chain(*frames), key=lambda frame: frame.time_ns))
    return list(notes(sightings, scene.TOPOLOGY, [off]).values())


@pytest.mark.parametrize(
    ("time_s", "says"),
    [
        (1.5, "filtered, for 192.168.0.6:1111 has sent from port 41000 to"),
        (2.5, "dropped by nat-a: it is being rebooted"),
        (3.5, "it forgot the mapping of port 41000 when it was rebooted, 0.5 s before; nat-a was"),
    ],
)
def test_what_comes_for_a_mapping(time_s: float, says: str) -> None:
    sent = scene.from_alice(SECOND_NS, b"out", scene.RELAY)
    came = scene.to_alice(round(time_s * SECOND_NS), b"in", scene.BOB, hops=2)
    assert says in comments(OFF, sent, came)[-1]


def test_what_comes_to_a_relay_that_is_away_or_new() -> None:
    away = Outage("relay", 2 * SECOND_NS, 3 * SECOND_NS)
    to_relay = [scene.at_relay(at * SECOND_NS, bytes([at]), scene.ALICE) for at in (1, 2, 3, 4)]
    assert comments(away, *to_relay) == [
        "nobody takes it: the relay is being restarted",
        "the relay was restarted before this: it knows nothing of what was",
    ]


def test_a_mappings_life_ends_with_a_reboot() -> None:
    frames = [
        *scene.from_alice(SECOND_NS, bytes([0x40]) * 30, scene.RELAY),
        *scene.from_alice(4 * SECOND_NS, bytes([0x41]) * 30, scene.RELAY),
    ]
    (life,) = router_lives(scene.TOPOLOGY, table(frames, 0.0), [OFF])
    assert [round(one.born_s) for one in life.mappings] == [1, 4]
    assert life.mappings[0].ends_s == 2.0
    (life,) = router_lives(scene.TOPOLOGY, table(frames, 0.0))
    assert len(life.mappings) == 1
