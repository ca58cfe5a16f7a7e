"""Port searches between dialer and accepter, in virtual time."""

import itertools
import random
from dataclasses import replace

import pytest

from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.model.expectation import can_go_direct
from quicpipe_lab.model.nat import (
    FilteringBehavior,
    FilterScope,
    MappingBehavior,
    NatBehavior,
)
from quicpipe_lab.model.nat_presets import PRESETS
from quicpipe_lab.protocol.candidates import MAX_SIGNALLED
from quicpipe_lab.protocol.control import MovedMessage, PunchMessage, SearchMessage
from quicpipe_lab.protocol.events import PortSearchEnded, PortSearchStarted, PunchFailed
from quicpipe_lab.protocol.port_search import Offer, SearchLimits
from tests.protocol.pair import Pair

LIMITS = SearchLimits()
HOME, SYMMETRIC = PRESETS["home"], PRESETS["symmetric"]
CELLS = [NatBehavior(m, f) for m in MappingBehavior for f in FilteringBehavior]
A_SEARCH_S = 35.0
"""Longer than the three searches that a connection may have."""


@pytest.mark.parametrize("scope", FilterScope)
@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_every_cell_that_punching_leaves_ends_as_predicted(
    cell: NatBehavior, scope: FilterScope
) -> None:
    one = replace(cell, filter_scope=scope)
    for other in (replace(cell, filter_scope=scope) for cell in CELLS):
        if can_go_direct(one, other):
            continue
        pair = Pair(one, other, search=LIMITS).connect()
        found = pair.run_until_direct(A_SEARCH_S)
        assert found == can_go_direct(one, other, search=True), f"{one} against {other}"
        assert any(one.found for one in pair.received["alice"].of(PortSearchEnded)) == found
        if found:
            pair.world.drop = lambda a, b, _: "relay" in (a, b)
        assert len(pair.dialer.extra_sockets) <= found
        assert len(pair.accepter.extra_sockets) <= found
        assert pair.echoed(b"still here" * 500), f"{one} against {other}"


@pytest.mark.parametrize("nats", [(HOME, SYMMETRIC), (SYMMETRIC, HOME)])
def test_one_side_knocks_and_the_other_opens(nats: tuple[NatBehavior, NatBehavior]) -> None:
    """Who has been heard need not be searched for."""
    pair = Pair(*nats, seed=2, search=LIMITS).connect()  # one in 65 takes a second search
    assert pair.run_until_direct(A_SEARCH_S)
    easy, hard = ("alice", "bob") if nats[0] is HOME else ("bob", "alice")
    (knocked,), (opened,) = (pair.received[name].of(PortSearchEnded) for name in (easy, hard))
    assert (knocked.opened, opened.probes) == (0, 0)
    assert 0 < (knocked.hit or 0) <= knocked.probes <= LIMITS.probes
    assert LIMITS.sockets <= opened.opened <= LIMITS.sockets * LIMITS.openings
    machine = pair.accepter if hard == "bob" else pair.dialer
    assert len(machine.extra_sockets) == 1  # the one that carries the path


def test_it_takes_both_sides_to_search() -> None:
    for unwilling in ("alice", "bob"):
        pair = Pair(HOME, SYMMETRIC, search=LIMITS, unwilling=unwilling).connect()
        assert not pair.run_until_direct(A_SEARCH_S)
        for heard in pair.received.values():
            assert heard.of(PunchFailed)
            assert not heard.of(PortSearchStarted)


@pytest.mark.parametrize("when_s", [0.0, 1.5])
@pytest.mark.parametrize("nats", [(HOME, SYMMETRIC), (SYMMETRIC, HOME)])
def test_a_nat_that_forgets_costs_a_search_little(
    nats: tuple[NatBehavior, NatBehavior], when_s: float
) -> None:
    """Before the first round, or in mid-search: the easy side's address is not what was told."""
    pair = Pair(*nats, seed=2, search=LIMITS).connect()
    pair.world.run(when_s)
    easy = "alice" if nats[0] is HOME else "bob"
    pair.world.reboot(easy)
    assert pair.run_until_direct(A_SEARCH_S)
    ended = pair.received[easy].of(PortSearchEnded)
    assert [one.found for one in ended] == [True]


def test_no_search_spends_all_while_the_peers_are_cut_off() -> None:
    pair = Pair(HOME, SYMMETRIC, search=LIMITS).connect()
    pair.world.drop = lambda one, other, _: {one, other} == {"alice", "bob"}
    assert not pair.run_until_direct(8)
    pair.world.drop = lambda *_: False
    assert pair.run_until_direct(A_SEARCH_S)


def test_a_path_that_was_found_dies_and_comes_back() -> None:
    for nats in itertools.permutations((HOME, SYMMETRIC)):
        pair = Pair(*nats, search=LIMITS).connect()
        assert pair.run_until_direct(A_SEARCH_S)
        pair.world.drop = lambda one, other, _: {one, other} == {"alice", "bob"}
        assert pair.echoed(b"relayed", seconds=20)
        assert not pair.dialer.is_direct
        pair.world.drop = lambda *_: False
        assert pair.run_until_direct(40)
        assert pair.echoed(b"direct" * 10_000)


def test_what_is_lost_does_not_stop_it() -> None:
    """A fifth of everything between the peers; the other ports and probes still meet."""
    chance = random.Random(1)
    for seed in range(8):
        pair = Pair(HOME, SYMMETRIC, seed=seed, search=LIMITS).connect()
        pair.world.drop = lambda one, other, _: (
            {one, other} == {"alice", "bob"} and chance.random() < 0.2
        )
        assert pair.run_until_direct(2 * A_SEARCH_S)


def test_data_through_the_relay_does_not_mind() -> None:
    """Probes are not QUIC: nothing of what they lose is the connection's."""
    took = []
    for search in (None, LIMITS):
        pair = Pair(SYMMETRIC, SYMMETRIC, search=search).connect()
        pair.world.run(2.0)  # the round of punching is over, and the search goes on
        began = pair.world.now
        assert pair.echoed(b"x" * 2_000_000)
        took.append(pair.world.now - began)
    assert took[1] < 1.05 * took[0]


@pytest.mark.parametrize("moves", [0, 98])
def test_a_peer_that_wants_to_search_for_ever_makes_nobody_do_so(moves: int) -> None:
    """An authenticated but malicious dialer names somebody else's address, again and again."""
    pair = Pair(HOME, HOME, search=LIMITS, direct_after_bytes=10**12).connect()
    victim = TransportAddress("203.0.113.99", 53)
    stream, peer = pair.dialer._control_stream, pair.dialer._peer
    assert stream is not None
    assert peer is not None
    for number in range(1, 200):
        punch = PunchMessage(number, bytes(32), (victim,), victim, search=True)
        search = SearchMessage(number, Offer(10**6, 1e6))
        elsewhere = (TransportAddress(victim.host, 1 + port) for port in range(moves))
        moved = b"".join(MovedMessage(one).encode() for one in elsewhere)
        peer.send_stream_data(stream, punch.encode() + search.encode() + moved)
        pair.world.pump("alice")
        pair.world.run(5.0)
    named = MAX_SIGNALLED if moves else 1
    rounds = named * 20 * 200
    openings = LIMITS.searches * LIMITS.openings * LIMITS.sockets
    sent = pair.world.sent["bob", victim.host]
    assert LIMITS.probes < sent <= rounds + LIMITS.probes + openings
    assert len(pair.received["bob"].of(PortSearchStarted)) == LIMITS.searches
