"""Rounds: what an honest peer gets, and what one that floods does not."""

import random

import pytest

from quicpipe_lab.errors import RemoteProtocolError
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.protocol.control import PunchMessage
from quicpipe_lab.protocol.port_search import Offer
from quicpipe_lab.protocol.signalling import MIN_ROUND_S, Moved, Round, Search, Signalling

RELAY = TransportAddress("203.0.113.1", 443)
ALICE = TransportAddress("198.51.100.1", 1111)
BOB = TransportAddress("198.51.100.2", 2222)
ELSEWHERE = TransportAddress(ALICE.host, 3333)


def side(*, dialer: bool, search: bool = False) -> Signalling:
    return Signalling(
        is_dialer=dialer,
        relay=RELAY,
        host_addresses=[],
        random=random.Random(1).randbytes,
        search=search,
    )


def rounds(side: Signalling, data: bytes, observed: TransportAddress, now: float) -> list[Round]:
    return [one for one in side.receive(data, observed, now) if isinstance(one, Round)]


def searches(side: Signalling, data: bytes, observed: TransportAddress) -> list[Search]:
    return [one for one in side.receive(data, observed, 9.0) if isinstance(one, Search)]


def message(number: int, key: bytes = bytes(32)) -> bytes:
    return PunchMessage(number, key, (BOB,), BOB).encode()


def test_a_round_tells_each_side_of_the_other() -> None:
    alice, bob = side(dialer=True), side(dialer=False)
    assert not alice.has_begun
    (at_bob,) = rounds(bob, alice.begin(1, ALICE), BOB, 0.0)
    assert alice.has_begun
    (at_alice,) = rounds(alice, at_bob.answer, ALICE, 0.1)
    assert (at_bob.theirs, at_bob.ours) == ((ALICE,), (BOB,))
    assert (at_alice.theirs, at_alice.ours) == ((BOB,), (ALICE,))
    assert at_alice.key == at_bob.key
    assert at_alice.answer == b""


def test_the_key_stays_through_all_rounds() -> None:
    alice, bob = side(dialer=True), side(dialer=False)
    first, second = (
        rounds(bob, alice.begin(number, ALICE), BOB, number * 10.0) for number in (1, 2)
    )
    assert first[0].key == second[0].key


def test_a_dialer_that_floods_gets_one_round_in_a_while() -> None:
    bob = side(dialer=False)
    taken: list[Round] = []
    for number in range(1, 1001):  # within one second
        taken += rounds(bob, message(number), BOB, number / 1000)
    assert len(taken) <= 1 + 1 / MIN_ROUND_S
    assert bob.receive(message(5000), BOB, 10.0)


def test_a_round_is_taken_once_and_never_an_earlier_one() -> None:
    bob = side(dialer=False)
    assert bob.receive(message(3), BOB, 0.0)
    assert not bob.receive(message(3), BOB, 10.0)
    assert not bob.receive(message(2), BOB, 20.0)
    assert bob.receive(message(4), BOB, 30.0)


def test_an_accepter_gives_one_answer_to_what_was_asked() -> None:
    alice = side(dialer=True)
    assert not alice.receive(message(1), ALICE, 0.0)  # before anything was asked
    alice.begin(1, ALICE)
    assert not alice.receive(message(2), ALICE, 0.0)
    assert len(alice.receive(message(1) * 50, ALICE, 0.0)) == 1
    alice.begin(2, ALICE)
    assert len(alice.receive(message(2), ALICE, 0.0)) == 1


def test_the_key_is_the_dialers_alone() -> None:
    alice = side(dialer=True)
    alice.begin(1, ALICE)
    (answered,) = rounds(alice, message(1, b"\xff" * 32), ALICE, 0.0)
    assert answered.key != b"\xff" * 32


def test_garbage_is_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        side(dialer=False).receive(b"garbage\n", BOB, 0.0)


def test_a_search_needs_both_sides_will_in_that_round() -> None:
    offer = Offer(2048, 10.24)
    for willing in ((True, True), (True, False), (False, True), (False, False)):
        alice, bob = side(dialer=True, search=willing[0]), side(dialer=False, search=willing[1])
        (at_bob,) = rounds(bob, alice.begin(1, ALICE), BOB, 0.0)
        (at_alice,) = rounds(alice, at_bob.answer, ALICE, 0.1)
        both = willing == (True, True)
        assert (at_bob.search_at, at_alice.search_at) == ((ALICE, BOB) if both else (None, None))
        heard = searches(bob, alice.search(1, offer), BOB)
        assert heard == ([Search(1, offer)] if both else [])
        assert searches(alice, bob.search(1, offer), ALICE) == heard


def test_a_search_is_taken_once_a_round_and_for_the_present_one_only() -> None:
    alice, bob = side(dialer=True, search=True), side(dialer=False, search=True)
    (at_bob,) = rounds(bob, alice.begin(1, ALICE), BOB, 0.0)
    assert rounds(alice, at_bob.answer, ALICE, 0.1)
    offer = Offer(1, 0.0)
    assert not searches(alice, bob.search(1, offer), ALICE)  # nobody had asked
    assert not searches(bob, alice.search(2, offer), BOB)
    assert len(searches(bob, alice.search(1, offer) * 50, BOB)) == 1
    assert len(searches(alice, bob.search(1, offer) * 50, ALICE)) == 1


def test_a_move_is_told_once_and_only_to_whom_was_told_something_else() -> None:
    alice, bob = side(dialer=True, search=True), side(dialer=False, search=True)
    assert alice.moved(ALICE) == b""  # no round has been yet
    bob.receive(alice.begin(1, ALICE), BOB, 0.0)
    assert alice.moved(ALICE) == alice.moved(None) == b""
    told = alice.moved(ELSEWHERE)
    assert bob.receive(told, BOB, 0.1) == [Moved((ELSEWHERE,), ELSEWHERE)]
    assert alice.moved(ELSEWHERE) == b""
    bob.receive(alice.begin(2, ALICE), BOB, 9.0)
    assert alice.moved(ELSEWHERE) == told


def test_nobody_moves_to_where_no_round_would_go() -> None:
    alice, bob = side(dialer=True), side(dialer=False)
    bob.receive(alice.begin(1, ALICE), BOB, 0.0)
    for host in ("192.168.1.1", "127.0.0.1", RELAY.host):
        told = alice.moved(TransportAddress(host, RELAY.port))
        assert bob.receive(told, BOB, 0.1) == [Moved((), None)]


@pytest.mark.parametrize("host", ["192.168.1.1", "127.0.0.1", "224.0.0.1", "100.64.0.1", "::1"])
def test_no_search_goes_anywhere_but_to_the_internet(host: str) -> None:
    bob = side(dialer=False, search=True)
    there = TransportAddress(host, 1111)
    opened = PunchMessage(1, bytes(32), (ALICE, there), there, search=True).encode()
    (at_bob,) = rounds(bob, opened, BOB, 0.0)
    assert at_bob.search_at is None
