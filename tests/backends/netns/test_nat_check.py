"""NATs certified on the real kernel; NATs that lie; our server and coturn, which must agree."""

import json
import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from quicpipe_lab.analysis.sentences import sentence
from quicpipe_lab.backends import base
from quicpipe_lab.backends.netns.certification import Certification
from quicpipe_lab.backends.netns.lab import Lab
from quicpipe_lab.backends.netns.nat_check import check_nats
from quicpipe_lab.model.check_topology import topology_of, with_shorter_lives
from quicpipe_lab.model.event import Event
from quicpipe_lab.model.firewall import FirewallBehavior, UdpPolicy
from quicpipe_lab.model.link import BurstLoss, LinkBehavior
from quicpipe_lab.model.nat import (
    FilteringBehavior,
    MappingBehavior,
    MappingRefresh,
    NatBehavior,
)
from quicpipe_lab.model.nat_certificate import Certificate
from quicpipe_lab.model.nat_measurement import Property
from quicpipe_lab.model.nat_presets import PRESETS
from quicpipe_lab.model.result import RunResult
from quicpipe_lab.model.scenario import Outcome, Scenario
from quicpipe_lab.model.topology import SERVICE_ADDRESSES, Firewall, Host, Link, Nat, Topology
from quicpipe_lab.model.vantage import vantage_points
from quicpipe_lab.resources import find_scenario
from tests.backends.nat_behaviors import (
    CELLS,
    FEW_MAPPINGS,
    LIES,
    OTHERS,
    PLAIN_LINUX,
    STACKED,
    assert_few_are_kept,
    differing,
    far,
    measured,
)
from tests.backends.netns.lying import make_lie
from tests.backends.netns.remote import output_of

pytestmark = pytest.mark.netns

EIM, ADM, APDM = MappingBehavior
EIF, ADF, APDF = FilteringBehavior
DEADLINE_S = 60.0
LIFETIME_S = 2.0


# NATs that are what they are declared to be


@pytest.fixture(scope="module")
def certificates() -> Mapping[str, Certificate]:
    """Of all that the lab has, at once."""
    behaviors = {**CELLS, **OTHERS, **{f"preset-{name}": one for name, one in PRESETS.items()}}
    return {one.nat: one for one in check_nats(topology_of(behaviors))}


@pytest.mark.parametrize("name", [*CELLS, *OTHERS, *(f"preset-{name}" for name in PRESETS)])
def test_certified_as_declared(certificates: Mapping[str, Certificate], name: str) -> None:
    certificate = certificates[name]
    assert differing(certificate) == set()
    assert certificate.host == f"{name}-a"
    always = {Property.MAPPING, Property.FILTERING, Property.SAME_PORT, Property.REJECTION}
    assert always <= {one.property for one in certificate.findings if one.ok}


def test_lifetimes_and_what_prolongs_them() -> None:
    """A lifetime takes as long as it does, so all that differ in it idle side by side."""
    refreshed_by = {
        "by-outbound": NatBehavior(),
        "by-both": NatBehavior(filtering=EIF, refresh=MappingRefresh.BOTH),
        "apdm": NatBehavior(APDM, APDF),
        "overloading": OTHERS["overloading"],
        "arbitrary": OTHERS["arbitrary"],
    }
    topology = topology_of(refreshed_by)
    short = with_shorter_lives(topology, NatBehavior().mapping_lifetime_s / LIFETIME_S)
    with Lab(short) as lab:
        honest = Certification(lab, lifetime=True).finish()
    for one in honest:
        assert differing(one) == set()
        by = refreshed_by[one.nat].refresh
        assert measured(one)[Property.REFRESH] == by.value
        assert Property.LIFETIME in {finding.property for finding in one.findings if finding.ok}


# NATs that lie


def built_and_declared(built: Topology, declared: Topology) -> list[Certificate]:
    """A lab of the one, whose caller believes that it is the other."""
    with Lab(built) as lab:
        lab.topology = declared
        return Certification(lab).finish()


def test_each_lie_is_found_and_no_other() -> None:
    built = topology_of({name: was for name, (was, _, _) in LIES.items()})
    declared = topology_of({name: said for name, (_, said, _) in LIES.items()})
    found = {one.nat: differing(one) for one in built_and_declared(built, declared)}
    assert found == {name: differences for name, (_, _, differences) in LIES.items()}


def test_a_lifetime_that_is_a_lie_is_found() -> None:
    short = topology_of({"nat": NatBehavior(mapping_lifetime_s=1.0)})
    with Lab(short) as lab:
        lab.topology = topology_of({"nat": NatBehavior(mapping_lifetime_s=2.0)})
        (certificate,) = Certification(lab, lifetime=True).finish()
    assert Property.LIFETIME in differing(certificate)


