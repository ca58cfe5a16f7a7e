"""What NATs remembered: derived from real runs and from packets made for it, and its picture."""

from dataclasses import replace

import pytest

from quicpipe_lab.analysis.nat_tables import router_lives
from quicpipe_lab.analysis.packets import Packet
from quicpipe_lab.analysis.plots.nat_tables import nat_tables
from quicpipe_lab.errors import QuicpipeLabError
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.model.nat import MappingRefresh, NatBehavior
from quicpipe_lab.model.topology import Host, Link, Nat, Relay, Topology
from tests.analysis.plots.legible import assert_legible
from tests.real_runs import Runs

REAL = ("nat-to-nat", "symmetric-to-symmetric", "direct-dies", "three-layers", "udp-blocked")


@pytest.mark.netns
@pytest.mark.parametrize("name", REAL)
def test_real_runs_are_legible(name: str, real_run: Runs) -> None:
    real = real_run(name)
    words = assert_legible(nat_tables(real.run, real.packets, dark=name == "direct-dies"))
    seen = [event.data["observed"] for event in real.run.named("relay-registered")]
    for observed in seen:
        assert any(str(observed) in one for one in words)


@pytest.mark.netns
def test_mappings_are_those_that_the_relay_saw(real_run: Runs) -> None:
    """EIM: one mapping for all. APDM: one for each remote; what comes to the first is refused."""
    for name, mappings in (("nat-to-nat", 1), ("symmetric-to-symmetric", 2)):
        real = real_run(name)
        lives = router_lives(real.run.scenario.topology, real.packets)
        assert [life.name for life in lives] == ["nat-a", "nat-b"]
        for life, peer in zip(lives, ("alice", "bob"), strict=True):
            # The first of them: after a punch that fails they register again, from where they are.
            registered = real.run.named("relay-registered", peer)[0]
            first = life.mappings[0]
            assert len(life.mappings) == mappings
            assert str(first.external) == registered.data["observed"]
            assert "198.18.0.6:443" in first.permissions
            assert first.born_s < registered.t_s
            assert first.refreshed_s == sorted(first.refreshed_s)
            assert bool(first.refused_s) or name == "nat-to-nat"


ALICE, RELAY = TransportAddress("192.168.0.6", 5000), TransportAddress("198.18.0.6", 443)
OUTSIDE, STRANGER = TransportAddress("198.18.0.10", 40000), TransportAddress("198.18.0.14", 9)


def _tree(behavior: NatBehavior) -> Topology:
    links = (Link(("core", "relay")), Link(("core", "nat")), Link(("nat", "alice")))
    return Topology("t", (Host("alice"), Relay("relay"), Nat("nat", behavior)), links)


class _Traffic:
    def __init__(self) -> None:
        self.packets: list[Packet] = []

    def _add(self, t_s: float, journey: int, side: str, way: str, *ends: TransportAddress) -> None:
        source, destination = ends
        packet = Packet(
            *(t_s, "nat", side, way, "punch", source, destination, 26, 64, None, None),  # type: ignore[arg-type]
            *((), None, None, "alice~relay", journey, 0, None, round(t_s * 1e9)),
        )
        self.packets.append(packet)

    def out(self, t_s: float, remote: TransportAddress) -> None:
        journey = len(self.packets)
        self._add(t_s, journey, "alice", "in", ALICE, remote)
        self._add(t_s, journey, "core", "out", OUTSIDE, remote)

    def back(self, t_s: float, remote: TransportAddress, *, passes: bool) -> None:
        journey = len(self.packets)
        self._add(t_s, journey, "core", "in", remote, OUTSIDE)
        if passes:
            self._add(t_s, journey, "alice", "out", remote, ALICE)


@pytest.mark.parametrize(
    ("refresh", "ends_s"), [(MappingRefresh.OUTBOUND, 12.0), (MappingRefresh.BOTH, 13.0)]
)
def test_births_refreshes_refusals_and_ends(refresh: MappingRefresh, ends_s: float) -> None:
    traffic = _Traffic()
    traffic.back(0.5, STRANGER, passes=False)  # before there is any mapping
    traffic.out(1.0, RELAY)
    traffic.out(2.0, RELAY)
    traffic.back(3.0, RELAY, passes=True)
    traffic.back(4.0, STRANGER, passes=False)
    traffic.out(20.0, RELAY)  # the first has ended: this is another
    (life,) = router_lives(
        _tree(NatBehavior(mapping_lifetime_s=10.0, refresh=refresh)), traffic.packets
    )
    first, second = life.mappings
    assert life.stopped_s == [0.5]
    assert (first.born_s, first.ends_s, first.refused_s) == (1.0, ends_s, [4.0])
    assert first.permissions[str(RELAY)].sent_s == [1.0, 2.0]
    assert (second.born_s, second.ends_s) == (20.0, 30.0)


@pytest.mark.netns
def test_where_no_router_saw_a_packet_there_is_no_picture(real_run: Runs) -> None:
    real = real_run("nat-to-nat")
    with pytest.raises(QuicpipeLabError, match="no packet came"):
        nat_tables(real.run, [])
    # Many mappings are not all shown.
    external = [TransportAddress("198.18.0.10", port) for port in range(2000, 2040)]
    many = []
    for number, address in enumerate(external):
        traffic = _Traffic()
        traffic.out(1.0 + number / 100, RELAY)
        came, left = (one._replace(node="nat-a", journey=number) for one in traffic.packets)
        many += [came, left._replace(source=address)]
    words = assert_legible(nat_tables(replace(real.run, events=()), many))
    assert "and 28 more mappings" in words


@pytest.mark.netns
def test_of_whom_a_port_search_has_asked_the_first_are_shown_and_who_answered(
    real_run: Runs,
) -> None:
    real = real_run("nat-to-nat")
    traffic = _Traffic()
    for port in range(3000, 5000):
        traffic.out(1.0 + port / 1000, TransportAddress("198.18.0.14", port))
    traffic.out(7.0, TransportAddress("198.18.0.14", 4321))
    packets = [one._replace(node="nat-a") for one in traffic.packets]
    words = assert_legible(nat_tables(replace(real.run, events=()), packets))
    allowed = [one for one in words if one.startswith("lets in")]
    ports = [*range(3000, 3011), 4321]
    assert allowed == [f"lets in 198.18.0.14:{port}" for port in ports]
    assert "and lets in 1988 more" in words
