"""Dialer and accepter through a real relay machine, in virtual time."""

import json
from collections.abc import Callable

import pytest

from quicpipe_lab.errors import LocalProtocolError, RemoteProtocolError
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.model.nat_presets import PRESETS
from quicpipe_lab.protocol.connection_id import is_relay_connection_id
from quicpipe_lab.protocol.events import (
    CandidatesExchanged,
    Closed,
    Connected,
    InitialReady,
    MailboxAnswered,
    PunchStarted,
    RelayLost,
    RelayRefused,
    RelayRegistered,
    StreamBroken,
    StreamRefused,
)
from quicpipe_lab.protocol.quic import Connection
from quicpipe_lab.protocol.quic_configuration import standard_configuration
from quicpipe_lab.protocol.relay_leg import (
    KEEPALIVE_S,
    RelayTrust,
    Request,
    Response,
    standard_request,
)
from quicpipe_lab.protocol.wire import PUNCH_LENGTH, Registration, parse_invariants
from tests.protocol.pair import CERTIFICATE, PRIVATE_KEY, RELAY, Pair

HOME = PRESETS["home"]


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


def test_wrong_peer_is_refused() -> None:
    pair = Pair(HOME, HOME, peer_fingerprint="00" * 32).start()
    assert pair.world.run(10, lambda: bool(pair.received["alice"].of(Closed)))
    assert not pair.received["alice"].of(Connected)
    assert "certificate" in pair.received["alice"].of(Closed)[0].reason


def test_nothing_is_taken_from_a_wrong_peer() -> None:
    """A server may send at once (RFC 9001, 5.7); all of it comes before the dialer sends again."""
    pair = Pair(HOME, HOME, peer_fingerprint="00" * 32, oob_delay_s=3600.0).start()
    assert pair.world.run(10, lambda: pair.both(RelayRegistered))
    (ready,) = pair.received["alice"].of(InitialReady)
    now = pair.world.now
    pair.accepter.accept(ready.packet, now)
    pair.accepter.send_stream_data(1, b"trust me")
    for data, to in pair.accepter.datagrams_to_send(now):
        assert to == RELAY
        pair.dialer.receive_datagram(data, RELAY, now)
    events = list(iter(pair.dialer.next_event, None))
    assert [type(one) for one in events] == [Closed]


def test_wrong_relay_is_refused() -> None:
    pair = Pair(HOME, HOME, relay_trust=RelayTrust("00" * 32)).start()
    assert pair.world.run(5, lambda: bool(pair.received["alice"].of(RelayRefused)))
    assert not pair.received["alice"].of(RelayRegistered)


def test_relay_restart_is_survived() -> None:
    """A new relay process knows nobody: the peers notice, come back and register again."""
    pair = Pair(HOME, HOME, direct=False).connect()
    pair.replace_relay()
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


def test_a_lost_goodbye_is_said_again() -> None:
    pair = Pair(HOME, HOME, direct=False).connect()
    pair.world.drop = lambda one, *_: one == "alice"
    pair.dialer.close(reason="done")
    pair.world.pump("alice")
    pair.world.drop = lambda *_: False
    pair.world.run(5.0)
    assert not pair.received["bob"].of(Closed)
    pair.dialer.repeat_close()
    pair.world.pump("alice")
    assert pair.world.run(5.0, lambda: bool(pair.received["bob"].of(Closed)))
    assert pair.received["bob"].of(Closed)[0].reason == "done"


def test_other_alpn_leaves_every_stream_to_the_application() -> None:
    pair = Pair(HOME, HOME, alpn="EXAMPLE")
    pair.accepter.config.alpn = "EXAMPLE"
    pair.connect()
    pair.world.run(5)
    assert not pair.received["alice"].of(PunchStarted)
    assert pair.dialer.open_stream() == 0
    assert pair.echoed(b"plain QUIC")


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


