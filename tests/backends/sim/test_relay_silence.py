"""Who is to blame for a peer that hears nothing of the relay: its links, or somebody."""

from quicpipe_lab.backends.sim.relay_silence import RelaySilence
from quicpipe_lab.protocol.connection_id import ConnectionIdGenerator

KEY = bytes(range(16))


def datagram(number: int, *, relay_leg: bool = True) -> bytes:
    """As somebody sends it, to one of his connection IDs."""
    ids = ConnectionIdGenerator(KEY, relay_leg=relay_leg)
    return b"\x40" + ids.next() + number.to_bytes(30)


def silence(sent: int, *, reached: bool = False, answered: bool = False) -> RelaySilence:
    one = RelaySilence()
    for number in range(sent):
        one.said(datagram(number))
    if reached:
        one.reached(datagram(0))
    if answered:
        one.answered(datagram(100))
    return one


def test_what_never_came_to_the_relay_excuses() -> None:
    assert silence(3).excuses(50.0)


def test_nor_did_its_answer_come_back() -> None:
    assert silence(3, reached=True, answered=True).excuses(50.0)


def test_a_relay_that_does_not_answer_does_not() -> None:
    assert not silence(9, reached=True).excuses(50.0)


def test_nor_what_it_said_before() -> None:
    one = RelaySilence()
    one.answered(datagram(100))
    for number in range(9):
        one.said(datagram(number))
    one.reached(datagram(8))
    assert not one.excuses(50.0)


def test_nor_a_peer_that_says_nothing_to_it() -> None:
    one = silence(2)
    for number in range(9):
        one.said(datagram(number, relay_leg=False))  # to the other peer
    assert not one.excuses(50.0)


def test_soon_after_it_was_heard_again_it_may_be_given_up() -> None:
    one = silence(3)
    one.heard(datagram(100, relay_leg=False), 50.0)  # of the other peer
    one.heard(datagram(100), 60.0)
    assert one.excuses(61.0)
    assert not one.excuses(121.0)
