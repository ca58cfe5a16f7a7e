"""IPv6 beside IPv4, in virtual time: routed, NPTv6 (RFC 6296), NAT66, and none."""

from ipaddress import IPv6Address

import pytest

from quicpipe_lab.model.address import TransportAddress
from tests.backends.dual_stack import ADDRESSES, TOPOLOGY, address
from tests.backends.sim.home import Socket
from tests.backends.sim.wiring import Wiring


class Six(Wiring):
    """Sockets over IPv6."""

    def __init__(self) -> None:
        super().__init__(TOPOLOGY)
        self.server, self.stranger = self.udp6("server"), self.udp6("stranger")

    def udp6(self, name: str, port: int = 0) -> Socket:
        """At the node's own address, as the model has it."""
        return self.udp(name, port, address(name))

    def external(self, inside: Socket) -> TransportAddress:
        """As the server sees it."""
        seen = self.passes(inside, self.server)
        assert seen is not None
        return seen


@pytest.mark.parametrize("name", ["a-routed", "a-inner"])
def test_routed_behind_a_stateful_firewall(name: str) -> None:
    six = Six()
    inside = six.udp6(name)
    assert not six.passes(six.stranger, inside)
    assert six.external(inside) == inside.address
    assert not six.passes(six.stranger, inside)
    assert six.passes(six.server, inside) == six.server.address


def test_filtering_is_the_nats() -> None:
    six = Six()
    inside = six.udp6("a-open")
    assert not six.passes(six.stranger, inside)
    assert six.external(inside) == inside.address
    assert six.passes(six.stranger, inside)


def test_nptv6_whoever_begins() -> None:
    six = Six()
    _, outside = ADDRESSES.prefixes("prefix")
    inside = six.udp6("b-prefix")
    theirs = TransportAddress(str(ADDRESSES.seen_as("b-prefix")), inside.address.port)
    assert IPv6Address(theirs.host) in outside
    assert six.passes(six.stranger, inside, theirs) == six.stranger.address
    assert six.external(inside) == theirs
    assert six.passes(six.server, inside, theirs) == six.server.address


def test_nptv6_hairpin_and_what_lies_behind_a_firewall() -> None:
    """RFC 6296, 4.3: both ends show their outside prefix."""
    six = Six()
    a, b = six.udp6("a-prefix"), six.udp6("b-prefix")
    to_a, to_b = six.external(a), six.external(b)
    assert six.passes(a, b, to_b) == to_a
    assert six.passes(b, a, to_a) == to_b
    assert six.passes(b, a, six.udp6("a-prefix").address) is None, "another port"


def test_nptv6_and_icmp_errors() -> None:
    """What they quote is translated as well (RFC 6296 leaves it to RFC 5508's like)."""
    six = Six()
    inside = six.udp6("b-prefix")
    inside.send(b"?", TransportAddress(six.server.address.host, 9))
    six.clock.run(six.clock.now)
    (error,) = inside.errors
    assert (error.type, error.code) == (1, 4)
    to = six.external(inside)
    inside.close()
    six.server.send(b"?", to)
    six.clock.run(six.clock.now)
    (error,) = six.server.errors
    assert (error.source, error.type, error.code) == (to.host, 1, 4)


def test_nat66_is_plain_masquerading() -> None:
    six = Six()
    a, b = six.udp6("a-masks", 5000), six.udp6("b-masks", 5000)
    masks = address("masks")
    assert six.external(a) == (masks, 5000)
    moved = six.external(b)
    assert moved.host == masks
    assert moved.port != 5000
    assert not six.passes(six.stranger, a, TransportAddress(masks, 5000))
    assert [(one.type, one.code) for one in six.stranger.errors] == [(1, 4)]
    assert six.passes(six.server, a, TransportAddress(masks, 5000))
    assert six.passes(six.server, b, moved)
    table = six.network.nat("masks").table(six.clock.now, version=6)
    assert [one.inside for one in table.mappings] == [a.address, b.address]


def test_no_ipv6_behind_a_router_without() -> None:
    six = Six()
    assert len(six.network.host("a-without").addresses) == 1
    with pytest.raises(OSError, match="no route"):
        six.udp("a-without").send(b"out", six.server.address)
    with pytest.raises(OSError, match="no route"):
        six.udp("a-without").send(b"out", TransportAddress("ff02::1", 9))
    assert six.passes(six.udp("a-without"), six.udp("server"))


@pytest.mark.parametrize("name", ["a-routed", "b-prefix", "a-masks", "a-inner"])
def test_one_socket_has_both_families(name: str) -> None:
    six = Six()
    inside = six.udp(name)
    server4 = six.udp("server")
    assert six.passes(inside, six.server)
    assert six.passes(inside, server4)
    v6 = TransportAddress(six.server.address.host, server4.address.port)
    assert six.passes(inside, server4, v6)


def test_a_cut_cuts_both() -> None:
    six = Six()
    inside = six.udp6("a-routed")
    six.network.cut("a-routed", "server")
    assert not six.passes(inside, six.server)
    six.network.restore("a-routed", "server")
    assert six.passes(inside, six.server)