def test_a_damaged_initial_is_refused_and_a_good_one_taken_after_it() -> None:
    pair = Pair(HOME, HOME, oob_delay_s=3600).start()
    assert pair.world.run(5, lambda: pair.both(RelayRegistered))
    good = pair.received["alice"].of(InitialReady)[0].packet
    with pytest.raises(RemoteProtocolError, match="damaged"):
        pair.accepter.accept(good[:99] + bytes([good[99] ^ 1]) + good[100:], pair.world.now)
    pair.accepter.accept(good, pair.world.now)
    pair.world.pump("bob")
    assert pair.world.run(5, lambda: pair.both(Connected))


def test_an_initial_may_come_long_before_the_relay() -> None:
    pair = Pair(HOME, HOME, oob_delay_s=3600, direct=False)
    pair.dialer.start(pair.world.now)
    pair.world.pump("alice")
    assert pair.world.run(5, lambda: bool(pair.received["alice"].of(InitialReady)))
    pair.accepter.accept(pair.received["alice"].of(InitialReady)[0].packet, pair.world.now)
    pair.world.run(200)  # longer than the idle timeout
    pair.accepter.start(pair.world.now)
    pair.world.pump("bob")
    assert pair.world.run(5, lambda: pair.both(Connected))
    assert pair.echoed(b"hello")


@pytest.mark.parametrize("source", [RELAY, TransportAddress("203.0.113.66", 666)])
def test_a_strangers_datagram_does_not_start_the_dialers_clock(source: TransportAddress) -> None:
    pair = Pair(HOME, HOME, oob_delay_s=600.0, direct=False).start()
    pair.world.run(60)
    right_id = pair.dialer._ids.at(1)
    destination = bytes(12) if source == RELAY else right_id
    pair.dialer.receive_datagram(b"\x40" + destination + bytes(50), source, pair.world.now)
    pair.world.pump("alice")
    assert pair.world.run(600, lambda: pair.both(Connected))
    rtt_s = pair.dialer.peer_rtt_s
    assert rtt_s is not None
    assert rtt_s < 0.3


def test_who_stays_on_the_relay_keeps_the_control_stream_from_the_application() -> None:
    pair = Pair(HOME, HOME)
    pair.accepter.config.direct = False
    pair.connect()
    assert pair.echoed(b"hello")
    assert set(pair.received["bob"].data) == {0}
    assert not pair.received["alice"].of(CandidatesExchanged)


def test_a_stream_given_up_is_not_an_end() -> None:
    pair = Pair(HOME, HOME, direct=False).connect()
    pair.send(b"the beginning")
    assert pair.dialer._peer is not None
    pair.dialer._peer.reset_stream(0, 77)
    pair.world.pump("alice")
    assert pair.world.run(1, lambda: bool(pair.received["bob"].of(StreamBroken)))
    assert pair.received["bob"].of(StreamBroken) == [StreamBroken(0, 77)]


def test_a_refused_stream_cannot_be_written_to() -> None:
    pair = Pair(HOME, HOME, direct=False).connect()
    pair.send(b"you will not like this")
    pair.world.run(1)
    assert pair.accepter._peer is not None
    pair.accepter._peer.stop_stream(0, 78)
    pair.world.pump("bob")
    assert pair.world.run(1, lambda: bool(pair.received["alice"].of(StreamRefused)))
    assert pair.received["alice"].of(StreamRefused) == [StreamRefused(0, 78)]
    with pytest.raises(LocalProtocolError):
        pair.dialer.send_stream_data(0, b"more")


def test_nobody_writes_to_a_stream_of_the_peers_alone() -> None:
    pair = Pair(HOME, HOME, alpn="x")
    pair.accepter.config.alpn = "x"
    pair.connect()
    with pytest.raises(LocalProtocolError):
        pair.accepter.send_stream_data(2, b"against the current")


def test_a_broken_control_stream_ends_the_connection_and_all_punching() -> None:
    pair = Pair(HOME, HOME).connect()
    assert pair.run_until_direct()
    assert pair.dialer._peer is not None
    assert pair.dialer._control_stream is not None
    pair.dialer._peer.send_stream_data(pair.dialer._control_stream, b"garbage\n")
    pair.world.pump("alice")
    assert pair.world.run(20, lambda: pair.both(Closed))
    before = len(pair.world.log)
    pair.world.run(60)
    assert not [one for one in pair.world.log[before:] if len(one[3]) == PUNCH_LENGTH]


