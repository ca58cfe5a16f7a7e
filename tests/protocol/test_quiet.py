"""A connection that says nothing without being asked twice had nothing to say, and is not late."""

from collections.abc import Callable
from pathlib import Path

import pytest
from aioquic.quic.connection import QuicConnection

from quicpipe_lab.backends.sim.simulation import Simulation
from quicpipe_lab.protocol.quic import Connection
from quicpipe_lab.protocol.quic_configuration import WINDOW_BYTES
from quicpipe_lab.protocol.quiet import QuietConnection
from quicpipe_lab.resources import find_scenario
from tests.protocol.quic_wire import OTHER, SERVER, Wire, wire

__all__ = ["wire"]  # a fixture

FOUND = Path(__file__).parent.parent / "backends" / "sim" / "found"
ASKING = {
    "get_next_available_stream_id",
    "get_peer_address",
    "get_timer",
    "has_validated",
    "is_finished",
    "is_refused",
    "next_event",
    "unacknowledged_bytes",
}
"""What changes nothing."""
DRIVING = {"connect", "datagrams_to_send", "handle_timer", "receive_datagram", "stir"}
SILENT = {"pause", "request_key_update", "trust_address"}
"""What changes something, but gives nothing to say at once."""


class Asked:
    """Every connection is asked all the same, and what it answers compared."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.times_quiet = 0
        ours = QuietConnection.datagrams_to_send

        def datagrams_to_send(connection: QuietConnection, now: float) -> list[object]:
            until = connection._quiet_until
            answer: list[object] = [*ours(connection, now)]
            if until is not None and now < until:
                self.times_quiet += 1
                assert answer == []
                assert QuicConnection.datagrams_to_send(connection, now) == []
                assert QuicConnection.get_timer(connection) == until
            return answer

        monkeypatch.setattr(QuietConnection, "datagrams_to_send", datagrams_to_send)


@pytest.mark.parametrize(
    "name",
    [
        "direct-dies",
        "long-way",
        "port-search",
        FOUND / "close-on-a-slow-lossy-path.toml",
        FOUND / "peers-cut-off-in-a-port-search.toml",
        FOUND / "relay-restarts-under-a-relayed-transfer.toml",
    ],
    ids=lambda name: Path(name).stem,
)
def test_whoever_is_quiet_has_nothing_to_say(name: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loss, silence, ends, migrations, restarts: whatever a run does to a connection."""
    asked = Asked(monkeypatch)
    assert Simulation(find_scenario(str(name))).run().ok
    assert asked.times_quiet > 50


def _probe_in_vain(wire: Wire) -> None:
    wire.dead.add(OTHER)
    wire.client.probe(OTHER)


def _hold_back_a_window(wire: Wire) -> None:
    wire.client.pause(0)
    wire.server.send_stream_data(0, bytes(WINDOW_BYTES))


def _spend_an_id(wire: Wire) -> None:
    wire.client.mint_upto(8)
    wire.client.probe(OTHER)


BEFORE: dict[str, Callable[[Wire], object]] = {
    "abandon_probe": _probe_in_vain,
    "mint_upto": _spend_an_id,
    "probe": _probe_in_vain,
    "resume": _hold_back_a_window,
    "return_to": lambda wire: wire.client.probe(OTHER),
}
"""What has to be so before."""
CALLS: dict[str, Callable[[Wire], object]] = {
    "abandon_probe": lambda wire: wire.client.abandon_probe(OTHER),
    "change_connection_id": lambda wire: wire.client.change_connection_id(),
    "close": lambda wire: wire.client.close(),
    "mint_upto": lambda wire: wire.client.mint_upto(100),
    "open_stream": lambda wire: wire.client.send_stream_data(wire.client.open_stream(), b"x"),
    "probe": lambda wire: wire.client.probe(OTHER),
    "refuse_certificate": lambda wire: wire.client.refuse_certificate("no"),
    "reset_stream": lambda wire: wire.client.reset_stream(0, 1),
    "resume": lambda wire: wire.client.resume(0),
    "return_to": lambda wire: wire.client.return_to(SERVER, wire.now),
    "send_again": lambda wire: wire.client.send_again(wire.now),
    "send_datagram_frame": lambda wire: wire.client.send_datagram_frame(b"x"),
    "send_ping": lambda wire: wire.client.send_ping(0),
    "send_stream_data": lambda wire: wire.client.send_stream_data(0, b"x"),
    "stop_stream": lambda wire: wire.client.stop_stream(0, 1),
}
"""What gives a connection something to say."""


@pytest.mark.parametrize("name", CALLS)
def test_what_gives_it_something_to_say_is_said_at_once(wire: Wire, name: str) -> None:
    wire.client.send_stream_data(0, b"x")
    wire.settle()
    if name in BEFORE:
        BEFORE[name](wire)
        wire.settle_all()
    assert wire.client.datagrams_to_send(wire.now) == []
    CALLS[name](wire)
    assert wire.client.datagrams_to_send(wire.now)


def test_no_call_is_forgotten() -> None:
    """A new one of aioquic's has to be in quiet.py where it changes anything."""
    names = {one for one in dir(Connection) if callable(getattr(Connection, one))}
    public = {one for one in names if not one.startswith("_")}
    assert public == CALLS.keys() | ASKING | DRIVING | SILENT


def test_quiet_is_no_longer_than_to_the_timer(wire: Wire) -> None:
    """An acknowledgement that was put off goes when its time has come, whoever asks."""
    wire.server.send_stream_data(1, b"x")
    (data, _), *_ = wire.server.datagrams_to_send(wire.now)
    wire.client.receive_datagram(data, SERVER, wire.now)
    assert wire.client.datagrams_to_send(wire.now) == []
    timer = wire.client.get_timer()
    assert timer is not None
    assert wire.client.datagrams_to_send(timer - 1e-3) == []
    assert wire.client.datagrams_to_send(timer)
