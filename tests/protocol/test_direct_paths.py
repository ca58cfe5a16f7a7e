"""Paths between dialer and accepter: going direct, dying, coming back; in virtual time."""

import itertools
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
from quicpipe_lab.protocol.control import PunchMessage
from quicpipe_lab.protocol.direct_states import State
from quicpipe_lab.protocol.events import (
    CandidatesExchanged,
    DirectSilent,
    PathChanged,
    PunchAnswered,
    PunchFailed,
    PunchStarted,
    RelayLost,
    RelayRefused,
)
from quicpipe_lab.protocol.relay_leg import (
    KEEPALIVE_S,
)
from quicpipe_lab.protocol.signalling import MIN_ROUND_S
from quicpipe_lab.protocol.wire import PUNCH_LENGTH
from tests.protocol.pair import Pair

HOME = PRESETS["home"]
SYMMETRIC = PRESETS["symmetric"]
ENDPOINT, MAPPING = FilterScope
CELLS = [NatBehavior(m, f) for m in MappingBehavior for f in FilteringBehavior]


def test_goes_direct_and_needs_the_relay_no_more() -> None:
    pair = Pair(HOME, HOME).connect()
    assert pair.run_until_direct(1.0)
    pair.world.drop = lambda one, other, _: "relay" in (one, other)
    assert pair.echoed(b"x" * 50_000)
    assert pair.dialer.bytes.direct > 100_000


def test_time_to_direct_without_loss_is_a_few_round_trips() -> None:
    """76 ms at 30 ms of direct round trip in the study; ours adds the candidates' exchange."""
    pair = Pair(HOME, HOME).connect()
    started = pair.world.now
    assert pair.run_until_direct(1.0)
    exchange_s = 2 * 2 * 0.080  # there and back, and the accepter's handshake confirmation before
    assert pair.world.now - started < exchange_s + 0.080


def scoped(cells: list[NatBehavior], scope: FilterScope) -> list[NatBehavior]:
    return [replace(cell, filter_scope=scope) for cell in cells]


@pytest.mark.parametrize("scopes", [(ENDPOINT, ENDPOINT), (MAPPING, MAPPING), (MAPPING, ENDPOINT)])
@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_every_cell_ends_as_predicted(
    cell: NatBehavior, scopes: tuple[FilterScope, FilterScope]
) -> None:
    """81 cells; data flows in each, with the relay cut where the path is direct."""
    (one,) = scoped([cell], scopes[0])
    for other in scoped(CELLS, scopes[1]):
        pair = Pair(one, other).connect()
        if can_go_direct(one, other):
            assert pair.run_until_direct(5.0), f"{one} against {other} stayed relayed"
            pair.world.drop = lambda a, b, _: "relay" in (a, b)
        else:
            pair.world.run(6.0)
            assert not pair.dialer.is_direct, f"{one} against {other} went direct"
            assert not pair.accepter.is_direct
        assert pair.echoed(b"still here" * 500), f"{one} against {other}"


def test_predicate_counts() -> None:
    """49 of 81 cells go direct; four of them hear from another address than they send to."""

    def direct(*scopes: FilterScope) -> set[tuple[str, str]]:
        pairs = itertools.product(*(scoped(CELLS, scope) for scope in scopes))
        return {(str(one), str(other)) for one, other in pairs if can_go_direct(one, other)}

    assert len(direct(ENDPOINT, ENDPOINT)) == 49
    assert direct(ENDPOINT, MAPPING) == direct(MAPPING, ENDPOINT) == direct(ENDPOINT, ENDPOINT)
    lost = set(itertools.product(("ADM/ADF", "APDM/ADF"), repeat=2))
    assert direct(ENDPOINT, ENDPOINT) - direct(MAPPING, MAPPING) == lost


def test_two_apdm_mappings_meet_by_a_crooked_path() -> None:
    """Each side's port depends on the other's; it holds, falls back and comes again."""
    apdm = NatBehavior(
        MappingBehavior.ADDRESS_AND_PORT_DEPENDENT, FilteringBehavior.ADDRESS_DEPENDENT
    )
    pair = Pair(apdm, apdm).connect()
    assert pair.run_until_direct(5)
    (answered, *_) = pair.received["alice"].of(PunchAnswered)
    assert answered.heard_from not in (None, answered.address)
    pair.world.drop = lambda one, other, _: "relay" in (one, other)
    assert pair.echoed(b"crooked" * 20_000)
    pair.world.run(600)
    assert pair.dialer.is_direct
    pair.world.drop = lambda one, other, _: {one, other} == {"alice", "bob"}
    assert pair.echoed(b"relayed", seconds=20)
    pair.world.drop = lambda *_: False
    assert pair.run_until_direct(60)
    assert pair.echoed(b"crooked again")


