"""One packet at all its hops, and what becomes comments."""

from itertools import chain

from quicpipe_lab.traffic.frame import CapturedFrame
from quicpipe_lab.traffic.journeys import follow
from quicpipe_lab.traffic.notes import notes
from tests.traffic import scene


def test_a_journey_goes_through_nats_and_the_relay() -> None:
    one, other = b"\x40" * 60, b"\x41" * 60
    frames = [
        *scene.from_alice(0, one, scene.RELAY),
        *scene.from_bob(500, other, scene.RELAY),
        *scene.at_relay(5_000, one, scene.ALICE),
        *scene.at_relay(8_000, one, scene.BOB, outwards=True),
        *scene.to_bob(10_000, one, scene.RELAY),
    ]
    found = follow(sorted(frames, key=lambda frame: frame.time_ns))
    numbers = {one: 0, other: 1}
    hops: dict[int, int] = {}
    for sighting in found:
        assert sighting.datagram is not None
        assert sighting.journey == numbers[sighting.datagram.payload]
        assert sighting.hop == hops.get(sighting.journey, 0)
        hops[sighting.journey] = sighting.hop + 1
    assert hops == {0: 12, 1: 4}


def test_what_comes_by_again_is_another_journey() -> None:
    frames = [
        *scene.from_alice(0, b"again", scene.RELAY),
        *scene.from_alice(9_000, b"again", scene.RELAY),
    ]
    assert [one.journey for one in follow(frames)] == [0] * 4 + [1] * 4


def comments(*frames: list[CapturedFrame]) -> dict[tuple[str, int], str]:
    """By place and journey."""
    found = follow(sorted(chain(*frames), key=lambda frame: frame.time_ns))
    return {
        (found[index].frame.place, found[index].journey): text
        for index, text in notes(found, scene.TOPOLOGY).items()
    }


def test_translations_and_the_relay_in_userspace() -> None:
    payload = b"\x40" * 60
    assert comments(
        scene.from_alice(0, payload, scene.RELAY),
        scene.at_relay(5_000, payload, scene.ALICE),
        scene.at_relay(8_000, payload, scene.BOB, outwards=True),
        scene.to_bob(10_000, payload, scene.RELAY),
    ) == {
        ("nat-a/core", 0): "nat-a translated the source 192.168.0.6:1111 to 198.18.0.10:41000",
        ("relay/core", 0): "relayed in userspace",
        ("nat-b/bob", 0): "nat-b translated the destination 198.18.0.14:42000 to 192.168.0.6:2222",
    }


def test_what_the_filter_relays_is_seen_at_the_cores_end_alone() -> None:
    payload = b"\x40" * 60
    there, back = (
        [frame for frame in frames if frame.node == "core"]
        for frames in (
            scene.at_relay(5_000, payload, scene.ALICE),
            scene.at_relay(8_000, payload, scene.BOB, outwards=True),
        )
    )
    on = scene.to_bob(11_000, payload, scene.RELAY)
    found = comments(scene.from_alice(0, payload, scene.RELAY), there, back, on)
    assert found["core/relay", 0] == "relayed by the filter"


def test_why_a_nat_dropped_what_came_from_outside() -> None:
    ours = scene.from_alice(0, b"first", scene.RELAY)
    early = scene.to_alice(10_000, b"early", scene.BOB, hops=2)
    nobody = scene.way(20_000, b"none", "core", "bob", scene.BOB_INSIDE, scene.BOB, scene.ALICE, 2)
    forgotten = scene.to_alice(30_000, b"forgotten", scene.RELAY, hops=2)
    lifetime_ns = int(400e9)
    late = scene.to_alice(lifetime_ns, b"late", scene.RELAY, hops=2)
    found = comments(ours, early, nobody, forgotten, late)
    assert found["nat-a/core", 1] == (
        "dropped by nat-a: filtered, for 192.168.0.6:1111 has sent from port 41000 to"
        " 198.18.0.6:443 and not to 198.18.0.14:42000"
    )
    assert found["nat-b/core", 2] == "dropped by nat-b: port 42000 belongs to none of its mappings"
    assert found["nat-a/core", 3] == (
        "dropped by nat-a: filtered, though 192.168.0.6:1111 has sent from port 41000 to"
        " 198.18.0.6:443: it does not remember that any more"
    )
    assert found["nat-a/core", 4] == (
        "dropped by nat-a: the mapping of port 41000 ended, idle for 400.0 s"
    )


def test_the_core_passes_on_all_but_what_is_cut_off() -> None:
    found = comments(scene.from_alice(0, b"cut", scene.BOB), scene.at_relay(9, b"end", scene.BOB))
    assert found["core/nat-a", 0] == (
        "dropped by core: the way on is cut, or nobody has the address"
    )
    assert not [place for place, journey in found if journey == 1]


def test_what_is_lost_and_where_nothing_leads() -> None:
    lost = scene.from_bob(0, b"lost", scene.RELAY, hops=3)
    private = scene.from_alice(1, b"private", scene.BOB_INSIDE)
    found = comments(lost, private)
    assert found["nat-b/core", 0].endswith("not seen any more after this")
    assert found["core/nat-a", 1] == "dropped by core: no route to 192.168.0.6"
