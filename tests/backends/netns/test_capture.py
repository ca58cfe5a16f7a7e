"""The capture of a run, as Wireshark's own program sees it without any settings."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from quicpipe_lab import packets, resources
from quicpipe_lab.analysis.packets import Packet
from quicpipe_lab.backends import base
from quicpipe_lab.cli import main
from quicpipe_lab.evidence import open_run
from quicpipe_lab.model.nat import NatBehavior
from quicpipe_lab.model.scenario import Outcome, Transfer, WaitFor
from quicpipe_lab.model.topology import Nat
from quicpipe_lab.shell.pcapng import read

pytestmark = [pytest.mark.netns, pytest.mark.tshark]


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
        # A NAT may have drawn a port that tshark takes for another protocol's.
        ["tshark", "-o", "udp.try_heuristic_first:TRUE", "-r", str(capture)]
        + ["-Y", what, "-T", "fields"]
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


def test_a_port_of_another_protocol_hides_nothing(tmp_path: Path) -> None:
    scenario = resources.find_scenario("nat-to-nat")
    iax2 = NatBehavior(port_range=(4569, 4569))
    nodes = tuple(
        replace(node, behavior=iax2) if isinstance(node, Nat) and node.name == "nat-b" else node
        for node in scenario.topology.nodes
    )
    scenario = replace(scenario, topology=replace(scenario.topology, nodes=nodes))
    scenario = replace(scenario, steps=(Transfer(1000), WaitFor(path=Outcome.DIRECT)))
    base.run(scenario, backend="sim", run_dir=tmp_path, certify=False)
    assert_all_is_decrypted(tmp_path / "capture.pcapng", connections=3)


def test_every_packet_of_all_connections_is_decrypted_at_every_hop(run_dir: Path) -> None:
    capture = run_dir / "capture.pcapng"
    assert_all_is_decrypted(capture, connections=3)
    kinds = {
        kind for (row,) in tshark(capture, "http3", "http3.frame_type") for kind in row.split(",")
    }
    assert {"0", "1", "4"} <= kinds  # DATA, HEADERS, SETTINGS (RFC 9114, 7.2)


@pytest.mark.parametrize(
    ("node", "connections"),
    [("alice", 2), ("bob", 2), ("relay", 3), ("nat-a", 2), ("nat-b", 2), ("core", 3)],
)
def test_so_is_what_is_cut_out_for_one_node(
    node: str, connections: int, run_dir: Path, tmp_path: Path
) -> None:
    out = tmp_path / "cut.pcapng"
    assert main(["capture", str(run_dir), "--node", node, "-o", str(out)]) == 0
    assert_all_is_decrypted(out, connections)
    assert {frame.node for frame in read(out).frames} == {node, "oob"}


def test_so_is_a_flow(run_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "cut.pcapng"
    assert main(["capture", str(run_dir), "--filter", "flow=alice~bob", "-o", str(out)]) == 0
    assert_all_is_decrypted(out, connections=1)
    comments = {frame.comment for frame in read(out).frames}
    assert "relayed in userspace" in comments


def test_filters_are_of_the_tables_columns(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = open_run(run_dir).packets
    out = tmp_path / "cut.pcapng"
    for text, wanted in (
        ("kind=punch", [row for row in rows if row.kind == "punch"]),
        ("journey=3", [row for row in rows if row.journey == 3]),
        ("host=192.168.0.*,port=443", [row for row in rows if _is_inside_to_relay(row)]),
        ("comment=nat-? translated*", [row for row in rows if (row.comment or "")[:3] == "nat"]),
    ):
        assert wanted, text
        command = ["capture", str(run_dir), "--filter", text, "-o", str(out), "--json"]
        assert main(command) == 0
        assert json.loads(capsys.readouterr().out)["frames"] == len(wanted)
        assert len(read(out).frames) == len(wanted)


def _is_inside_to_relay(row: Packet) -> bool:
    ends = [end for end in (row.source, row.destination) if end]
    return any(end.host[:10] == "192.168.0." for end in ends) and 443 in [end.port for end in ends]


def test_the_summary_counts_each_packet_once(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["capture", str(run_dir), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    rows = packets(run_dir)
    assert told["frames"] == len(rows)
    peers = rows[(rows.flow == "alice~bob") & (rows.kind == "quic")]
    assert told["packets"]["alice~bob quic"] == peers.journey.nunique()
    # Relayed packets have 12 hops, direct ones 8, and the one out of band none.
    assert set(peers.groupby("journey").hop.count()) == {1, 8, 12}
    assert main(["capture", str(run_dir)]) == 0
    assert "alice~bob quic" in capsys.readouterr().out


def test_without_pandas_rows_are_records(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = packets(str(run_dir))
    assert list(frame.columns[:7]) == [
        *("time_s", "node", "interface", "direction", "kind"),
        *("source", "source_port"),
    ]
    monkeypatch.setitem(sys.modules, "pandas", None)
    rows = packets(run_dir)
    udp = frame[frame.source.notna()]  # on a slow machine there may be ARP, too
    assert [row.source.host for row in rows if row.source] == list(udp.source)
    assert [row.destination.port for row in rows if row.destination] == list(udp.destination_port)
    assert rows[0]._fields == Packet._fields


def test_bad_input_is_one_line(
    run_dir: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run_dir, copy)
    there = str(copy)
    commands: list[tuple[list[str], str]] = [
        ([str(tmp_path / "none")], "no directory"),
        ([str(tmp_path)], "no scenario.json"),
        ([there, "--node", "carol"], "no node 'carol'; there are alice, bob, core"),
        ([there, "--filter", "colour=red"], "no column 'colour'; there are host, port, flow"),
        ([there, "--filter", "kind"], "'kind' is not COLUMN=PATTERN"),
        ([there, "--filter", ""], "'' is not COLUMN=PATTERN"),
        ([there, "--node", "bob", "-o", f"{there}/capture.pcapng"], "is the capture itself"),
        ([there, "--node", "bob", "-o", f"{there}/no/cut.pcapng"], "cannot write"),
    ]
    for arguments, complaint in commands:
        assert main(["capture", *arguments]) == 2
        assert complaint in capfd.readouterr().err
    capture = copy / "capture.pcapng"
    whole = capture.read_bytes()
    capture.write_bytes(whole[: len(whole) // 2])
    assert main(["capture", there]) == 0
    told = capfd.readouterr()
    assert "the capture breaks off after" in told.err
    assert "alice~relay quic" in told.out
    capture.write_bytes(b"\x0a\x0d\x0d\x0a and something else")
    assert main(["capture", there]) == 2
    assert capfd.readouterr().err.count("\n") == 1
    capture.unlink()
    assert main(["capture", there]) == 2
    assert "was not captured" in capfd.readouterr().err


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
