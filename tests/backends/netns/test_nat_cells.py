"""Every NAT that can be declared, probed with real sockets as RFC 5780 section 4 does.

One lab has a home for each behaviour, and two hosts outside that serve as the two addresses of
RFC 5780's server.
"""

import itertools
import socket

import pytest

from quicpipe_lab.model.nat import (
    FilteringBehavior,
    FilterScope,
    MappingBehavior,
    NatBehavior,
    PortAssignment,
)
from quicpipe_lab.model.topology import Host, Link, Nat, Topology
from tests.backends.netns.remote import IP_RECVERR, Sockets, port_of, take_all

pytestmark = pytest.mark.netns

CELLS = [
    NatBehavior(*cell)
    for cell in itertools.product(
        MappingBehavior,
        FilteringBehavior,
        (PortAssignment.PRESERVING, PortAssignment.RANDOM),
    )
]
# The scope of the filter matters where an endpoint has several mappings.
CELLS += [
    NatBehavior(mapping, filtering, filter_scope=FilterScope.MAPPING)
    for mapping in list(MappingBehavior)[1:]
    for filtering in list(FilteringBehavior)[1:]
]
EIM, ADM, APDM = MappingBehavior
EIF, ADF, APDF = FilteringBehavior


def home_of(behavior: NatBehavior) -> str:
    scope = "-m" if behavior.filter_scope is FilterScope.MAPPING else ""
    return f"{behavior}-{behavior.port_assignment}{scope}".replace("/", "-").lower()


def _topology() -> Topology:
    nodes: list[Host | Nat] = [Host("one"), Host("two")]
    links = [Link(("core", "one")), Link(("core", "two"))]
    for behavior in CELLS:
        home = home_of(behavior)
        nodes += [Nat(f"n-{home}", behavior), Host(f"a-{home}"), Host(f"b-{home}")]
        links.append(Link(("core", f"n-{home}")))
        links += [Link((f"n-{home}", f"{host}-{home}")) for host in "ab"]
    return Topology("cells", tuple(nodes), tuple(links))


TOPOLOGY = _topology()
ONE, TWO = (str(TOPOLOGY.uplinks[name].lower_address) for name in ("one", "two"))


class Probe:
    """Two hosts outside with two ports each, and an inside socket behind the NAT in question."""

    def __init__(self, sockets: Sockets, behavior: NatBehavior) -> None:
        self.sockets = sockets
        self.home = home_of(behavior)
        self.inside = sockets.udp(f"a-{self.home}")
        self.wan = str(TOPOLOGY.uplinks[f"n-{self.home}"].lower_address)
        self.servers = {
            (host, index): sockets.udp(name)
            for host, name in ((ONE, "one"), (TWO, "two"))
            for index in (0, 1)
        }

    def external_port(self, server: tuple[str, int], inside: socket.socket | None = None) -> int:
        """What port the server sees a datagram from inside come from."""
        target = (server[0], port_of(self.servers[server]))
        (inside or self.inside).sendto(b"out", target)
        _, (host, port) = self.servers[server].recvfrom(2048)
        assert host == self.wan
        return int(port)

    def arrives(self, server: tuple[str, int], port: int) -> bool:
        """Whether a datagram from a server comes in through an external port.

        Server (ONE, 0) is let in by every NAT: its datagram comes behind and says when to look.
        """
        self.servers[server].sendto(b"probe", (self.wan, port))
        self.servers[ONE, 0].sendto(b"fence", (self.wan, port))
        came = [self.inside.recv(2048)]
        while came[-1] != b"fence":
            came.append(self.inside.recv(2048))
        assert take_all(self.inside) == []
        return came == [b"probe", b"fence"]


