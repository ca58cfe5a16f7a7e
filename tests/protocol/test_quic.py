"""Every private name of aioquic that protocol/quic.py uses, each shown to do what is needed."""

import random
from typing import Any

import pytest
from aioquic.quic.events import ConnectionTerminated, HandshakeCompleted, StreamDataReceived

from quicpipe_lab.errors import LocalProtocolError
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.protocol.quic import Connection, RetryTokens
from quicpipe_lab.protocol.quic_configuration import (
    MAX_DATAGRAM_BYTES,
    WINDOW_BYTES,
    standard_configuration,
)
from quicpipe_lab.protocol.wire import check_initial
from tests.protocol.pair import FINGERPRINT
from tests.protocol.quic_wire import (
    CLIENT,
    ONE_WAY_S,
    OTHER,
    SERVER,
    Wire,
    begun,
    ids,
    server_for,
    wire,
)

__all__ = ["wire"]  # a fixture


def test_ids_come_from_the_generator_on_both_sides(wire: Wire) -> None:
    for connection, seed in ((wire.client, 1), (wire.server, 2)):
        expected = ids(seed)
        assert connection.current_ids == [expected.next() for _ in range(8)]
        assert connection.issued_ids == 8


def test_the_oldest_id_is_the_first_that_is_not_retired(wire: Wire) -> None:
    assert wire.client.oldest_id == wire.server.oldest_id == 1
    assert wire.client.probe(OTHER)
    wire.settle_all()
    for connection in (wire.client, wire.server):
        assert connection.oldest_id == 2
        assert connection.current_ids[0] == connection._ids.at(2)


def test_no_id_is_minted_beyond_what_is_allowed(wire: Wire) -> None:
    wire.server.mint_upto(10)
    for address in (OTHER, SERVER, OTHER):
        assert wire.client.probe(address)
        wire.settle_all()
    assert wire.server.issued_ids == 10
    assert len(wire.server.current_ids) == 7
    wire.server.mint_upto(12)
    wire.settle_all()
    assert wire.server.issued_ids == 11
    assert wire.client._peer_cid_available[-1].cid == wire.server._ids.at(11)


@pytest.mark.parametrize("short", ["client", "server"])
def test_neither_side_leaves_without_an_id_for_the_way_back(wire: Wire, short: str) -> None:
    getattr(wire, short).mint_upto(8)
    moves = 0
    for address in (OTHER, SERVER) * 8:
        if not wire.client.probe(address):
            break
        wire.settle_all()
        moves += 1
    assert moves == 6
    assert wire.client.return_to(SERVER if wire.client.address == OTHER else OTHER, wire.now)


