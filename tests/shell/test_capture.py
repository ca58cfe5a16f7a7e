"""The capture, recorded from real interfaces and read back by programs that are not ours."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.l2 import Dot1Q, Ether
from scapy.utils import PcapNgReader

from quicpipe_lab.errors import QuicpipeLabError
from quicpipe_lab.model.result import CaptureStats
from quicpipe_lab.shell.capture import (
    CHUNK,
    IncompleteCaptureError,
    Spooled,
    read_spool,
    write_pcapng,
)
from quicpipe_lab.shell.pcapng import read
from quicpipe_lab.traffic.frame import CapturedFrame

SCENES = Path(__file__).with_name("capture_scenes.py")
ETHERTYPE = 0x88B5
HEAD_BYTES = 14
BURST_FRAMES = 10_000
"""Of which each is seen at both ends, as is one more that ends them."""


@dataclass
class Scene:
    """What a scene left behind: the recorder's spool, the pcapng made of it, what it printed."""

    spool: Path
    pcapng: Path
    stats: CaptureStats
    said: list[str]

    def payloads(self, interface: str, direction: str) -> list[bytes]:
        return [
            frame.data[HEAD_BYTES:]
            for frame in read(self.pcapng).frames
            if f"{frame.node}/{frame.interface}" == interface and frame.direction == direction
        ]