def test_public_dialer_and_natted_accepter() -> None:
    assert Pair(None, HOME).connect().run_until_direct(1.0)


def test_symmetric_pair_stays_relayed_and_says_so() -> None:
    pair = Pair(SYMMETRIC, SYMMETRIC).connect()
    assert pair.world.run(10, lambda: pair.both(PunchFailed))
    assert pair.received["alice"].of(PunchFailed)[0].sent == 20
    assert pair.echoed(b"relayed")


def test_direct_path_dies_and_comes_back() -> None:
    pair = Pair(HOME, HOME).connect()
    assert pair.run_until_direct()
    payload = pair.random.randbytes(2_000_000)
    pair.send(payload)
    pair.world.run(0.2)
    pair.world.drop = lambda one, other, _: {one, other} == {"alice", "bob"}
    cut_at = pair.world.now
    assert pair.world.run(2.0, lambda: not pair.dialer.is_direct and not pair.accepter.is_direct), (
        "the relay did not take over"
    )
    assert pair.world.now - cut_at < 0.7
    assert pair.received["alice"].of(DirectSilent)
    heard = pair.received["alice"].data
    assert pair.world.run(60, lambda: len(heard.get(0, b"")) == len(payload))
    assert heard[0] == payload
    pair.world.drop = lambda *_: False
    assert pair.run_until_direct(40)
    assert pair.echoed(b"direct again")


def test_idle_direct_path_dies_and_is_noticed() -> None:
    pair = Pair(HOME, HOME).connect()
    assert pair.run_until_direct()
    pair.world.run(5)
    pair.world.drop = lambda one, other, _: {one, other} == {"alice", "bob"}
    assert pair.world.run(6.0, lambda: not pair.accepter.is_direct)
    assert pair.echoed(b"through the relay")


def test_one_way_death_is_noticed() -> None:
    """Nothing of alice's reaches bob any more, but all of bob's reaches alice."""
    pair = Pair(HOME, HOME).connect()
    assert pair.run_until_direct()
    pair.world.drop = lambda one, other, _: (one, other) == ("alice", "bob")
    assert pair.echoed(b"y" * 100_000, seconds=10)
    assert not pair.dialer.is_direct


def test_direct_path_idles_for_an_hour_and_lives() -> None:
    pair = Pair(HOME, HOME).connect()
    assert pair.run_until_direct()
    pair.world.run(3600)
    assert pair.dialer.is_direct
    assert pair.echoed(b"good morning")


def test_many_path_switches_do_not_run_out_of_registered_ids() -> None:
    pair = Pair(HOME, HOME).connect()
    for _ in range(40):
        assert pair.run_until_direct(60)
        pair.world.drop = lambda one, other, _: {one, other} == {"alice", "bob"}
        assert pair.world.run(10, lambda: not pair.accepter.is_direct)
        assert pair.echoed(b"via relay" * 100), "the relay does not know our newest IDs"
        pair.world.drop = lambda *_: False
    assert pair.dialer.relay.registered > 64


def test_a_new_relay_learns_all_ids_in_steps_that_it_grants() -> None:
    """After many switches more than one call's worth is registered; a new relay knows none."""
    pair = Pair(HOME, HOME).connect()
    for _ in range(25):
        assert pair.run_until_direct(60)
        pair.world.drop = lambda one, other, _: {one, other} == {"alice", "bob"}
        assert pair.world.run(10, lambda: not pair.accepter.is_direct)
        pair.world.drop = lambda *_: False
    assert pair.dialer.relay.registered > 64
    assert pair.run_until_direct(60)
    pair.replace_relay()
    heard = pair.received["alice"]
    assert pair.world.run(120, lambda: bool(heard.of(RelayLost)))
    pair.world.run(10)
    assert not heard.of(RelayRefused)
    pair.world.drop = lambda one, other, _: {one, other} == {"alice", "bob"}
    assert pair.world.run(10, lambda: not pair.accepter.is_direct)
    assert pair.echoed(b"through the new relay")


def test_short_exchanges_need_not_look_for_a_direct_path() -> None:
    pair = Pair(HOME, HOME, direct_after_bytes=100_000).connect()
    pair.world.run(5)
    assert not pair.received["alice"].of(PunchStarted)
    assert pair.echoed(b"z" * 100_000)
    assert pair.run_until_direct()


