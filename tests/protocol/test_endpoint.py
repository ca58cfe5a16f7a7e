"""Dialer and accepter through a real relay machine, in virtual time."""

import itertools

import pytest

from quicpipe_lab.errors import LocalProtocolError, RemoteProtocolError
from quicpipe_lab.model.expectation import can_go_direct
from quicpipe_lab.model.nat import PRESETS, FilteringBehavior, MappingBehavior, NatBehavior
from quicpipe_lab.protocol.events import (
    Closed,
    Connected,
    DirectSilent,
    InitialReady,
    PathChanged,
    PunchFailed,
    PunchStarted,
    RelayLost,
    RelayRefused,
    RelayRegistered,
)
from quicpipe_lab.protocol.relay_leg import KEEPALIVE_S, RelayTrust
from tests.protocol.pair import CERTIFICATE, PRIVATE_KEY, RELAY, Pair
from tests.protocol.world import Site

HOME = PRESETS["home"]
SYMMETRIC = PRESETS["symmetric"]
CELLS = [NatBehavior(m, f) for m in MappingBehavior for f in FilteringBehavior]


def test_handshake_through_the_relay_and_echo() -> None:
    pair = Pair(HOME, HOME, direct=False).connect()
    assert pair.echoed(b"over the relay" * 1000)
    assert pair.dialer.bytes.direct == pair.accepter.bytes.direct == 0
    assert not pair.dialer.is_direct


def test_the_first_packet_never_leaves_the_dialer() -> None:
    pair = Pair(HOME, HOME).connect()
    (initial,) = pair.received["alice"].of(InitialReady)
    assert initial.packet not in [
        data for _, sender, _, data in pair.world.log if sender == "alice"
    ]


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


@pytest.mark.parametrize("one", CELLS, ids=str)
def test_every_cell_ends_as_predicted(one: NatBehavior) -> None:
    """81 cells; data flows in each, with the relay cut where the path is direct."""
    for other in CELLS:
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
    """45 of 81 cells go direct by one path; four more need an asymmetric one."""
    direct = sum(can_go_direct(a, b) for a, b in itertools.product(CELLS, CELLS))
    assert direct == 45


def test_public_dialer_and_natted_accepter() -> None:
    assert Pair(None, HOME).connect().run_until_direct(1.0)


def test_symmetric_pair_stays_relayed_and_says_so() -> None:
    pair = Pair(SYMMETRIC, SYMMETRIC).connect()
    assert pair.world.run(10, lambda: pair.both(PunchFailed))
    assert pair.received["alice"].of(PunchFailed)[0].sent == 20
    assert pair.echoed(b"relayed")


def test_an_hour_out_of_band_poisons_no_clock() -> None:
    pair = Pair(HOME, HOME, oob_delay_s=3600.0, direct=False).connect()
    assert pair.echoed(b"hello")
    rtt_s = pair.dialer.peer_rtt_s
    assert rtt_s is not None
    assert 0.1 < rtt_s < 0.3  # 160 ms by way of the relay
    timer = pair.dialer.get_timer()
    assert timer is not None
    assert timer - pair.world.now < KEEPALIVE_S + 1


def test_lost_datagrams_lose_no_byte() -> None:
    pair = Pair(HOME, HOME, seed=7)
    dice = pair.random.random
    pair.world.drop = lambda *_: dice() < 0.1
    pair.connect()
    payload = pair.random.randbytes(200_000)
    assert pair.echoed(payload, seconds=300)
    assert pair.world.run(60, lambda: pair.dialer.is_direct)


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


def test_wrong_peer_is_refused() -> None:
    pair = Pair(HOME, HOME, peer_fingerprint="00" * 32).start()
    assert pair.world.run(10, lambda: bool(pair.received["alice"].of(Closed)))
    assert not pair.received["alice"].of(Connected)
    assert "certificate" in pair.received["alice"].of(Closed)[0].reason


def test_wrong_relay_is_refused() -> None:
    pair = Pair(HOME, HOME, relay_trust=RelayTrust("00" * 32)).start()
    assert pair.world.run(5, lambda: bool(pair.received["alice"].of(RelayRefused)))
    assert not pair.received["alice"].of(RelayRegistered)


def test_relay_restart_is_survived() -> None:
    """A new relay process knows nobody: the peers notice, come back and register again."""
    pair = Pair(HOME, HOME, direct=False).connect()
    pair.relay = type(pair.relay)(
        certificate=CERTIFICATE,
        private_key=PRIVATE_KEY,
        random=pair.random.randbytes,
        own_addresses=(RELAY,),
    )
    pair.world.add(Site("relay", pair.relay, RELAY))
    assert pair.world.run(120, lambda: bool(pair.received["alice"].of(RelayLost)))
    assert pair.world.run(
        120, lambda: all(len(one.of(RelayRegistered)) > 1 for one in pair.received.values())
    )


def test_close_reaches_the_peer() -> None:
    pair = Pair(HOME, HOME).connect()
    pair.dialer.close()
    pair.world.pump("alice")
    assert pair.world.run(5, lambda: bool(pair.received["bob"].of(Closed)))
    assert pair.received["bob"].of(Closed)[0].error_code == 0


def test_short_exchanges_need_not_look_for_a_direct_path() -> None:
    pair = Pair(HOME, HOME, direct_after_bytes=100_000).connect()
    pair.world.run(5)
    assert not pair.received["alice"].of(PunchStarted)
    assert pair.echoed(b"z" * 100_000)
    assert pair.run_until_direct()


def test_other_alpn_leaves_every_stream_to_the_application() -> None:
    pair = Pair(HOME, HOME, alpn="EXAMPLE")
    pair.accepter.config.alpn = "EXAMPLE"
    pair.connect()
    pair.world.run(5)
    assert not pair.received["alice"].of(PunchStarted)
    assert pair.dialer.open_stream() == 0
    assert pair.echoed(b"plain QUIC")


def test_path_events_pair_up() -> None:
    pair = Pair(HOME, HOME).connect()
    assert pair.run_until_direct()
    for heard in pair.received.values():
        (change,) = heard.of(PathChanged)
        assert change.direct
        assert change.rtt_s is not None
        assert change.rtt_s > 0.1  # the relayed path's


def test_accepter_takes_one_initial_and_only_an_initial() -> None:
    pair = Pair(HOME, HOME)
    for wrong in (b"", b"\x40" * 1200, b"\xc0\x00\x00\x00\x02" + bytes(1200), b"\xe0" * 1200):
        with pytest.raises(RemoteProtocolError):
            pair.accepter.accept(wrong, pair.world.now)
    pair.connect()
    with pytest.raises(LocalProtocolError):
        pair.accepter.accept(pair.received["alice"].of(InitialReady)[0].packet, pair.world.now)


def test_nobody_can_send_before_there_is_a_peer() -> None:
    pair = Pair(HOME, HOME)
    with pytest.raises(LocalProtocolError):
        pair.accepter.send_stream_data(0, b"too early")
