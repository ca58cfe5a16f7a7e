"""A client has moved to a path so slow that nothing of it answers within aioquic's own patience."""

from tests.protocol.quic_wire import CLIENT, OTHER, SERVER, Wire, wire

__all__ = ["wire"]

ROUND_TRIP_S = 2.5
"""More than aioquic's 0.6 s, less than three PTO of a new path (RFC 9000, 8.2.4)."""


def moved_and_not_validated(wire: Wire) -> None:
    """The server follows a packet from elsewhere, where its first PATH_CHALLENGE was lost."""
    assert wire.client.probe(OTHER)
    for data, address in wire.client.datagrams_to_send(wire.now):
        wire.server.receive_datagram(data, Wire.seen_from(address), wire.now)
    for data, to in wire.server.datagrams_to_send(wire.now):
        source = SERVER if to == tuple(CLIENT) else OTHER
        wire.client.receive_datagram(data, source, wire.now)
    wire.client.datagrams_to_send(wire.now)  # with the answer to it, lost
    wire.send(b"x")
    for data, address in wire.client.datagrams_to_send(wire.now):
        wire.server.receive_datagram(data, Wire.seen_from(address), wire.now)
    assert wire.server.address == Wire.seen_from(OTHER)
    assert not wire.server.address_is_validated


def let_pass(wire: Wire, seconds: float) -> list[bytes]:
    """What the server sends meanwhile; nothing comes from the client."""
    sent, end_s = [], wire.now + seconds
    while True:
        sent += [data for data, _ in wire.server.datagrams_to_send(wire.now)]
        timer = wire.server.get_timer()
        if timer is None or timer > end_s:
            wire.now = end_s
            return sent
        wire.now = max(wire.now, timer) + 1e-6
        wire.server.handle_timer(wire.now)


def test_a_slow_path_is_given_the_time_that_it_takes(wire: Wire) -> None:
    moved_and_not_validated(wire)
    sent = let_pass(wire, ROUND_TRIP_S)
    assert wire.server.address == Wire.seen_from(OTHER)
    for data in sent:
        wire.client.receive_datagram(data, OTHER, wire.now)
    for data, address in wire.client.datagrams_to_send(wire.now):
        wire.server.receive_datagram(data, Wire.seen_from(address), wire.now)
    assert wire.server.address == Wire.seen_from(OTHER)
    assert wire.server.address_is_validated


def test_a_path_that_never_answers_is_given_up(wire: Wire) -> None:
    moved_and_not_validated(wire)
    let_pass(wire, ROUND_TRIP_S + 1.0)
    assert wire.server.address == CLIENT
