"""The order for Wireshark; that it decrypts is tested with tshark (backends/netns/test_capture)."""

from quicpipe_lab.traffic.compose import compose
from quicpipe_lab.traffic.frame import datagram_of
from quicpipe_lab.traffic.wireshark import out_of_band_frame
from tests.traffic import scene
from tests.traffic.test_quic import long, short

CLIENT, FIRST, SERVER = (bytes([letter]) * 12 for letter in b"cfs")
HELLO = long(0, FIRST, CLIENT, bytes(300))
ANSWER = long(0, CLIENT, SERVER, bytes(99)) + long(2, CLIENT, SERVER, bytes(99))
DATA = long(2, SERVER, CLIENT, bytes(20)) + short(SERVER)


def test_two_frames_move_and_all_keep_their_times() -> None:
    frames = [
        *scene.from_alice(0, HELLO, scene.RELAY),
        *scene.at_relay(5_000, HELLO, scene.ALICE),
        *scene.at_relay(10_000, ANSWER, scene.ALICE, outwards=True),
        *scene.to_alice(12_000, ANSWER, scene.RELAY),
        *scene.from_alice(20_000, DATA, scene.RELAY),
        *scene.at_relay(25_000, DATA, scene.ALICE),
    ]
    composed = compose(frames)
    assert sorted(composed) == sorted(frames)
    moved = [
        (frame.place, before.place)
        for frame, before in zip(composed[1:], composed[:-1], strict=True)
        if frame.time_ns < before.time_ns
    ]
    # The first copy of each that shows the addresses between which the answer is first seen.
    assert moved == [("alice/nat-a", "nat-a/core")] * 2


def test_what_is_in_order_stays_so() -> None:
    frames = [
        *scene.at_relay(0, HELLO, scene.ALICE),
        *scene.at_relay(9_000, ANSWER, scene.ALICE, outwards=True),
    ]
    assert compose(frames) == frames


def test_what_went_out_of_band_stands_before_its_answer_and_between_its_addresses() -> None:
    carried = out_of_band_frame(1, HELLO, scene.RELAY, scene.ALICE_INSIDE)
    other = scene.from_bob(100, short(b"x" * 12), scene.RELAY)
    answer = scene.from_bob(10_000, ANSWER, scene.RELAY)
    composed = compose([*other, *answer], [carried])
    assert [frame.place for frame in composed[4:6]] == ["oob", "bob/nat-b"]
    datagram = datagram_of(composed[4].data)
    assert datagram is not None
    assert (datagram.source, datagram.destination) == (scene.RELAY, scene.BOB_INSIDE)
    assert datagram.payload == HELLO
    # A part of the file in which the answer is seen elsewhere: the packet follows.
    there = [
        frame for frame in scene.to_alice(20_000, ANSWER, scene.RELAY) if frame.node == "alice"
    ]
    datagram = datagram_of(compose(there, [composed[4]])[0].data)
    assert datagram is not None
    assert (datagram.source, datagram.destination) == (scene.ALICE_INSIDE, scene.RELAY)


def test_without_an_answer_it_stands_at_its_time() -> None:
    carried = out_of_band_frame(50, HELLO, scene.RELAY, scene.BOB_INSIDE)
    frames = scene.from_alice(49, short(b"x" * 12), scene.RELAY)
    assert compose(frames, [carried])[1] == carried