def test_path_events_pair_up() -> None:
    pair = Pair(HOME, HOME).connect()
    assert pair.run_until_direct()
    for heard in pair.received.values():
        (change,) = heard.of(PathChanged)
        assert change.direct
        assert change.rtt_s is not None
        assert change.rtt_s > 0.1  # the relayed path's


def test_a_peer_that_floods_with_rounds_makes_nobody_punch_oftener() -> None:
    """An authenticated but malicious dialer names a victim again and again."""
    pair = Pair(HOME, HOME, direct_after_bytes=10**12).connect()
    victim = TransportAddress("203.0.113.99", 53)
    stream = pair.dialer._control_stream
    assert stream is not None
    assert pair.dialer._peer is not None
    sent = len(pair.world.log)
    for number in range(1, 1001):
        message = PunchMessage(number, bytes(32), (victim,), None).encode()
        pair.dialer._peer.send_stream_data(stream, message)
    pair.world.pump("alice")
    punches: list[TransportAddress] = []
    original = pair.accepter.direct.datagrams_to_send

    def counting(now: float) -> list[tuple[bytes, TransportAddress]]:
        out = original(now)
        punches.extend(to for data, to in out if len(data) == PUNCH_LENGTH)
        return out

    pair.accepter.direct.datagrams_to_send = counting  # type: ignore[method-assign]
    pair.world.run(5)
    assert len(pair.world.log) > sent
    rounds = len(pair.received["bob"].of(CandidatesExchanged))
    assert 1 <= rounds <= 5 / MIN_ROUND_S
    assert 0 < punches.count(victim) <= 20 * rounds


def test_a_path_that_does_not_stand_validation_is_left_and_said_to_be_left() -> None:
    """RFC 9000, 9.3.2: alice's answers to bob's challenge are lost, so bob goes back by himself."""
    pair = Pair(HOME, HOME).connect()
    order = itertools.count()

    def drop(one: str, other: str, data: bytes) -> bool:
        if pair.accepter.is_direct:
            return one == "alice"
        return (one, other) == ("alice", "bob") and data[0] >= 0x40 and next(order) == 1

    pair.world.drop = drop
    assert pair.run_until_direct()
    assert pair.world.run(30, lambda: not pair.accepter.is_direct)
    assert [one.direct for one in pair.received["bob"].of(PathChanged)] == [True, False]


def test_the_relay_is_kept_warm_while_the_path_is_direct() -> None:
    """RFC 9000, 10.1.2: a NAT may forget a mapping after 30 s, and the relay is the fallback."""
    pair = Pair(HOME, HOME).connect()
    assert pair.run_until_direct()
    began = pair.world.now
    pair.world.run(300)
    for name in ("alice", "bob"):
        sent = [at for at, one, to, _ in pair.world.log if (one, to) == (name, "relay")]
        moments = [began, *(at for at in sent if at > began), pair.world.now]
        longest = max(after - before for before, after in itertools.pairwise(moments))
        assert longest < KEEPALIVE_S + 1


def test_acknowledgements_keep_a_busy_path_alive_without_heartbeats() -> None:
    pair = Pair(HOME, HOME).connect()
    assert pair.run_until_direct()
    pair.world.drop = lambda *one: len(one[2]) == PUNCH_LENGTH
    for _ in range(60):
        pair.send(bytes(1000))
        pair.world.run(0.05)
    assert not pair.received["alice"].of(DirectSilent)


def test_what_the_other_side_sends_is_no_sign_that_it_hears_us() -> None:
    pair = Pair(HOME, HOME).connect()
    assert pair.run_until_direct()
    pair.world.drop = lambda one, other, _: (one, other) == ("alice", "bob")
    pair.send(b"into the void")
    stream = pair.accepter.open_stream()
    for _ in range(12):  # bob talks on, and is heard
        pair.accepter.send_stream_data(stream, bytes(1000))
        pair.world.pump("bob")
        pair.world.run(0.1)
    assert not pair.dialer.is_direct


def test_a_path_that_could_not_be_left_is_taken_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """No connection ID was there for the way back: the path in use may answer again."""
    pair = Pair(HOME, HOME).connect()
    assert pair.run_until_direct()
    monkeypatch.setattr(pair.dialer._peer, "return_to", lambda *_: False)
    pair.world.drop = lambda one, other, _: {one, other} == {"alice", "bob"}
    assert pair.world.run(10, lambda: bool(pair.received["alice"].of(DirectSilent)))
    pair.world.drop = lambda *_: False
    assert pair.world.run(10, lambda: pair.dialer.direct.state is State.DIRECT)
    assert pair.echoed(b"on the path that we never left")