def play(scene: str, folder: Path, *, user_namespace: bool = os.geteuid() != 0) -> Scene:
    options = ["--user-namespace"] if user_namespace else []
    done = subprocess.run(
        [sys.executable, str(SCENES), scene, str(folder), *options],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    spool, pcapng = folder / "spool", folder / "capture.pcapng"
    return Scene(spool, pcapng, write_pcapng(spool, pcapng), done.stdout.split())


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return play("everything", tmp_path_factory.mktemp("everything"))


@pytest.mark.netns
def test_both_ends_of_a_link_show_every_frame_in_its_direction(everything: Scene) -> None:
    to_beta = [b"to beta 0", b"to beta 1", b"to beta 2"]
    assert everything.payloads("alpha/wan", "out")[:3] == to_beta
    assert everything.payloads("beta/wan", "in")[:3] == to_beta
    assert everything.payloads("beta/wan", "out") == [b"to alpha"]
    assert everything.payloads("alpha/wan", "in") == [b"to alpha"]


@pytest.mark.netns
def test_only_what_was_sent_while_recording_and_nothing_of_the_loopback(everything: Scene) -> None:
    frames = read(everything.pcapng).frames
    assert len(frames) == 12  # six frames, each at both ends
    assert everything.stats == CaptureStats(packets=12, dropped=0)
    assert {frame.interface for frame in frames} == {"wan"}


@pytest.mark.netns
def test_a_vlan_tag_that_the_kernel_took_out_is_put_back(everything: Scene) -> None:
    tagged = [frame for frame in read(everything.pcapng).frames if frame.data.endswith(b"tagged")]
    assert [frame.direction for frame in tagged] == ["out", "in"]
    for frame in tagged:
        ether = Ether(frame.data)
        assert (ether[Dot1Q].prio, ether[Dot1Q].vlan, ether[Dot1Q].type) == (1, 7, ETHERTYPE)
    assert tagged[0].data == tagged[1].data


@pytest.mark.netns
def test_times_are_the_kernels_in_nanoseconds_and_in_order(everything: Scene) -> None:
    before, after = map(int, everything.said)
    times = [frame.time_ns for frame in read(everything.pcapng).frames]
    assert times == sorted(times)
    assert before < times[0] < times[-1] < after
    assert any(time % 1000 for time in times), "whole microseconds only"


@pytest.mark.netns
def test_scapy_reads_names_times_and_frames(everything: Scene) -> None:
    ours = read(everything.pcapng).frames
    with PcapNgReader(str(everything.pcapng)) as reader:
        theirs = list(reader)
        assert [interface[0] for interface in reader.interfaces] == [1, 1]
        assert [about["name"] for _, _, about in reader.interfaces] == [b"alpha/wan", b"beta/wan"]
    assert len(theirs) == len(ours)
    for packet, frame in zip(theirs, ours, strict=True):
        assert packet.sniffed_on == f"{frame.node}/{frame.interface}"
        assert int(packet.time * 1_000_000_000) == frame.time_ns
        assert packet.direction == {"in": 1, "out": 2}[frame.direction]
        assert bytes(packet) == frame.data
        assert packet.wirelen == len(frame.data)


@pytest.mark.netns
@pytest.mark.tshark
def test_tshark_reads_names_times_and_frames(everything: Scene) -> None:
    fields = ["frame.interface_name", "frame.time_epoch", "frame.len", "frame.packet_flags"]
    wanted = [part for field in fields for part in ("-e", field)]
    done = subprocess.run(
        ["tshark", "-r", str(everything.pcapng), "-T", "fields", *wanted],
        capture_output=True,
        text=True,
        check=True,
    )
    assert [line.split("\t") for line in done.stdout.splitlines()] == [
        [
            f"{frame.node}/{frame.interface}",
            f"{frame.time_ns // 10**9}.{frame.time_ns % 10**9:09}",
            str(len(frame.data)),
            {"in": "0x00000001", "out": "0x00000002"}[frame.direction],
        ]
        for frame in read(everything.pcapng).frames
    ]


@pytest.mark.netns
@pytest.mark.usefixtures("user_namespaces")
def test_a_user_namespace_is_enough(tmp_path: Path) -> None:
    scene = play("everything", tmp_path, user_namespace=True)
    assert scene.stats == CaptureStats(packets=12, dropped=0)


@pytest.mark.netns
def test_cut_frames_keep_their_length_and_a_signal_stops(tmp_path: Path) -> None:
    scene = play("short", tmp_path)
    assert scene.stats.packets == 2
    with PcapNgReader(str(scene.pcapng)) as reader:
        assert [(len(packet), packet.wirelen) for packet in reader] == [(20, 1014)] * 2


@pytest.mark.netns
def test_an_interface_younger_than_the_recorder_goes_by_its_number(tmp_path: Path) -> None:
    scene = play("late", tmp_path)
    assert scene.payloads(f"alpha/{scene.said[0]}", "out")[-1] == b"from the late one"


@pytest.mark.netns
def test_a_burst_on_busy_cores_loses_nothing(tmp_path: Path) -> None:
    scene = play("burst", tmp_path)
    assert scene.stats == CaptureStats(packets=2 * (BURST_FRAMES + 1), dropped=0)
    for interface, direction in (("alpha/wan", "out"), ("beta/wan", "in")):
        numbers = [payload[:4] for payload in scene.payloads(interface, direction)[:-1]]
        assert numbers == [number.to_bytes(4, "big") for number in range(BURST_FRAMES)]


@pytest.mark.netns
def test_what_found_no_room_is_counted(tmp_path: Path) -> None:
    stats = play("starved", tmp_path).stats
    assert stats.dropped > 0
    assert stats.packets + stats.dropped == 2 * (BURST_FRAMES + 1)


@pytest.mark.netns
def test_of_a_recorder_that_was_killed_all_whole_chunks_are_kept(
    everything: Scene, tmp_path: Path
) -> None:
    whole, all_frames = everything.spool.read_bytes(), read(everything.pcapng).frames
    spool, pcapng = tmp_path / "spool", tmp_path / "capture.pcapng"
    kept: list[list[CapturedFrame]] = []
    for size in (*range(0, len(whole), 11), len(whole) - 1):
        spool.write_bytes(whole[:size])
        with pytest.raises(IncompleteCaptureError):
            write_pcapng(spool, pcapng)
        kept.append(read(pcapng).frames)
        assert all(frame in all_frames for frame in kept[-1])
    counts = [len(frames) for frames in kept]
    assert counts == sorted(counts)
    assert counts[0] == 0
    assert kept[-1] == all_frames


def test_what_is_no_namespace_is_said_in_one_line(tmp_path: Path) -> None:
    program = [sys.executable, "-m", "quicpipe_lab.shell.capture"]
    arguments = ["--spool", str(tmp_path / "spool"), "alpha=/dev/null"]
    done = subprocess.run([*program, *arguments], capture_output=True, text=True, timeout=10)
    assert done.returncode == 3
    assert done.stderr.startswith("cannot capture at node 'alpha': ")
    assert done.stderr.count("\n") == 1


def test_the_recorder_does_without_scapy() -> None:
    text = "import sys, quicpipe_lab.shell.capture; print('scapy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.netns
@given(st.data())
def test_a_damaged_spool_is_read_or_refused_in_one_line(
    everything: Scene, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Bytes of its heads are others, where the damage is the greatest: of all else only frames'
    contents would change."""
    damaged = bytearray(everything.spool.read_bytes())
    start = 0
    heads: list[int] = []
    while start + CHUNK.size <= len(damaged):
        size = CHUNK.unpack_from(damaged, start)[1]
        heads += range(start, start + min(CHUNK.size + size, 400))
        start += CHUNK.size + size
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.sampled_from(heads))] = data.draw(st.integers(0, 255))
    spool = tmp_path_factory.getbasetemp() / "damaged.spool"
    spool.write_bytes(damaged)
    try:
        read_spool(spool)
    except QuicpipeLabError as refused:
        assert str(refused) == f"{spool} is damaged, or no recorder of ours wrote it"


def test_what_cannot_be_read_is_no_spool(tmp_path: Path) -> None:
    with pytest.raises(QuicpipeLabError, match=r"cannot read .*: Is a directory"):
        read_spool(tmp_path)
    spool = tmp_path / "spool"
    for what in (b"[1]", b"{}", b'{"nodes": [{}]}', b'{"dropped": {"a": "b"}}', b"[" * 100_000):
        spool.write_bytes(CHUNK.pack(-1, len(what)) + what + CHUNK.pack(0, 200) + bytes(200))
        if what == b"{}":
            assert read_spool(spool) == Spooled([], [], None)  # of a node that took no frame
        else:
            with pytest.raises(QuicpipeLabError, match="is damaged"):
                read_spool(spool)
