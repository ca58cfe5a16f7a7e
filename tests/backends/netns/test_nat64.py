"""Homes with IPv6 only, behind NAT64, on the real kernel with the real TAYGA."""

import itertools
import json
import os
import socket
import struct
import sys
import time
from contextlib import suppress
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from quicpipe_lab.backends import base
from quicpipe_lab.backends.matrix import TRANSFER_BYTES
from quicpipe_lab.backends.netns import nat64
from quicpipe_lab.backends.netns.lab import Lab
from quicpipe_lab.backends.netns.naming import hosts_file, places
from quicpipe_lab.backends.netns.nat_check import check_nats
from quicpipe_lab.errors import BackendUnavailableError, QuicpipeLabError
from quicpipe_lab.model.check_topology import topology_of
from quicpipe_lab.model.ipv6 import Ipv6Addresses
from quicpipe_lab.model.link_presets import PRESETS as LINKS
from quicpipe_lab.model.nat import (
    FilteringBehavior,
    FilterScope,
    Hairpinning,
    Ipv6Behavior,
    MappingBehavior,
    NatBehavior,
)
from quicpipe_lab.model.nat64 import LAB_PREFIX, embed
from quicpipe_lab.model.nat_presets import PRESETS
from quicpipe_lab.model.prediction import predict
from quicpipe_lab.model.scenario import Outcome, Scenario, Transfer, WaitFor
from quicpipe_lab.model.topology import CORE, Host, Link, Nat, Node, Relay, Topology
from quicpipe_lab.resources import find_topology
from quicpipe_lab.shell.pcapng import read
from tests.backends.netns.remote import DEADLINE_S, Sockets, accepted, output_of, port_of
from tests.backends.netns.test_leaks import Caller

TOPOLOGY = find_topology("nat64")
RELAY = TOPOLOGY.uplinks["relay"].lower_address
RELAY_V6 = str(Ipv6Addresses(TOPOLOGY).uplinks["relay"].lower_address)
SEEN_AS = str(TOPOLOGY.uplinks["nat-a"].lower_address)
_IPV6 = 0x86DD


