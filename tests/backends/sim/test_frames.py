"""Simulated packets as frames, against scapy, and captures of whole runs."""

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6EchoReply, IPv6
from scapy.layers.l2 import Ether

from quicpipe_lab import resources
from quicpipe_lab.backends.sim.backend import SimBackend
from quicpipe_lab.backends.sim.frames import ethernet_frame, mac_address
from quicpipe_lab.backends.sim.packet import Echo, IcmpError, Packet, Udp, size_bytes
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.shell import pcapng

HERE, THERE = mac_address("alice", "nat-a"), mac_address("nat-a", "alice")
ONE, OTHER = TransportAddress("10.0.0.1", 4711), TransportAddress("198.18.0.9", 443)
ONE6, OTHER6 = TransportAddress("2001:db8::1", 4711), TransportAddress("2001:db8::2", 443)
LONG, LONG6 = Udp(ONE, OTHER, b"odd" * 399, ttl=3), Udp(ONE6, OTHER6, b"odd" * 399)


def frame_of(packet: Packet) -> bytes:
    return ethernet_frame(packet, HERE, THERE)


@pytest.mark.parametrize(
    ("packet", "layers", "checksum"),
    [
        (LONG, (IP, UDP), "chksum"),
        (Udp(ONE, OTHER, b""), (IP, UDP), "chksum"),
        (LONG6, (IPv6, UDP), "chksum"),
        (Echo("10.0.0.1", "10.0.0.2", 7, 8, False, b"xyz"), (IP, ICMP), "chksum"),
        (Echo(ONE6.host, OTHER6.host, 7, 8, True, b"x"), (IPv6, ICMPv6EchoReply), "cksum"),
        (IcmpError("198.18.0.1", ONE.host, 3, 3, LONG), (IP, ICMP), "chksum"),
        (IcmpError(OTHER6.host, ONE6.host, 1, 4, LONG6), (IPv6, ICMPv6DestUnreach), "cksum"),
    ],
)
def test_scapy_finds_every_layer_and_the_same_checksums(
    packet: Packet, layers: tuple[type, type], checksum: str
) -> None:
    frame = frame_of(packet)
    assert len(frame) == 14 + size_bytes(packet)
    ip, above = layers
    read = Ether(frame)
    assert (read.src, read.dst) == (HERE.hex(":"), THERE.hex(":"))
    assert ip in read
    assert above in read
    # What is quoted within an ICMP error is cut, and keeps the checksums of the whole.
    carried = bytes(read[above].payload)
    again = read[ip].copy()
    if ip is IP:
        del again.chksum
        assert again.ttl == packet.ttl
    delattr(again[above], checksum)
    again[above].remove_payload()
    again[above].add_payload(carried)
    assert bytes(again) == frame[14:]


@given(st.binary(max_size=64))
def test_checksums_are_right_whatever_the_bytes(data: bytes) -> None:
    packet = frame_of(Udp(ONE, OTHER, data))[14:]
    pseudo = packet[12:20] + struct.pack("!HH", 17, 8 + len(data))
    for covered in (packet[:20], pseudo + packet[20:]):
        words = struct.unpack(f"!{(len(covered) + 1) // 2}H", covered + bytes(len(covered) % 2))
        assert sum(words) % 0xFFFF == 0 < sum(words)


def test_a_flipped_bit_is_flipped_and_nothing_else() -> None:
    whole, broken = frame_of(LONG), frame_of(LONG._replace(flipped_bits=(20 * 8 + 7,)))
    different = [
        at for at, (one, other) in enumerate(zip(whole, broken, strict=True)) if one != other
    ]
    assert different == [14 + 20]
    assert whole[different[0]] ^ broken[different[0]] == 1


def test_a_run_is_captured_at_every_interface_on_its_clock(tmp_path: Path) -> None:
    scenario = resources.find_scenario("public-to-nat")
    result = SimBackend().run(scenario, tmp_path, lambda _: None)
    capture = pcapng.read(tmp_path / "capture.pcapng")
    assert result.capture is not None
    assert result.clock is not None
    in_lab = [frame for frame in capture.frames if frame.interface != "oob" and frame.interface]
    assert len(in_lab) == result.capture.packets > 1000
    assert {frame.place for frame in in_lab} == {
        *("core/relay", "relay/core", "core/alice", "alice/core"),
        *("core/nat-b", "nat-b/core", "nat-b/bob", "bob/nat-b"),
    }
    assert b"CLIENT_TRAFFIC_SECRET_0" in capture.secrets
    times = [frame.time_ns / 1e9 - result.clock.epoch_unix_s for frame in in_lab]
    assert result.times_s.total is not None
    assert 0 <= min(times) < max(times) <= result.times_s.total
    assert any("punch from the dialer" in (frame.comment or "") for frame in in_lab)
