"""The capture of a run, as Wireshark's own program sees it without any settings."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from quicpipe_lab import resources
from quicpipe_lab.backends import base
from quicpipe_lab.model.scenario import Transfer, WaitFor

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed"),
]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Relayed first, then direct, and every packet recorded at eight hops or more."""
    folder = tmp_path_factory.mktemp("run")
    steps = (Transfer(65536), WaitFor(settled=True), Transfer(65536))
    scenario = replace(resources.find_scenario("nat-to-nat"), steps=steps, direct_after_bytes=65536)
    result = base.run(scenario, run_dir=folder, certify=False)
    assert result.ok, result
    return folder


def tshark(capture: Path, what: str, *fields: str) -> Iterator[list[str]]:
    """The fields of those packets that a display filter lets through."""
    done = subprocess.run(
        ["tshark", "-r", str(capture), "-Y", what, "-T", "fields"]
        + [part for field in fields for part in ("-e", field)],
        env={**os.environ, "WIRESHARK_CONFIG_DIR": str(capture.parent / "no-settings")},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    for line in done.stdout.splitlines():
        yield line.split("\t")


def assert_all_is_decrypted(capture: Path, connections: int) -> None:
    """At every interface that the file has."""
    fields = (
        "quic.connection.number",
        "quic.decryption_failed",
        "quic.packet_number",
        "udp.length",
    )
    rows = list(tshark(capture, "quic", *fields))
    punch_bytes = "34"  # on a port where it has seen QUIC, tshark takes punches for QUIC
    numbers = set()
    for number, failed, packet_number, length in rows:
        if length != punch_bytes:
            assert not failed
            assert packet_number
            numbers.add(number)
    assert len(numbers) == connections
    others = list(tshark(capture, "udp and not quic", "udp.length"))
    assert all(length == [punch_bytes] for length in others)


def test_every_packet_of_all_connections_is_decrypted_at_every_hop(run_dir: Path) -> None:
    capture = run_dir / "capture.pcapng"
    assert_all_is_decrypted(capture, connections=3)
    kinds = {
        kind for (row,) in tshark(capture, "http3", "http3.frame_type") for kind in row.split(",")
    }
    assert {"0", "1", "4"} <= kinds  # DATA, HEADERS, SETTINGS (RFC 9114, 7.2)


def test_interfaces_and_comments_are_shown(run_dir: Path) -> None:
    fields = ("frame.interface_name", "frame.interface_description", "frame.comment")
    rows = list(tshark(run_dir / "capture.pcapng", "frame", *fields))
    assert [name for name, about, _ in rows if about.startswith("carried out of band")] == ["oob"]
    comments = {(name, comment.split(" 1")[0]) for name, _, comment in rows if comment}
    assert {
        ("nat-a/core", "nat-a translated the source"),
        ("nat-b/bob", "nat-b translated the destination"),
        ("relay/core", "relayed in userspace"),
        ("alice/nat-a", "punch from the dialer"),
    } <= comments
