"""Several external addresses, and who has which (RFC 4787, 4.1 and REQ-2)."""

import pytest

from quicpipe_lab.model.nat import (
    AddressPooling,
    FilteringBehavior,
    MappingBehavior,
    NatBehavior,
    PortAssignment,
)
from tests.backends.netns.nat_scene import Home, homes
from tests.backends.netns.remote import DEADLINE_S, Sockets, port_of

pytestmark = pytest.mark.netns

EIM, ADM, APDM = MappingBehavior
EIF, ADF, APDF = FilteringBehavior
PAIRED, ARBITRARY = AddressPooling
SEVERAL = 3

BEHAVIORS = {
    "paired": NatBehavior(external_addresses=SEVERAL),
    "paired-apdm": NatBehavior(APDM, ADF, external_addresses=SEVERAL),
    "arbitrary": NatBehavior(filtering=EIF, external_addresses=SEVERAL, pooling=ARBITRARY),
    "arbitrary-apdm": NatBehavior(APDM, external_addresses=SEVERAL, pooling=ARBITRARY),
    "preserving": NatBehavior(
        port_assignment=PortAssignment.PRESERVING, external_addresses=SEVERAL
    ),
    "block": NatBehavior(
        port_assignment=PortAssignment.BLOCK, port_block_size=128, external_addresses=SEVERAL
    ),
}
TOPOLOGY = homes(BEHAVIORS)


@pytest.mark.parametrize("name", ["paired", "paired-apdm", "preserving", "block"])
def test_paired(sockets: Sockets, name: str) -> None:
    """An inside address has one external address, whatever the port and the destination."""
    home = Home(sockets, TOPOLOGY, name)
    used: list[str] = []
    for host in (home.a, home.b):
        inside = [host() for _ in range(4)]
        seen = {home.external(one, server)[0] for one in inside for server in (home.one, home.two)}
        assert len(seen) == 1
        used += seen
    assert used == home.addresses[:2]


def test_paired_holds_for_tcp(sockets: Sockets) -> None:
    """REQ-2: for all sessions of an inside address."""
    home = Home(sockets, TOPOLOGY, "paired")
    listener = sockets.tcp("one")
    listener.listen()
    client = sockets.tcp(f"b-{home.name}")
    client.connect((home.at(home.one)[0], port_of(listener)))
    served, (host, _) = listener.accept()
    with served:
        served.settimeout(DEADLINE_S)
        served.sendall(b"hello")
        assert client.recv(100) == b"hello"
    assert host == home.external(home.b(), home.one)[0] == home.addresses[1]


def test_arbitrary(sockets: Sockets) -> None:
    """Each mapping has the next address, and keeps it."""
    home = Home(sockets, TOPOLOGY, "arbitrary")
    inside = [home.a() for _ in range(2 * SEVERAL)]
    external = [home.external(one, home.one) for one in inside]
    used = [address for address, _ in external]
    assert set(used) == set(home.addresses)
    assert used[:SEVERAL] == used[SEVERAL:]
    assert [home.external(one, home.two) for one in inside] == external
    for one, seen in zip(inside, external, strict=True):
        home.two.sendto(b"a stranger's", seen)
        assert one.recv(100) == b"a stranger's"


def test_arbitrary_by_destination(sockets: Sockets) -> None:
    home = Home(sockets, TOPOLOGY, "arbitrary-apdm")
    inside = home.a()
    servers = [sockets.udp("one") for _ in range(SEVERAL)]
    host = home.at(home.one)[0]
    used = []
    for server in servers:
        inside.sendto(b"out", (host, port_of(server)))
        _, seen = server.recvfrom(100)
        server.sendto(b"back", seen)
        assert inside.recvfrom(100) == (b"back", (host, port_of(server)))
        used.append(seen[0])
    assert sorted(used) == sorted(home.addresses)


def test_the_same_port_at_two_addresses(sockets: Sockets) -> None:
    """Both hosts keep their ports, each at its own address; one filter does not serve the other."""
    home = Home(sockets, TOPOLOGY, "preserving")
    a = home.a()
    b = home.b(port_of(a))
    to_a, to_b = home.external(a, home.one), home.external(b, home.two)
    assert to_a == (home.addresses[0], port_of(a))
    assert to_b == (home.addresses[1], port_of(a))
    home.one.sendto(b"to a", to_a)
    home.two.sendto(b"to b", to_b)
    home.two.sendto(b"stranger", to_a)
    assert (a.recv(100), b.recv(100)) == (b"to a", b"to b")
    assert not home.gets_in(home.two, a, to_a)


def test_blocks_at_several_addresses(sockets: Sockets) -> None:
    """RFC 7422: addresses are filled side by side, so both hosts have the first block."""
    home = Home(sockets, TOPOLOGY, "block")
    for host in (home.a, home.b):
        assert 1024 <= home.port(host(), home.one) < 1024 + 128