def test_a_long_wrong_control_message_ends_the_connection_and_not_the_program() -> None:
    pair = Pair(HOME, HOME).connect()
    pair.world.run(1)
    assert pair.dialer._peer is not None
    assert pair.dialer._control_stream is not None
    line = json.dumps({"moved": ["h" * 3000]}).encode() + b"\n"
    pair.dialer._peer.send_stream_data(pair.dialer._control_stream, line)
    pair.world.pump("alice")
    assert pair.world.run(20, lambda: pair.both(Closed))
    assert "not an address" in pair.received["alice"].of(Closed)[0].reason


@pytest.mark.parametrize("ends_it", [Connection.stop_stream, Connection.reset_stream])
@pytest.mark.parametrize("rude", ["alice", "bob"])
def test_a_control_stream_given_up_ends_the_connection_and_not_the_program(
    rude: str, ends_it: Callable[[Connection, int, int], None]
) -> None:
    pair = Pair(HOME, HOME).connect()
    assert pair.run_until_direct()
    machine = pair.dialer if rude == "alice" else pair.accepter
    theirs, ours = machine._signalling.their_stream, machine._control_stream
    assert machine._peer is not None
    assert ours is not None
    ends_it(machine._peer, ours if ends_it is Connection.reset_stream else theirs, 5)
    pair.world.pump(rude)
    polite = pair.received["bob" if rude == "alice" else "alice"]
    pair.world.drop = lambda *ends: "relay" not in ends[:2]  # another round would begin
    assert pair.world.run(100, lambda: pair.both(Closed))
    assert "control stream" in polite.of(Closed)[0].reason
    assert not polite.of(StreamRefused)
    assert not polite.of(StreamBroken)


def test_a_round_that_comes_with_the_end_of_our_control_stream_is_not_answered() -> None:
    """Both in one datagram: aioquic has reset the stream before we hear of the round."""
    pair = Pair(HOME, HOME).connect()
    assert pair.run_until_direct()
    dialer = pair.dialer
    assert dialer._peer is not None
    dialer._begin_round(7)
    dialer._peer.stop_stream(dialer._signalling.their_stream, 5)
    pair.world.pump("alice")
    assert pair.world.run(20, lambda: pair.both(Closed))


def test_a_request_hook_speaks_another_relays_dialect() -> None:
    asked: list[Registration] = []

    def hook(registration: Registration) -> Request:
        asked.append(registration)
        standard = standard_request(registration)
        return Request("POST", standard.path, (*standard.headers, ("x-mine", "1")), standard.body)

    answers: list[Response] = []
    pair = Pair(HOME, HOME, request_hook=hook, response_hook=answers.append).connect()
    assert asked[0] == Registration(pair.dialer.key, 64)
    assert answers[0].status == 200
    assert pair.echoed(b"hooked")


def test_a_request_hooks_path_reaches_the_relay() -> None:
    def hook(registration: Registration) -> Request:
        return Request("PUT", "/elsewhere", (), standard_request(registration).body)

    pair = Pair(HOME, HOME, request_hook=hook).start()
    assert pair.world.run(5, lambda: bool(pair.received["alice"].of(RelayRefused)))
    assert pair.received["alice"].of(RelayRefused)[0].status in (404, 405)


def test_a_response_hook_may_refuse() -> None:
    def hook(response: Response) -> None:
        raise RemoteProtocolError(f"{response.status} is not what I wanted")

    pair = Pair(HOME, HOME, response_hook=hook).start()
    assert pair.world.run(5, lambda: bool(pair.received["alice"].of(RelayRefused)))
    assert pair.received["alice"].of(RelayRefused)[0].problem == "200 is not what I wanted"
    assert not pair.received["alice"].of(InitialReady)


