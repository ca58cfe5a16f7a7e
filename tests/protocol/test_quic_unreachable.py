"""The private names of aioquic that serve a connection whose other side is out of reach."""

import pytest
from aioquic.quic.events import ConnectionTerminated

from tests.protocol.quic_wire import CLIENT, OTHER, Wire, begun, server_for, wire

__all__ = ["wire"]


def test_what_waits_for_a_backed_off_timer_is_sent_again_at_once(wire: Wire) -> None:
    wire.send(b"lost")
    wire.client.datagrams_to_send(wire.now)
    for _ in range(6):
        timer = wire.client.get_timer()
        assert timer is not None
        wire.now = timer + 1e-6
        wire.client.handle_timer(wire.now)
        wire.client.datagrams_to_send(wire.now)
    assert not wire.client.datagrams_to_send(wire.now)
    wire.client.send_again(wire.now)
    wire.settle()
    assert wire.got() == b"lost"


def test_what_nobody_passed_on_from_another_network_is_no_congestion(wire: Wire) -> None:
    """RFC 9000, 9.4: it is another path, and its window is a fresh one."""
    wire.send(bytes(60_000))
    assert wire.client.datagrams_to_send(wire.now)  # lost, all of them
    wire.client.send_again(wire.now, elsewhere=True)
    assert wire.client._loss.bytes_in_flight == 0
    wire.settle_all()
    assert len(wire.got()) == 60_000


def test_which_addresses_are_validated(wire: Wire) -> None:
    elsewhere = Wire.seen_from(OTHER)
    assert wire.server.has_validated(CLIENT)
    assert not wire.server.has_validated(elsewhere)
    assert wire.client.probe(OTHER)
    wire.settle()
    assert wire.server.has_validated(elsewhere)
    assert wire.server.has_validated(CLIENT)


def test_the_end_is_seen(wire: Wire) -> None:
    assert not wire.client.is_over
    wire.client.close()
    wire.step()
    assert wire.client.is_over
    assert wire.server.is_over


def test_last_words_count_towards_the_amplification_limit() -> None:
    """aioquic sends them whatever its limit says (RFC 9000, 8.1)."""
    _, initial = begun(5)
    server = server_for(initial, 6)
    server.receive_datagram(initial, CLIENT, 0.0)
    sent, now = 0, 0.0
    while sent < 3 * len(initial) - 100:
        sent += sum(len(data) for data, _ in server.datagrams_to_send(now))
        timer = server.get_timer()
        assert timer is not None
        now = timer + 1e-6
        server.handle_timer(now)
    assert sent <= 3 * len(initial)
    server.close()
    assert not server.datagrams_to_send(now)
    assert not server.farewell


def test_last_words_are_not_repeated_to_whoever_has_not_answered() -> None:
    _, initial = begun(5)
    server = server_for(initial, 6)
    server.receive_datagram(initial, CLIENT, 0.0)
    server.close()
    assert server.datagrams_to_send(0.0)
    assert not server.farewell


@pytest.mark.parametrize("reason", ["r" * 5000, "\N{SNOWMAN}" * 700, "\ud800"])
def test_last_words_fit_into_a_packet(wire: Wire, reason: str) -> None:
    wire.client.close(error_code=1, reason_phrase=reason)
    wire.settle()
    ends = [one for one in wire.events if isinstance(one, ConnectionTerminated)]
    assert [one.error_code for one in ends] == [1, 1]
    assert all(0 < len(one.reason_phrase.encode()) <= 256 for one in ends)


def test_last_words_fit_while_the_handshake_is_under_way() -> None:
    _, initial = begun(5)
    server = server_for(initial, 6)
    server.receive_datagram(initial, CLIENT, 0.0)
    server.close(error_code=1, frame_type=0, reason_phrase="r" * 500)
    (datagram,) = server.datagrams_to_send(0.0)
    assert len(datagram[0]) <= 1200
