"""The table of packets, from frames as a capture has them."""

from quicpipe_lab.analysis.packets import Packet, table
from quicpipe_lab.traffic.frame import CapturedFrame
from quicpipe_lab.traffic.wireshark import out_of_band_frame
from tests.traffic import scene
from tests.traffic.test_quic import long, short

CLIENT, FIRST, SERVER = (bytes([letter]) * 12 for letter in b"CFS")
HELLO = long(0, FIRST, CLIENT, bytes(300))
ANSWER = long(0, CLIENT, SERVER, bytes(99)) + long(2, CLIENT, SERVER, bytes(99)) + short(CLIENT)
PING = b"\x0c\x01" + bytes(24)


def relayed(time_ns: int, payload: bytes) -> list[CapturedFrame]:
    """From bob to alice through the relay."""
    return [
        *scene.from_bob(time_ns, payload, scene.RELAY),
        *scene.at_relay(time_ns + 5_000, payload, scene.BOB),
        *scene.at_relay(time_ns + 8_000, payload, scene.ALICE, outwards=True),
        *scene.to_alice(time_ns + 11_000, payload, scene.RELAY),
    ]


def test_columns_of_a_coalesced_datagram_at_each_hop() -> None:
    registered = scene.from_alice(1_900_000_000, short(FIRST), scene.RELAY)
    rows = table([*registered, *relayed(2_000_000_000, ANSWER)], epoch_unix_s=1.0)[4:]
    assert [(row.node, row.direction) for row in rows[:3]] == [
        ("bob", "out"),
        ("nat-b", "in"),
        ("nat-b", "out"),
    ]
    assert rows[2] == Packet(
        time_s=1.000002,
        node="nat-b",
        interface="core",
        direction="out",
        kind="quic",
        source=scene.BOB,
        destination=scene.RELAY,
        size_bytes=len(ANSWER),
        ttl=64,
        form="long",
        type="initial",
        types=("initial", "handshake", "1-rtt"),
        dcid=CLIENT.hex(),
        scid=SERVER.hex(),
        flow="alice~bob",
        journey=1,
        hop=2,
        comment=None,
        time_ns=2_000_002_000,
    )
    assert {row.journey for row in rows} == {1}
    assert [row.hop for row in rows] == list(range(12))


def test_flows_of_what_was_dropped_are_told_by_others() -> None:
    frames = [
        *relayed(0, ANSWER),
        *scene.from_alice(50_000, PING, scene.BOB),
        *scene.to_bob(54_000, PING, scene.ALICE, hops=2),  # dropped by nat-b
        *scene.from_bob(60_000, short(CLIENT), scene.RELAY, hops=3),  # lost
        *scene.from_bob(70_000, bytes(8), scene.ALICE_INSIDE, hops=3),
        *scene.from_bob(80_000, bytes(9), scene.BOB_INSIDE, hops=3),
        out_of_band_frame(1, HELLO, scene.RELAY, scene.BOB_INSIDE),
    ]
    rows = table(frames)
    flows = {row.journey: (row.kind, row.type, row.flow) for row in rows}
    assert list(flows.values()) == [
        ("quic", "initial", "alice~bob"),
        ("quic", "initial", "alice~bob"),
        ("punch", "punch", "alice~bob"),
        ("quic", "1-rtt", "alice~bob"),
        ("udp", None, "alice~bob"),
        ("udp", None, "?~bob"),
    ]
    assert [row.node for row in rows if row.is_out_of_band] == ["oob"]


def test_frames_without_udp_are_rows_too() -> None:
    arp = b"\xff" * 6 + bytes(6) + b"\x08\x06" + bytes(28)
    rows = table([CapturedFrame(5, "alice", "nat-a", "out", arp)])
    assert (rows[0].kind, rows[0].source, rows[0].size_bytes) == ("arp", None, len(arp))
