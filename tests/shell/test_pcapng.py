"""pcapng files: written and read back, cut off anywhere, and those of others."""

import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.l2 import Ether
from scapy.utils import wrpcap, wrpcapng

from quicpipe_lab.errors import QuicpipeLabError
from quicpipe_lab.shell.pcapng import read, write
from quicpipe_lab.traffic.frame import CapturedFrame
from tests.folders import vanishing_folder
from tests.nobody import python_of_nobody

names = st.text("abcdefghijklmnop0123456789-", min_size=1, max_size=15)
frames = st.builds(
    CapturedFrame,
    time_ns=st.integers(0, 2**63),
    node=names,
    interface=names,
    direction=st.sampled_from(["in", "out"]),
    data=st.binary(max_size=300),
    comment=st.none() | st.text(st.characters(codec="utf-8"), min_size=1, max_size=50),
    true_bytes=st.sampled_from([0, 301, 70_000]),
)
ONE = CapturedFrame(1_000_000_001, "alice", "nat-a", "out", b"frame" * 5, "hé")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(frames, max_size=8), st.binary(max_size=100))
def test_all_comes_back(tmp_path: Path, written: list[CapturedFrame], secrets: bytes) -> None:
    path = tmp_path / "capture.pcapng"
    write(path, written, ["quiet/one"], secrets)
    found = read(path)
    assert found.frames == written
    assert found.interfaces == list(dict.fromkeys(["quiet/one", *(one.place for one in written)]))
    assert found.secrets == secrets
    assert found.is_whole


def test_of_a_file_that_breaks_off_all_whole_frames_are_there(tmp_path: Path) -> None:
    path = tmp_path / "capture.pcapng"
    write(path, [ONE, ONE, ONE], secrets=b"secret")
    whole = path.read_bytes()
    counts = []
    for size in range(28, len(whole)):
        path.write_bytes(whole[:size])
        found = read(path)
        assert found.frames == [ONE] * len(found.frames)
        counts.append((len(found.frames), found.is_whole))
    numbers = [count for count, _ in counts]
    assert numbers == sorted(numbers)
    assert set(numbers) == {0, 1, 2}
    assert sum(is_whole for _, is_whole in counts) == 5  # ends between two blocks


@pytest.mark.parametrize("size", [0, 3, 11, 27])
def test_a_beginning_is_no_capture(size: int, tmp_path: Path) -> None:
    path = tmp_path / "capture.pcapng"
    write(path, [ONE])
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(QuicpipeLabError, match=r"capture\.pcapng is no "):
        read(path)


def test_files_of_others_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "theirs"
    damaged = (
        struct.pack("<IIIHHqI", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1, 28) + b"\x06\0\0\0\7\0\0\0"
    )
    for make in (
        lambda: wrpcapng(str(path), [Ether(bytes(60))]),
        lambda: wrpcap(str(path), [Ether(bytes(60))]),
        lambda: path.write_bytes(b"#!/bin/sh\n"),
        lambda: path.write_bytes(damaged),
        lambda: write(path, [ONE._replace(node="", interface="eth0")]),
        path.unlink,
        path.mkdir,
    ):
        make()
        with pytest.raises(QuicpipeLabError) as caught:
            read(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


WRITES_AND_READS = """
import sys
from pathlib import Path
from quicpipe_lab.shell.pcapng import read, write
from quicpipe_lab.traffic.frame import CapturedFrame
path = Path(sys.argv[1], "capture.pcapng")
write(path, [CapturedFrame(1_000_000_001, "alice", "nat-a", "out", b"frame", None)])
print(len(read(path).frames))
"""


@pytest.mark.parametrize(
    ("mode", "cached"), [(0o700, []), (0o755, []), (0o755, ["scapy/services.pickle"])]
)
def test_where_the_cache_of_the_home_is_another_users(mode: int, cached: list[str]) -> None:
    """Which may be entered by nobody, or read and not written, with a file in it that is stale."""
    python, env = python_of_nobody()
    with vanishing_folder() as home:
        home.chmod(0o777)
        for name in cached:
            (home / ".cache" / name).parent.mkdir(parents=True)
            (home / ".cache" / name).write_bytes(b"stale")
        (home / ".cache").mkdir(exist_ok=True)
        (home / ".cache").chmod(mode)
        done = subprocess.run(
            [*python, "-c", WRITES_AND_READS, home],
            env={**env, "HOME": str(home)},
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")