def test_an_id_kept_for_a_path_that_came_to_nothing_is_retired(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or it would be in use for ever, with all that came after it."""
    assert wire.client.probe(OTHER)
    for data, address in wire.client.datagrams_to_send(wire.now):
        assert address == tuple(OTHER)
        wire.server.receive_datagram(data, Wire.seen_from(OTHER), wire.now)
    wire.server.datagrams_to_send(wire.now)  # its answer is lost
    wire.client.abandon_probe(OTHER)
    elsewhere = TransportAddress("198.51.100.9", 5002)  # the client's NAT has forgotten it
    monkeypatch.setattr(wire, "seen_from", lambda at: CLIENT if at == SERVER else elsewhere)
    assert wire.client.probe(OTHER)
    wire.settle_all()
    assert wire.server.address == elsewhere
    assert wire.client.oldest_id == 3  # the one of the path in use


def test_exported_initial_is_one_datagram_with_our_id() -> None:
    client = Connection(standard_configuration(is_client=True, alpn=["x"]), ids(3))
    client.connect(SERVER, 0.0)
    ((data, address),) = client.datagrams_to_send(0.0)
    assert address == SERVER
    assert len(data) == MAX_DATAGRAM_BYTES
    assert check_initial(data).source == ids(3).next()


def test_fingerprint_of_the_peer(wire: Wire) -> None:
    assert wire.client.peer_fingerprint == FINGERPRINT
    assert wire.server.peer_fingerprint is None
    assert (
        Connection(standard_configuration(is_client=True, alpn=["x"]), ids(4)).peer_fingerprint
        is None
    )


def test_refusing_a_certificate_closes_with_a_tls_alert(wire: Wire) -> None:
    wire.client.refuse_certificate("somebody else")
    wire.settle()
    (ended,) = [e for e in wire.events if isinstance(e, ConnectionTerminated)][:1]
    assert ended.error_code == 0x100 + 42
    assert ended.reason_phrase == "somebody else"


def test_trusted_address_lifts_the_amplification_limit() -> None:
    _, initial = begun(5)
    server = server_for(initial, 6)
    server.receive_datagram(initial, CLIENT, 0.0)
    assert not server.address_is_validated
    server.trust_address()
    assert server.address_is_validated
    sent, now = 0, 0.0
    for _ in range(6):  # the client is silent: every retransmission goes out all the same
        sent += sum(len(data) for data, _ in server.datagrams_to_send(now))
        timer = server.get_timer()
        assert timer is not None
        now = timer + 1e-6
        server.handle_timer(now)
    assert sent > 3 * len(initial)


def test_probe_validates_and_moves(wire: Wire) -> None:
    wire.sent_to.clear()
    assert wire.client.probe(OTHER)
    wire.settle()
    assert wire.client.address == OTHER
    assert wire.client.address_is_validated
    wire.send(b"here")
    wire.settle()
    assert wire.got() == b"here"
    assert wire.sent_to[-1] == OTHER
    assert wire.server.address == Wire.seen_from(OTHER)  # the server followed by itself


def test_probe_uses_an_id_of_its_own(wire: Wire) -> None:
    """RFC 9000, 9.5: never one connection ID towards two addresses."""
    used: dict[bytes, set[TransportAddress]] = {}
    assert wire.client.probe(OTHER)
    for _ in range(5):
        wire.client.send_ping(1)
        for data, address in wire.client.datagrams_to_send(wire.now):
            used.setdefault(data[1:13], set()).add(TransportAddress(*address))
            wire.server.receive_datagram(data, Wire.seen_from(TransportAddress(*address)), wire.now)
        wire.step()
    assert len(used) >= 2
    assert all(len(addresses) == 1 for addresses in used.values())


def test_probe_datagram_is_padded(wire: Wire) -> None:
    """RFC 9000, 8.2.1: the path must carry 1200 bytes."""
    assert wire.client.probe(OTHER)
    sizes = [len(d) for d, a in wire.client.datagrams_to_send(wire.now) if a == tuple(OTHER)]
    assert sizes == [MAX_DATAGRAM_BYTES]


def test_probe_again_repeats_the_challenge_with_the_same_id(wire: Wire) -> None:
    wire.dead.add(OTHER)
    assert wire.client.probe(OTHER)
    first = [d for d, a in wire.client.datagrams_to_send(wire.now) if a == tuple(OTHER)]
    assert wire.client.probe(OTHER)
    second = [d for d, a in wire.client.datagrams_to_send(wire.now) if a == tuple(OTHER)]
    assert len(first) == len(second) == 1
    assert first[0][1:13] == second[0][1:13]


def test_abandoned_probe_moves_nowhere_and_returns_its_id(wire: Wire) -> None:
    wire.dead.add(OTHER)
    for _ in range(20):  # more often than there are spare IDs
        assert wire.client.probe(OTHER)
        wire.client.datagrams_to_send(wire.now)
        wire.client.abandon_probe(OTHER)
        wire.settle()
    assert wire.client.address == SERVER
    wire.send(b"still")
    wire.settle()
    assert wire.got() == b"still"


def test_probe_of_the_address_in_use_is_a_mistake(wire: Wire) -> None:
    with pytest.raises(LocalProtocolError):
        wire.client.probe(SERVER)


def test_probe_waits_for_the_confirmed_handshake() -> None:
    client = Connection(standard_configuration(is_client=True, alpn=["x"]), ids(7))
    client.connect(SERVER, 0.0)
    assert not client.probe(OTHER)


def test_probe_leaves_the_last_spare_id_for_the_way_back(wire: Wire) -> None:
    wire.dead.add(OTHER)
    addresses = [TransportAddress("203.0.113.30", 7000 + i) for i in range(20)]
    granted = [wire.client.probe(one) for one in addresses]
    assert granted.count(True) == 6  # of seven spare IDs
    assert wire.client.return_to(SERVER, wire.now) or wire.client.address == SERVER


def test_return_moves_at_once_and_the_server_follows(wire: Wire) -> None:
    assert wire.client.probe(OTHER)
    wire.settle()
    wire.dead.add(OTHER)
    wire.send(b"lost on the dead path" * 100)
    wire.step()
    assert wire.client.return_to(SERVER, wire.now)
    assert wire.client.address == SERVER
    wire.step()
    assert wire.server.address == CLIENT
    wire.settle()
    assert wire.got() == b"lost on the dead path" * 100


def test_return_to_a_stranger_is_a_mistake(wire: Wire) -> None:
    with pytest.raises(LocalProtocolError):
        wire.client.return_to(OTHER, wire.now)


def test_new_path_starts_with_a_fresh_window_and_no_rtt(wire: Wire) -> None:
    """RFC 9000, 9.4."""
    for _ in range(4):
        wire.send(bytes(200_000))
        wire.settle()
    grown = wire.client._loss.congestion_window
    assert grown > 10 * MAX_DATAGRAM_BYTES
    assert wire.client.rtt_s is not None
    assert wire.client.probe(OTHER)
    while wire.client.address != OTHER:
        wire.step()
    assert wire.client._loss.congestion_window == 10 * MAX_DATAGRAM_BYTES
    assert wire.client._loss.bytes_in_flight == 0


def test_old_path_gives_the_new_one_no_rtt_sample(wire: Wire) -> None:
    """A packet of the old path that is acknowledged late, on the new one, is no sample of it."""
    wire.send(b"sent on the old path")
    late = wire.client.datagrams_to_send(wire.now)
    assert wire.client.probe(OTHER)
    for data, address in wire.client.datagrams_to_send(wire.now):
        wire.server.receive_datagram(data, Wire.seen_from(TransportAddress(*address)), wire.now)
    for data, source in wire.server.datagrams_to_send(wire.now):
        address = SERVER if source == tuple(CLIENT) else OTHER
        wire.client.receive_datagram(data, address, wire.now + ONE_WAY_S)
    assert wire.client.address == OTHER
    assert wire.client.rtt_s is None
    wire.now += 5.0
    for data, _ in late:
        wire.server.receive_datagram(data, CLIENT, wire.now)
    for _ in range(3):
        wire.now += 0.05
        timer = wire.server.get_timer()
        if timer is not None and timer <= wire.now:
            wire.server.handle_timer(wire.now)
        for data, _ in wire.server.datagrams_to_send(wire.now):
            wire.client.receive_datagram(data, OTHER, wire.now)
    assert wire.client.rtt_s is None or wire.client.rtt_s < 1.0


def test_flight_and_acknowledgement_are_seen(wire: Wire) -> None:
    assert not wire.client.has_bytes_in_flight
    before = wire.client.largest_acknowledged
    wire.send(b"four")
    assert wire.client.unacknowledged_bytes(0) == 4
    wire.client.datagrams_to_send(wire.now)
    assert wire.client.has_bytes_in_flight
    wire.client.send_ping(1)
    wire.settle()
    assert wire.client.largest_acknowledged > before


def test_acknowledged_bytes_are_forgotten(wire: Wire) -> None:
    wire.send(b"x" * 5000)
    wire.settle()
    assert wire.client.unacknowledged_bytes(0) == 0
    assert wire.client.unacknowledged_bytes(4) == 0
    assert not wire.client.has_bytes_in_flight


def test_handshake_is_reported_once(wire: Wire) -> None:
    assert len([e for e in wire.events if isinstance(e, HandshakeCompleted)]) == 2


def test_every_new_stream_has_an_id_of_its_own(wire: Wire) -> None:
    assert [wire.client.open_stream() for _ in range(3)] == [0, 4, 8]
    assert wire.server.open_stream() == 1


def received(wire: Wire, stream_id: int) -> int:
    data = [e for e in wire.events if isinstance(e, StreamDataReceived)]
    return sum(len(e.data) for e in data if e.stream_id == stream_id)


def test_a_stream_that_is_taken_flows_for_ever(wire: Wire) -> None:
    wire.send(bytes(12 * WINDOW_BYTES))
    wire.settle_all()
    assert received(wire, 0) == 12 * WINDOW_BYTES


def test_a_paused_stream_gets_a_window_and_no_more(wire: Wire) -> None:
    wire.send(bytes(WINDOW_BYTES))
    wire.settle_all()
    wire.server.pause(0)
    before = received(wire, 0)
    wire.send(bytes(20 * WINDOW_BYTES))
    wire.settle_all()
    assert received(wire, 0) - before <= WINDOW_BYTES
    wire.server.resume(0)
    wire.settle_all()
    assert received(wire, 0) == 21 * WINDOW_BYTES


def test_a_paused_stream_holds_up_no_other(wire: Wire) -> None:
    wire.send(b"x")
    wire.settle_all()
    wire.server.pause(0)
    wire.send(bytes(5 * WINDOW_BYTES))
    wire.settle_all()
    wire.client.send_stream_data(4, bytes(10 * WINDOW_BYTES))
    wire.settle_all()
    assert received(wire, 0) <= 1 + WINDOW_BYTES
    assert received(wire, 4) == 10 * WINDOW_BYTES


def test_the_end_of_a_stream_is_acknowledged_too(wire: Wire) -> None:
    wire.client.send_stream_data(0, b"last", end_stream=True)
    assert wire.client.unacknowledged_bytes(0) == 5
    wire.settle()
    assert wire.client.unacknowledged_bytes(0) == 0


def test_the_peers_close_is_told_at_once_and_once(wire: Wire) -> None:
    wire.client.close(error_code=5)
    wire.step()
    assert wire.server.is_over
    ends = [event for event in wire.events if isinstance(event, ConnectionTerminated)]
    assert [event.error_code for event in ends] == [5]
    draining_ends_at = wire.server.get_timer()
    assert draining_ends_at is not None
    wire.server.handle_timer(draining_ends_at)
    assert wire.server.next_event() is None


def test_nobody_waits_for_what_was_given_up(wire: Wire) -> None:
    wire.send(bytes(100_000))
    wire.client.reset_stream(0, 7)
    assert wire.client.unacknowledged_bytes(0) == 0


def test_a_damaged_packet_is_not_received() -> None:
    _, good = begun(8)
    for data, expected in ((good[:99] + bytes([good[99] ^ 1]) + good[100:], False), (good, True)):
        server = server_for(good, 9)
        assert not server.has_received
        server.receive_datagram(data, CLIENT, 0.0)
        assert server.has_received is expected


def test_the_old_paths_packets_weigh_on_no_window_of_the_new(wire: Wire) -> None:
    """RFC 9000, 9.4: neither those that are acknowledged late nor those that are declared lost."""
    for _ in range(3):
        wire.send(bytes(100_000))
        wire.settle_all()
    assert wire.client.probe(OTHER)
    wire.step()
    wire.send(bytes(60_000))
    wire.client.datagrams_to_send(wire.now)  # lost, all of them
    while wire.client.address != OTHER:
        wire.step()
    assert wire.client._loss.bytes_in_flight <= 10 * MAX_DATAGRAM_BYTES  # a fresh window's
    window = wire.client._loss.congestion_window
    wire.send(bytes(1000))
    wire.settle_all()
    assert wire.client._loss.bytes_in_flight == 0
    assert wire.client._loss.congestion_window >= window
    assert len(wire.got()) == 361_000


def test_the_way_back_is_not_slowed_by_the_dead_paths_timeouts(wire: Wire) -> None:
    assert wire.client.probe(OTHER)
    wire.settle()
    wire.dead.add(OTHER)
    wire.send(b"lost")
    wire.client.datagrams_to_send(wire.now)
    for _ in range(6):  # each timeout doubles the next (RFC 9002, 6.2.1)
        timer = wire.client.get_timer()
        assert timer is not None
        wire.now = timer + 1e-6
        wire.client.handle_timer(wire.now)
        wire.client.datagrams_to_send(wire.now)
    assert wire.client.return_to(SERVER, wire.now)
    sent = wire.client.datagrams_to_send(wire.now)
    assert sent
    assert {address for _, address in sent} == {tuple(SERVER)}
    timer = wire.client.get_timer()
    assert timer is not None
    assert timer - wire.now < 1.0


def test_what_was_under_way_goes_back_at_once(wire: Wire) -> None:
    assert wire.client.probe(OTHER)
    wire.settle()
    wire.send(bytes(800))
    wire.client.datagrams_to_send(wire.now)
    assert wire.client.return_to(SERVER, wire.now)
    assert sum(len(data) for data, _ in wire.client.datagrams_to_send(wire.now)) > 800


def test_an_unconfirmed_handshake_changes_no_path(wire: Wire) -> None:
    wire.client._handshake_confirmed = False
    assert not wire.client.probe(OTHER)


def test_many_paused_streams_share_one_bound(wire: Wire) -> None:
    streams = [4 * number for number in range(8)]
    for stream_id in streams:
        wire.client.send_stream_data(stream_id, b"x")
    wire.settle_all()
    for stream_id in streams:
        wire.server.pause(stream_id)
        wire.client.send_stream_data(stream_id, bytes(WINDOW_BYTES // 2))
    wire.settle_all()
    total = sum(received(wire, stream_id) for stream_id in streams)
    assert total <= 2 * WINDOW_BYTES
    for stream_id in streams:
        wire.server.resume(stream_id)
    wire.settle_all()
    total = sum(received(wire, stream_id) for stream_id in streams)
    assert total == len(streams) * (1 + WINDOW_BYTES // 2)


def test_retry_tokens_are_under_the_key_that_we_drew() -> None:
    one, same, other = (RetryTokens(random.Random(seed).randbytes) for seed in (1, 1, 2))
    token = one.create_token(
        address=("192.0.2.1", 1),
        original_destination_connection_id=b"original",
        retry_source_connection_id=b"retried",
        now=5.0,
    )
    shown: dict[str, Any] = {
        "address": ("192.0.2.1", 1),
        "destination_cid": b"retried",
        "token": token,
        "now": 6.0,
    }
    assert same.validate_token(**shown) == b"original"
    with pytest.raises(ValueError, match="invalid"):
        other.validate_token(**shown)