def is_a_translator(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip() == "tayga"
    return False


def through_nat64(address: IPv4Address) -> str:
    return str(embed(LAB_PREFIX, address))


@pytest.mark.nat64
def test_udp_and_tcp_go_out_and_the_answers_come_back(sockets: Sockets) -> None:
    inside, server = sockets.udp6("alice"), sockets.udp("relay")
    inside.sendto(b"six", (through_nat64(RELAY), port_of(server)))
    data, source = server.recvfrom(100)
    assert (data, source[0]) == (b"six", SEEN_AS)
    server.sendto(b"four", source)
    data, (host, *_) = inside.recvfrom(100)
    assert (data, host) == (b"four", through_nat64(RELAY))

    client = sockets.tcp6("alice")
    sent = os.urandom(300_000)  # full segments: IPv6's headers are longer
    with accepted(sockets.tcp("relay"), client, through_nat64(RELAY)) as served:
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        came = b"".join(iter(lambda: served.recv(65536), b""))
    assert came == sent


@pytest.mark.nat64
def test_the_home_has_no_ipv4(sockets: Sockets) -> None:
    with pytest.raises(OSError, match="unreachable"):
        sockets.udp("alice").sendto(b"four", (str(RELAY), 9))


@pytest.mark.nat64
@pytest.mark.ping
def test_ping(lab: Lab) -> None:
    ping = ["ping", "-c", "1", "-W", str(DEADLINE_S), through_nat64(RELAY)]
    with Path(os.devnull).open("wb") as nowhere:
        process = lab.spawn("alice", ping, stdout=nowhere.fileno())
        assert process.wait(2 * DEADLINE_S) == 0
        process.close()


def test_names_that_have_no_ipv6_are_given_some() -> None:
    """And the one that hosts learn the prefix from: RFC 7050."""
    four = Topology(
        "four",
        (*TOPOLOGY.nodes, Nat("old", NatBehavior(ipv6=Ipv6Behavior.NONE)), Host("legacy")),
        (*TOPOLOGY.links, Link(("core", "old")), Link(("old", "legacy"))),
        dual_stack=True,
    )
    lines = hosts_file(places(four), "alice").splitlines()
    entries = {tuple(line.split()) for line in lines if not line.startswith("#")}
    assert (through_nat64(IPv4Address("192.0.0.170")), "ipv4only.arpa") in entries
    assert all(":" in address for address, name, *_ in entries if name != "localhost")
    assert "# legacy is behind old: no address of its own here" in lines
    # What has IPv6 is reached by that: RFC 6147, 5.1.
    assert (through_nat64(RELAY), "relay") not in entries
    others = hosts_file(places(four), "bob")
    assert "ipv4only" not in others
    assert "# alice is behind nat-a: no address of its own here" in others


@pytest.mark.nat64
def test_every_behavior_holds_behind_the_translator_too() -> None:
    behaviors = {
        f"{mapping}-{filtering}-{scope}".lower(): NatBehavior(
            mapping, filtering, filter_scope=scope, ipv6=Ipv6Behavior.NAT64
        )
        for mapping, filtering, scope in itertools.product(
            MappingBehavior, FilteringBehavior, FilterScope
        )
    }
    for name, behavior in PRESETS.items():
        behaviors[f"preset-{name}"] = replace(behavior, ipv6=Ipv6Behavior.NAT64)
    behaviors["hairpins"] = NatBehavior(
        hairpinning=Hairpinning.EXTERNAL_SOURCE, ipv6=Ipv6Behavior.NAT64
    )
    behaviors["addresses"] = NatBehavior(external_addresses=3, ipv6=Ipv6Behavior.NAT64)
    certificates = check_nats(topology_of(behaviors, dual_stack=True))
    assert len(certificates) == 2 * len(behaviors)
    assert [one.difference() for one in certificates if not one.ok] == []


def two_homes(ours: NatBehavior, theirs: NatBehavior | None) -> Topology:
    """Alice behind a NAT64, bob behind his own, or hers where he has none."""
    nodes: list[Node] = [Host("alice"), Host("bob"), Relay("relay"), Nat("nat-a", ours)]
    links = [Link((CORE, "relay")), Link((CORE, "nat-a")), Link(("nat-a", "alice"))]
    if theirs is None:
        links.append(Link(("nat-a", "bob")))
    else:
        nodes.append(Nat("nat-b", theirs))
        links += [Link((CORE, "nat-b")), Link(("nat-b", "bob"))]
    return Topology("t", tuple(nodes), tuple(links), dual_stack=True)


HOME, SYMMETRIC, HAIRPINS = (
    NatBehavior(ipv6=Ipv6Behavior.NAT64),
    NatBehavior(MappingBehavior.ADDRESS_AND_PORT_DEPENDENT, ipv6=Ipv6Behavior.NAT64),
    NatBehavior(hairpinning=Hairpinning.EXTERNAL_SOURCE, ipv6=Ipv6Behavior.NAT64),
)


@pytest.mark.nat64
@pytest.mark.parametrize(
    ("ours", "theirs", "expect"),
    [
        (HOME, HOME, Outcome.DIRECT),
        (SYMMETRIC, NatBehavior(), Outcome.RELAYED),
        (HAIRPINS, None, Outcome.DIRECT),
        (HOME, None, Outcome.RELAYED),
    ],
    ids=["nat64-to-nat64", "symmetric", "same-with-hairpins", "same-without"],
)
def test_peers_without_ipv4_end_as_predicted(
    ours: NatBehavior, theirs: NatBehavior | None, expect: Outcome, tmp_path: Path
) -> None:
    topology = two_homes(ours, theirs)
    assert predict(topology, "alice", "bob").outcome is expect
    steps = (WaitFor(settled=True), Transfer(TRANSFER_BYTES))
    scenario = Scenario("s", topology, "alice", "bob", "relay", expect, steps)
    result = base.run(scenario, run_dir=tmp_path, certify=False)
    assert (result.outcome, result.failure) == (expect, None)
    at_alice = [one for one in read(tmp_path / "capture.pcapng").frames if one.node == "alice"]
    kinds = {struct.unpack_from("!H", frame.data, 12)[0] for frame in at_alice}
    assert kinds == {_IPV6}


def test_without_tayga_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(nat64, "_WHERE", "/nowhere")
    with pytest.raises(BackendUnavailableError, match="sudo apt-get install tayga") as caught:
        Lab(TOPOLOGY).up()
    assert "\n" not in str(caught.value)


@pytest.mark.nat64
def test_a_translator_that_does_not_start_says_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "tayga"
    broken.write_text("#!/bin/sh\necho it is broken >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(QuicpipeLabError, match="tayga ended with status 1: it is broken"):
        Lab(TOPOLOGY).up()


@pytest.mark.nat64
def test_nothing_is_left(tmp_path: Path) -> None:
    before = sorted(os.listdir("/sys/class/net"))  # noqa: PTH208
    command = [sys.executable, "-m", "quicpipe_lab.cli", "scenario", "nat64-to-nat", "--json"]
    caller = Caller([*command, "--run-dir", str(tmp_path)], {})
    end_s = time.monotonic() + DEADLINE_S
    while not any(map(is_a_translator, caller.processes())):
        assert time.monotonic() < end_s
    said, _ = caller.process.communicate(timeout=60)
    assert json.loads(said)["ok"]
    assert not caller.processes()
    assert sorted(os.listdir("/sys/class/net")) == before  # noqa: PTH208


@pytest.mark.nat64
@pytest.mark.parametrize(
    ("node", "relay", "expected"),
    [
        ("alice", str(RELAY), (str(RELAY), "Nat64Socket", 0)),
        # As a name is resolved that DNS64 has made up an address for.
        ("alice", through_nat64(RELAY), (str(RELAY), "Nat64Socket", 0)),
        ("alice", RELAY_V6, (RELAY_V6, "socket", 1)),
        ("bob", str(RELAY), (str(RELAY), "socket", 1)),
    ],
    ids=["ipv4", "synthesised", "ipv6", "a-host-with-ipv4"],
)
def test_how_a_program_reaches_a_relay(
    lab: Lab, node: str, relay: str, expected: tuple[str, str, int]
) -> None:
    script = (
        "import sys; from quicpipe_lab.model.address import TransportAddress as A;"
        " from quicpipe_lab.shell.nat64 import open_towards;"
        f" any_host = '::' if ':' in '{relay}' else '0.0.0.0';"
        f" found, sock, hosts = open_towards(A('{relay}', 443), A(any_host, 0));"
        " print(found.host, type(sock).__name__, len(hosts)); sock.close()"
    )
    said = output_of(lab, node, [sys.executable, "-c", script])
    assert said.split() == [str(one) for one in expected]


@pytest.mark.nat64
def test_on_a_slow_line(tmp_path: Path) -> None:
    """The links of a home without IPv4 behave like any others."""
    line = LINKS["lte"]
    home = two_homes(HOME, NatBehavior())
    links = tuple(
        replace(one, towards_lower=line.down, towards_upper=line.up)
        if one.between in ((CORE, "nat-a"), ("nat-a", "alice"))
        else one
        for one in home.links
    )
    steps = (WaitFor(settled=True), Transfer(TRANSFER_BYTES))
    topology = replace(home, links=links)
    scenario = Scenario("s", topology, "alice", "bob", "relay", Outcome.DIRECT, steps)
    result = base.run(scenario, run_dir=tmp_path)
    assert (result.outcome, result.failure) == (Outcome.DIRECT, None)
    assert result.rtt_s.direct is not None
    assert result.rtt_s.direct > 0.1  # two of them, there and back
