"""Scenarios whose relay forwards in the kernel, and what the capture says to it."""

import dataclasses
import json
import os
import signal
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from quicpipe_lab import resources
from quicpipe_lab.backends import base
from quicpipe_lab.backends.netns.lab import Lab, Process
from quicpipe_lab.model.event import Event
from quicpipe_lab.model.link import LinkBehavior
from quicpipe_lab.model.result import RelayedBy, RunResult
from quicpipe_lab.model.scenario import Outcome, Scenario, Xdp
from quicpipe_lab.model.topology import CORE, Link
from quicpipe_lab.shell.pcapng import read
from quicpipe_lab.traffic.frame import CapturedFrame
from tests.folders import vanishing_folder
from tests.nobody import python_of_nobody

pytestmark = [pytest.mark.netns, pytest.mark.bpf]

RELAY_PORT = 443
OWN_TTL = 64
"""What the relay's process sends with."""


class Relayed(NamedTuple):
    """A datagram from peer to peer, as it came back from the relay."""

    ttl: int
    is_long_header: bool
    is_intact: bool


def relayed(frames: Iterable[CapturedFrame]) -> list[Relayed]:
    """As seen at the core's end of the relay's link, which the filter's packets pass as well."""
    found = []
    for frame in frames:
        if (frame.node, frame.interface, frame.direction) != (CORE, "relay", "in"):
            continue
        packet = frame.data[14:]
        udp = packet[20:]
        if packet[0] != 0x45 or packet[9] != 17 or udp[:2] != RELAY_PORT.to_bytes(2, "big"):
            continue
        quic = udp[8:]
        is_long = bool(quic[0] & 0x80)
        destination = quic[6 : 6 + quic[5]] if is_long else quic[1:13]
        if quic[0] & 0x40 and not destination[0] & 0x80:
            found.append(Relayed(packet[8], is_long, has_right_checksums(packet)))
    return found


def has_right_checksums(packet: bytes) -> bool:
    """Of IPv4 (RFC 1071) and UDP (RFC 768), which has to have one."""
    udp = packet[20:]
    pseudo = packet[12:20] + struct.pack("!HH", 17, len(udp))
    return folded(packet[:20]) == 0xFFFF and folded(pseudo + udp) == 0xFFFF and udp[6:8] != b"\0\0"