@pytest.mark.parametrize("behavior", CELLS, ids=home_of)
def test_mapping(sockets: Sockets, behavior: NatBehavior) -> None:
    probe = Probe(sockets, behavior)
    ports = [probe.external_port((host, index)) for host in (ONE, TWO) for index in (0, 1)]
    distinct = {
        EIM: [[0, 1, 2, 3]],
        ADM: [[0, 1], [2, 3]],
        APDM: [[0], [1], [2], [3]],
    }
    groups = [[i for i, port in enumerate(ports) if port == one] for one in dict.fromkeys(ports)]
    assert groups == distinct[behavior.mapping]
    again = [probe.external_port((host, index)) for host in (ONE, TWO) for index in (0, 1)]
    assert again == ports


@pytest.mark.parametrize("behavior", CELLS, ids=home_of)
def test_filtering(sockets: Sockets, behavior: NatBehavior) -> None:
    strangers = {(ONE, 1): (EIF, ADF), (TWO, 0): (EIF,), (TWO, 1): (EIF,)}
    for stranger, let_in_by in strangers.items():
        probe = Probe(sockets, behavior)  # RFC 5780 4.4: the test before spoils the next one
        port = probe.external_port((ONE, 0))
        assert probe.arrives(stranger, port) is (behavior.filtering in let_in_by), stranger
        assert probe.external_port((ONE, 0)) == port


@pytest.mark.parametrize("behavior", CELLS, ids=home_of)
def test_whom_the_filter_lets_in_by_another_mapping(
    sockets: Sockets, behavior: NatBehavior
) -> None:
    """RFC 4787 section 5: whom the inside endpoint has sent to counts, by whichever mapping.

    Or by this mapping only, where that is the filter's scope.
    """
    probe = Probe(sockets, behavior)
    port = probe.external_port((ONE, 0))
    probe.external_port((TWO, 0))
    assert probe.arrives((TWO, 0), port) is (behavior.filter_scope is FilterScope.ENDPOINT)


@pytest.mark.parametrize("behavior", CELLS, ids=home_of)
def test_unsolicited_datagram_has_no_effect(sockets: Sockets, behavior: NatBehavior) -> None:
    """Neither an ICMP error nor a conntrack entry that takes the port away."""
    probe = Probe(sockets, behavior)
    wanted = port_of(probe.inside)
    stranger = probe.servers[TWO, 0]
    stranger.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
    stranger.sendto(b"unsolicited", (probe.wan, wanted))
    port = probe.external_port((TWO, 0))
    if behavior.port_assignment is PortAssignment.PRESERVING:
        assert port == wanted
    assert stranger.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    assert take_all(probe.inside) == []


@pytest.mark.parametrize("behavior", [one for one in CELLS if one.filtering is EIF], ids=home_of)
def test_answer_to_a_stranger_is_mapped_like_any_packet(
    sockets: Sockets, behavior: NatBehavior
) -> None:
    probe = Probe(sockets, behavior)
    port = probe.external_port((ONE, 0))
    assert probe.arrives((TWO, 0), port)
    assert (probe.external_port((TWO, 0)) == port) is (behavior.mapping is EIM)


@pytest.mark.parametrize("behavior", CELLS, ids=home_of)
def test_two_inside_hosts_with_one_port_do_not_share_an_external_one(
    sockets: Sockets, behavior: NatBehavior
) -> None:
    """RFC 4787 REQ-3, even where the destinations differ."""
    probe = Probe(sockets, behavior)
    other = sockets.udp(f"b-{probe.home}", port_of(probe.inside))
    first = probe.external_port((ONE, 0))
    second = probe.external_port((TWO, 0), inside=other)
    assert first != second
    probe.servers[ONE, 0].sendto(b"to the first", (probe.wan, first))
    assert probe.inside.recv(2048) == b"to the first"
    probe.servers[TWO, 0].sendto(b"to the second", (probe.wan, second))
    assert other.recv(2048) == b"to the second"


@pytest.mark.parametrize("behavior", CELLS, ids=home_of)
def test_port_assignment(sockets: Sockets, behavior: NatBehavior) -> None:
    preserved = []
    for _ in range(3):
        probe = Probe(sockets, behavior)
        preserved.append(probe.external_port((ONE, 0)) == port_of(probe.inside))
    if behavior.port_assignment is PortAssignment.PRESERVING:
        assert all(preserved)
    else:
        assert not all(preserved)