def test_settings_of_either_leg_are_the_users() -> None:
    mine = standard_configuration(is_client=True, alpn=["mine"])
    mine.server_name = "peer.example"
    relay_quic = standard_configuration(is_client=True, alpn=[], idle_timeout_s=7.0)
    pair = Pair(HOME, HOME, peer_quic=mine, relay_quic=relay_quic)
    theirs = standard_configuration(is_client=False, alpn=["mine"])
    theirs.certificate, theirs.private_key = CERTIFICATE, PRIVATE_KEY
    pair.accepter.config.peer_quic = theirs
    pair.accepter._certificate = pair.accepter._private_key = None
    pair.connect()
    assert pair.received["bob"].of(Connected)[0].alpn == "mine"
    assert mine.server_name == "peer.example"
    assert pair.dialer.relay._quic is not None
    assert pair.dialer.relay._quic.configuration.idle_timeout == 7.0


def test_a_relay_that_refuses_a_critical_stream_is_left_and_found_again() -> None:
    """The one for headers, to which HTTP/3 would write with the next request."""
    pair = Pair(HOME, HOME, direct=False).connect()
    for client in pair.relay._clients:
        client.quic.stop_stream(6, 0x10C)
        pair.relay._send_soon(client)
    pair.world.pump("relay")
    pair.world.run(0.1)
    pair.dialer.relay.refresh(pair.world.now)
    pair.world.pump("alice")
    heard = pair.received["alice"]
    assert pair.world.run(20, lambda: len(heard.of(RelayRegistered)) > 1)
    other = pair.received["bob"]  # whose leg asks for nothing until it is connected anew
    assert pair.world.run(20, lambda: len(other.of(RelayRegistered)) > 1)
    assert "critical" in other.of(RelayLost)[0].problem


def test_who_has_left_does_not_look_for_its_relay_any_more() -> None:
    pair = Pair(HOME, HOME, direct=False).connect()
    pair.world.drop = lambda *ends: "relay" in ends[:2]
    assert pair.world.run(120, lambda: pair.both(RelayLost))
    pair.dialer.close()
    pair.world.pump("alice")
    assert pair.world.run(120, lambda: pair.dialer.get_timer() is None)
    before = len(pair.received["alice"].of(RelayLost))
    pair.world.run(600)
    assert len(pair.received["alice"].of(RelayLost)) == before
    assert pair.dialer.get_timer() is None


def test_a_mailbox_request_survives_the_relay() -> None:
    """Who waits at the mailbox when the relay goes away still waits when it is back."""
    pair = Pair(HOME, HOME).start()
    assert pair.world.run(5, lambda: pair.both(RelayRegistered))
    pair.world.drop = lambda *_: True
    pair.accepter.relay.request(Request("GET", "/v1/mailbox/" + "a" * 32))
    pair.world.pump("bob")
    assert pair.world.run(120, lambda: bool(pair.received["bob"].of(RelayLost)))
    pair.world.run(300)  # several attempts come to nothing
    assert len(pair.accepter.relay._queue) <= 2  # the question, and one registration
    pair.world.drop = lambda *_: False
    assert pair.world.run(120, lambda: bool(pair.received["bob"].of(MailboxAnswered)))
    assert pair.received["bob"].of(MailboxAnswered)[0].status == 404
    assert len(pair.accepter.relay._queue) == 0


def test_the_accepter_repeats_its_answer_as_often_as_it_takes() -> None:
    """The dialer sends nothing before the answer, so a limit of three times what was received
    (RFC 9000, 8.1) would end it for good; the relay has validated the address instead."""
    pair = Pair(HOME, HOME).start()

    def is_answer(one: str, _: str, data: bytes) -> bool:
        header = parse_invariants(data) if one == "bob" and data[0] >= 0x40 else None
        return header is not None and not is_relay_connection_id(header.destination)

    pair.world.drop = is_answer
    pair.world.run(8)
    pair.world.drop = lambda *_: False
    assert pair.world.run(10, lambda: pair.both(Connected))
