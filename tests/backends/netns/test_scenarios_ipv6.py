"""Scenarios over IPv6: from end to end, and nothing over IPv4."""

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from quicpipe_lab.backends import base
from quicpipe_lab.model.event import Event
from quicpipe_lab.model.ipv6 import Ipv6Addresses
from quicpipe_lab.model.result import NatDeclared
from quicpipe_lab.model.scenario import Outcome
from quicpipe_lab.resources import find_scenario
from quicpipe_lab.shell.pcapng import read

pytestmark = pytest.mark.netns

_IPV4, _IPV6 = 0x0800, 0x86DD
_UDP = 17


def udp_versions(capture: Path, node: str | None = None) -> Iterator[int]:
    """The EtherType of each captured frame that carries UDP, at one node or at all."""
    for frame in read(capture).frames:
        (kind,) = struct.unpack_from("!H", frame.data, 12)
        protocol = frame.data[14 + (9 if kind == _IPV4 else 6)]
        if protocol == _UDP and node in (None, frame.node):
            yield kind


@pytest.mark.parametrize(
    ("name", "dialers"),
    [
        ("ipv6-to-ipv6", NatDeclared("EIM", "APDF")),
        ("nptv6-to-nptv6", NatDeclared("EIM", "EIF")),
        ("nat66-to-nptv6", NatDeclared("EIM", "APDF")),
    ],
)
def test_ipv6_from_end_to_end(name: str, dialers: NatDeclared, tmp_path: Path) -> None:
    scenario = find_scenario(name)
    seen: dict[str, str] = {}

    def observe(event: Event) -> None:
        if event.name == "relay-registered":
            seen[event.node] = event.data["observed"].rpartition(":")[0].strip("[]")

    result = base.run(scenario, run_dir=tmp_path, observe=observe, certify=False)
    assert result.failure is None
    assert result.outcome is Outcome.DIRECT
    assert result.nat["dialer"] == dialers
    addresses = Ipv6Addresses(scenario.topology)
    peers = (scenario.dialer, scenario.accepter)
    assert seen == {node: str(addresses.seen_as(node)) for node in peers}
    assert set(udp_versions(tmp_path / "capture.pcapng")) == {_IPV6}


@pytest.mark.parametrize("backend", ["netns", "sim"])
def test_a_relay_with_both_families_joins_peers_that_have_one_each(
    backend: str, tmp_path: Path
) -> None:
    scenario = find_scenario("ipv4-to-ipv6")
    result = base.run(scenario, backend=backend, run_dir=tmp_path, certify=False)
    assert (result.outcome, result.failure) == (Outcome.RELAYED, None)
    assert result.nat["dialer"] == result.nat["accepter"] == NatDeclared("EIM", "APDF")
    capture = tmp_path / "capture.pcapng"
    spoken = {node: set(udp_versions(capture, node)) for node in ("alice", "bob", "relay")}
    assert spoken == {"alice": {_IPV4}, "bob": {_IPV6}, "relay": {_IPV4, _IPV6}}