def test_a_router_that_lets_nothing_through_is_found() -> None:
    def firewall(policy: UdpPolicy) -> Topology:
        nodes = (Firewall("wall", FirewallBehavior(udp=policy)), Host("a"))
        return Topology("wall", nodes, (Link(("core", "wall")), Link(("wall", "a"))))

    (certificate,) = built_and_declared(firewall(UdpPolicy.BLOCKED), firewall(UdpPolicy.OPEN))
    assert not certificate.ok
    assert "external address is unknown" in (certificate.difference() or "")
    assert "does not answer" in (certificate.difference() or "")
    for built in (UdpPolicy.OPEN, UdpPolicy.BLOCKED):
        (certificate,) = built_and_declared(firewall(built), firewall(UdpPolicy.ONLY_443))
        assert measured(certificate) == {Property.UDP: built.value}
        assert differing(certificate) == {Property.UDP}


@pytest.mark.parametrize(
    "link",
    [
        LinkBehavior(delay_s=0.05),
        LinkBehavior(delay_s=0.02, jitter_s=0.01, loss=0.05, reorder=0.05, duplicate=0.05),
        LinkBehavior(delay_s=0.01, burst_loss=BurstLoss(enter=0.03, leave=0.15)),
    ],
    ids=["delayed", "lossy", "bursts"],
)
def test_links_that_take_time_or_lose_change_no_verdict(link: LinkBehavior) -> None:
    names = ["eim-apdf-endpoint", "apdm-adf-mapping", "adm-eif-endpoint"]
    topology = topology_of({name: CELLS[name] for name in names} | {"plain-linux": PLAIN_LINUX})
    certificates = check_nats(far(topology, link))
    assert {one.nat: differing(one) for one in certificates if not one.ok} == {}


def test_a_nat_with_few_mappings_keeps_them_for_the_lab() -> None:
    assert_few_are_kept(check_nats(topology_of(FEW_MAPPINGS)))


# More than one NAT on the way


def test_behind_several_nats_and_firewalls() -> None:
    assert vantage_points(STACKED)["carrier"] == ("a", None)
    assert vantage_points(STACKED)["twin-1"] == ("b", None)
    found = {one.nat: one for one in check_nats(STACKED)}
    assert {one.nat for one in found.values() if not one.ok} == set()

    strict = measured(found["strict"])
    assert found["strict"].through == ("strict", "carrier")
    assert (strict[Property.MAPPING], strict[Property.FILTERING]) == ("APDM", "ADF")
    assert strict[Property.FILTER_SCOPE] == "mapping"
    assert measured(found["twin-1"])[Property.PORT_ASSIGNMENT] == "sequential, step 1"
    assert measured(found["firewall"])[Property.EXTERNAL_ADDRESS] == str(
        STACKED.uplinks["d"].lower_address
    )
    assert measured(found["blocked"]) == {Property.UDP: "blocked"}
    assert measured(found["office"]) == {Property.UDP: "only-443"}
    assert found["lonely"].host is None


# Servers: our own, and coturn


@contextmanager
def _own_server(lab: Lab, _: Path) -> Iterator[None]:
    one, other = map(str, SERVICE_ADDRESSES)
    reader, writer = os.pipe()
    with os.fdopen(reader, encoding="utf-8") as output:
        server = lab.spawn(
            "core", ["quicpipe-lab", "_stun", "--host", one, "--host", other], stdout=writer
        )
        os.close(writer)
        assert output.readline() == "ready\n"
        yield
        server.send_signal(signal.SIGTERM)
        assert server.wait(DEADLINE_S) == 0


@contextmanager
def _coturn(lab: Lab, folder: Path) -> Iterator[None]:
    one, other = map(str, SERVICE_ADDRESSES)
    argv = ["turnserver", "-n", "--stun-only", "--listening-ip", one, "--listening-ip", other]
    argv += ["--listening-port", "3478", "--alt-listening-port", "3479"]
    argv += ["--no-cli", "--no-tls", "--no-dtls", "--log-file", "stdout"]
    argv += ["--pidfile", str(folder / "pid"), "--userdb", str(folder / "db")]
    with (folder / "log").open("wb") as log:
        server = lab.spawn("core", argv, stdout=log.fileno(), stderr=log.fileno())
        asking = ["quicpipe-lab", "nat-check", "--server", f"{one}:3478", "--json"]
        end_s = time.monotonic() + DEADLINE_S
        while lab.spawn("core", asking, stdout=log.fileno(), stderr=log.fileno()).wait(DEADLINE_S):
            assert time.monotonic() < end_s  # it does not listen yet
        yield
        server.send_signal(signal.SIGKILL)
        server.wait(DEADLINE_S)