def folded(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return int(total)


def events(run_dir: Path) -> list[Event]:
    return [Event.loads(line) for line in (run_dir / "events.jsonl").read_text().splitlines()]


def run(scenario: Scenario, directory: Path) -> RunResult:
    result = base.run(scenario, run_dir=directory)
    assert result.ok, result.failure
    assert result.capture is not None
    assert result.capture.dropped == 0
    return result


@pytest.mark.parametrize(("xdp", "mode"), [(Xdp.ON, "native"), (Xdp.GENERIC, "generic")])
def test_the_capture_holds_what_the_filter_counted(xdp: Xdp, mode: str, tmp_path: Path) -> None:
    scenario = dataclasses.replace(resources.find_scenario("relayed"), xdp=xdp)
    by = run(scenario, tmp_path).relayed_by
    assert by is not None
    assert by.mode == mode
    assert by.filter_share > 0.99

    seen = relayed(read(tmp_path / "capture.pcapng").frames)
    # What the relay's process sends has its checksums made later, by nobody, as on any veth.
    assert all(one.is_intact for one in seen if one.ttl != OWN_TTL)
    # From alice or bob through a NAT and the core: 62, and one less by the filter.
    assert Counter(one.ttl for one in seen) == {61: by.filter, OWN_TTL: by.userspace}
    assert all(one.ttl == OWN_TTL for one in seen if one.is_long_header)


def test_a_signal_shows_what_went_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    relays: list[Process] = []
    spawn = Lab.spawn

    def noting(lab: Lab, node: str, argv: Sequence[str], **options: Any) -> Process:
        process = spawn(lab, node, argv, **options)
        relays.extend([process] if argv[1] == "relay" else [])
        return process

    def ask(event: Event) -> None:
        if event.name == "transfer-complete":
            relays[0].send_signal(signal.SIGUSR1)

    monkeypatch.setattr(Lab, "spawn", noting)
    scenario = dataclasses.replace(resources.find_scenario("relayed"), xdp=Xdp.ON)
    assert base.run(scenario, run_dir=tmp_path, observe=ask).ok
    (status,) = [event for event in events(tmp_path) if event.name == "status"]
    forwarded = status.data["xdp"]["datagrams"]["forwarded"]
    assert forwarded > 2 * 4 * 1024 * 1024 / 1500
    shown = (tmp_path / "programs" / "relay.relay.log").read_text().splitlines()
    assert ["forwarded", f"{forwarded:,}"] in [line.split()[:2] for line in shown]
    assert shown[-1].startswith("the kernel forwards on core (native): 2 senders")


def test_nat_to_nat_uses_the_filter_until_the_direct_path_takes_over(tmp_path: Path) -> None:
    scenario = dataclasses.replace(resources.find_scenario("nat-to-nat"), xdp=Xdp.ON)
    result = run(scenario, tmp_path)
    assert result.outcome is Outcome.DIRECT
    assert result.relayed_by is not None
    # Not less than went up and down for the first transfer, and little after the move.
    assert result.relayed_by.filter_share > 0.99
    assert (result.relayed_by.filter or 0) * 1200 > 2 * 1024 * 1024
    ready = next(
        event for event in events(tmp_path) if event.node == "relay" and event.name == "ready"
    )
    assert [(one["interface"], one["mode"]) for one in ready.data["xdp"]] == [("core", "native")]


def test_a_relay_whose_link_is_carried_by_a_process(tmp_path: Path) -> None:
    """There the veth's other end is the wire's, and needs the program that lets all pass."""
    scenario = resources.find_scenario("relayed")
    slow = Link((CORE, "relay"), LinkBehavior(delay_s=0.001))
    links = [slow if "relay" in one.between else one for one in scenario.topology.links]
    topology = dataclasses.replace(scenario.topology, links=tuple(links))
    by = run(dataclasses.replace(scenario, topology=topology, xdp=Xdp.ON), tmp_path).relayed_by
    assert by is not None
    assert by.filter_share > 0.99
    assert (
        Counter(one.ttl for one in relayed(read(tmp_path / "capture.pcapng").frames))[61]
        == by.filter
    )


def test_ipv6_is_relayed_by_the_filter_as_well(tmp_path: Path) -> None:
    scenario = dataclasses.replace(resources.find_scenario("ipv6-to-ipv6"), xdp=Xdp.ON)
    by = run(scenario, tmp_path).relayed_by
    assert by is not None
    assert by.filter_share > 0.5  # the handshake is userspace's, and soon the path is direct


def test_a_relay_that_may_not_ask_for_routes_says_what_to_do(two_homes: Lab) -> None:
    output, writer = os.pipe()
    argv = ["quicpipe-lab", "relay", "--ephemeral", "--xdp", "core", "--xdp-next-hop", "routes"]
    with os.fdopen(output) as lines:
        process = two_homes.spawn("relay", argv, stdout=writer)
        os.close(writer)
        said = [lines.readline() for _ in range(3)]
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert said[2].startswith("xdp: core generic: natively a veth's other end may drop")
    what_to_do = "; userspace forwards until net.ipv4.conf.core.forwarding is 1, or without that"
    assert said[2].endswith(f"{what_to_do} with --xdp-next-hop back\n")


def test_without_xdp_all_is_userspaces(tmp_path: Path) -> None:
    by = run(resources.find_scenario("symmetric-to-symmetric"), tmp_path).relayed_by
    assert by == RelayedBy(by.userspace if by else 0)
    assert len(relayed(read(tmp_path / "capture.pcapng").frames)) == by.userspace > 1000


def test_a_lab_for_xdp_without_root_is_refused_in_one_line() -> None:
    argv, env = python_of_nobody()
    command = [*argv, "-m", "quicpipe_lab.cli", "up", "two-homes", "--xdp"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "quicpipe-lab: XDP needs root; run it as root: sudo quicpipe-lab\n"


@pytest.mark.parametrize("word", ["on", "generic"])
def test_without_root_it_is_refused_in_one_line(word: str) -> None:
    argv, env = python_of_nobody()
    command = [*argv, "-m", "quicpipe_lab.cli", "scenario", "relayed", "--xdp", word, "--json"]
    with vanishing_folder() as folder:
        folder.chmod(0o777)
        done = subprocess.run(
            [*command, "--run-dir", f"{folder}/run"],
            env=env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 3
    assert done.stderr == "quicpipe-lab: XDP needs root; run it as root: sudo quicpipe-lab\n"
    assert json.loads(done.stdout)["exit_status"] == 3


def test_what_does_not_compile_here_is_the_machines_lack(tmp_path: Path) -> None:
    env: dict[str, Any] = {**os.environ, "BCC_KERNEL_SOURCE": "/nowhere"}
    done = subprocess.run(
        [sys.executable, "-m", "quicpipe_lab.cli", "scenario", "relayed", "--xdp", "generic"],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 3, done.stderr
    complaint = done.stderr.splitlines()[-1]
    assert "/nowhere" in complaint
    assert complaint.endswith("leave out --xdp: this program forwards as well")