@pytest.mark.coturn
def test_our_prober_says_the_same_of_coturn_and_of_our_own_server(tmp_path: Path) -> None:
    behaviors = {
        "eim-adf": NatBehavior(EIM, ADF),
        "adm-apdf": NatBehavior(ADM, APDF),
        "apdm-eif": NatBehavior(APDM, EIF),
        "plain": PLAIN_LINUX,
    }
    primary = f"{SERVICE_ADDRESSES[0]}:3478"
    said: dict[str, list[dict[str, Any]]] = {}
    with Lab(topology_of(behaviors)) as lab:
        for server in (_own_server, _coturn):
            with server(lab, tmp_path):
                for name in behaviors:
                    argv = ["quicpipe-lab", "nat-check", "--server", primary, "--json"]
                    report = json.loads(output_of(lab, f"{name}-a", argv))
                    assert report["other"] == f"{SERVICE_ADDRESSES[1]}:3479"
                    said.setdefault(name, []).append(
                        {one["property"]: one["measured"] for one in report["properties"]}
                    )
    for name, (own, coturn) in said.items():
        assert own == coturn
        behavior = behaviors[name]
        assert own[Property.MAPPING] == behavior.mapping
        assert own[Property.FILTERING] == behavior.filtering
    # It takes CHANGE-REQUEST and RESPONSE-PORT in one request to see this.
    assert said["plain"][1][Property.UNSOLICITED] == "moves the next mapping"


# Scenarios


def short_run(name: str) -> Scenario:
    """Up to the connection, and no further."""
    return replace(find_scenario(name), steps=(), expect=Outcome.RELAYED, direct_after_bytes=10**9)


def test_a_nat_of_one_port_is_not_measured_and_the_scenario_says_why(tmp_path: Path) -> None:
    """Its one mapping is the peer's."""
    scenario = find_scenario("nat-to-nat")
    narrow = Nat("nat-a", NatBehavior(port_range=(5000, 5000)))
    nodes = tuple(narrow if one.name == "nat-a" else one for one in scenario.topology.nodes)
    seen: list[Event] = []
    topology = replace(scenario.topology, nodes=nodes)
    result = base.run(replace(scenario, topology=topology), run_dir=tmp_path, observe=seen.append)
    assert result.ok, result.failure
    assert set(result.certified or {}) == {"nat-b"}
    said = [sentence(one) for one in seen if one.name in ("certified", "uncertified")]
    assert said == [
        "did not measure nat-a: port range 5000 to 5000: too few for the tests, which need 64"
        " mappings",
        "NATs measured, all as declared",
    ]


def test_what_would_take_a_run_too_long_is_not_measured_and_it_goes_on(tmp_path: Path) -> None:
    scenario = short_run("nat-to-nat")
    slow = far(scenario.topology, LinkBehavior(delay_s=1.6))
    seen: list[Event] = []
    base.run(
        replace(scenario, topology=slow, deadline_s=8.0), run_dir=tmp_path, observe=seen.append
    )
    doubts = [one.data["reason"] for one in seen if one.name == "uncertified"]
    assert len(doubts) == 2
    assert all("3.2 s over its links: too long to ask 16 in the 4 s" in one for one in doubts)
    assert "ready" in {one.name for one in seen}


def test_a_scenario_certifies_its_nats_and_keeps_the_verdict(tmp_path: Path) -> None:
    seen: list[str] = []
    result = base.run(
        short_run("nat-to-nat"), run_dir=tmp_path, observe=lambda event: seen.append(event.name)
    )
    assert result.ok, result.failure
    assert result.certified is not None
    assert {nat: one.ok for nat, one in result.certified.items()} == {"nat-a": True, "nat-b": True}
    verdict = result.certified["nat-a"]
    assert verdict.declared == verdict.measured
    assert verdict.measured[Property.MAPPING] == "EIM"
    assert seen.index("certified") < seen.index("ready")
    stored = RunResult.from_json(json.loads((tmp_path / "result.json").read_text()))
    assert stored == result


def test_a_scenario_without_certificate(tmp_path: Path) -> None:
    result = base.run(short_run("nat-to-nat"), run_dir=tmp_path, certify=False)
    assert result.ok, result.failure
    assert result.certified is None


def test_a_run_with_a_lying_nat_fails_before_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_lie("nat-b", NatBehavior(APDM, APDF), monkeypatch)
    seen: list[str] = []
    result = base.run(
        short_run("nat-to-nat"), run_dir=tmp_path, observe=lambda event: seen.append(event.name)
    )
    assert result.outcome is Outcome.FAILED
    assert not result.ok
    assert result.failure == "nat-b is not what it is declared to be: mapping is APDM and not EIM"
    assert result.certified is not None
    assert {nat: one.ok for nat, one in result.certified.items()} == {"nat-a": True, "nat-b": False}
    assert "ready" not in seen
