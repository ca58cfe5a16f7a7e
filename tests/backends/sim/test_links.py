"""Links, routers and captures in virtual time: exact, as nothing else runs meanwhile."""

from dataclasses import replace
from math import inf

import pytest

from quicpipe_lab.backends.sim.packet import FIRST_TTL, Echo, IcmpError, Udp, size_bytes
from quicpipe_lab.errors import LocalProtocolError, UnsupportedBehaviorError
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.model.link import LinkBehavior
from quicpipe_lab.model.link_model import Drop, LinkModel
from quicpipe_lab.model.link_presets import PRESETS
from quicpipe_lab.model.nat import NatBehavior
from quicpipe_lab.model.nat_presets import PRESETS as NAT_PRESETS
from quicpipe_lab.model.topology import Firewall, Host, Link, Nat, Topology
from quicpipe_lab.resources import find_topology, topology_names
from tests.backends.sim.home import Socket
from tests.backends.sim.wiring import Wiring

UDP_OVERHEAD_BYTES = 28


def pair(down: LinkBehavior, up: LinkBehavior | None = None) -> Wiring:
    """``a`` on a plain cable, ``b`` on a link that behaves."""
    links = (Link(("core", "a")), Link(("core", "b"), down, up or LinkBehavior()))
    return Wiring(Topology("pair", (Host("a"), Host("b")), links))


def arrivals(wiring: Wiring, target: Socket) -> list[tuple[float, bytes]]:
    """When what came to a node, from its capture."""
    return [
        (frame.time_s, frame.packet.data)
        for frame in wiring.frames
        if frame.node == "b" and frame.direction == "in" and isinstance(frame.packet, Udp)
        if frame.packet.destination == target.address
    ]


def test_delay_is_exact() -> None:
    wiring = pair(LinkBehavior(delay_s=0.125), LinkBehavior(delay_s=0.25))
    a, b = wiring.udp("a"), wiring.udp("b")
    a.send(b"there", b.address)
    wiring.clock.run_until(lambda: bool(b.came), inf)
    assert wiring.clock.now == 0.125
    b.send(b"back", a.address)
    wiring.clock.run_until(lambda: bool(a.came), inf)
    assert wiring.clock.now == 0.375


@pytest.mark.parametrize("name", ["wifi", "lte", "geo-satellite", "dsl"])
@pytest.mark.parametrize("seed", [1, 2])
def test_fates_are_those_of_the_link_model(name: str, seed: int) -> None:
    """The very model that the netns backend's wire runs, with the same seeds."""
    behavior = replace(PRESETS[name].down, loss=0.1, duplicate=0.1, reorder=0.1)
    topology = pair(behavior).topology
    wiring = Wiring(topology, seed)
    model = LinkModel(behavior, f"{seed}/b/down")
    a, b = wiring.udp("a"), wiring.udp("b")
    wanted = []
    for number in range(500):
        data = number.to_bytes(2, "big") + bytes(number)
        wiring.clock.run(number * 0.001)
        a.send(data, b.address)
        fates = model.admit(len(data) + UDP_OVERHEAD_BYTES, wiring.clock.now)
        wanted += [(fate.out_s, data) for fate in fates if fate.out_s is not None]
    wiring.clock.run(1e6)
    assert arrivals(wiring, b) == sorted(wanted, key=lambda one: one[0])
    assert wiring.network.link_counters()["core", "b"] == model.counters
    assert model.counters.dropped[Drop.LOSS] > 0


def test_a_long_packet_is_dropped_in_silence() -> None:
    """RFC 2923's black hole; and what no interface carries is refused."""
    wiring = pair(LinkBehavior(mtu_bytes=1000))
    a, b = wiring.udp("a"), wiring.udp("b")
    assert wiring.passes(a, b)
    a.send(bytes(1001 - UDP_OVERHEAD_BYTES), b.address)
    a.send(bytes(1000 - UDP_OVERHEAD_BYTES), b.address)
    wiring.clock.run(1.0)
    assert [len(data) for data, _ in b.came[1:]] == [1000 - UDP_OVERHEAD_BYTES]
    assert not a.errors
    assert wiring.network.link_counters()["core", "b"].dropped[Drop.MTU] == 1
    with pytest.raises(UnsupportedBehaviorError, match="mtu_bytes of 9000"):
        pair(LinkBehavior(mtu_bytes=9000))


def test_a_flipped_bit_is_noticed() -> None:
    """By the next router, or by the receiver; a datagram is never handed over with it."""
    wiring = pair(LinkBehavior(corrupt=1.0))
    a, b = wiring.udp("a"), wiring.udp("b")
    for _ in range(50):
        assert wiring.passes(a, b) is None
    flipped = [frame.packet for frame in wiring.frames if frame.packet.flipped_bits]
    assert len(flipped) == 50
    assert all(0 <= one.flipped_bits[0] < 8 * size_bytes(one) for one in flipped)


def test_a_link_is_changed_while_it_runs() -> None:
    wiring = pair(LinkBehavior())
    network, a, b = wiring.network, wiring.udp("a"), wiring.udp("b")
    assert wiring.passes(a, b)
    network.set_link("core", "b", LinkBehavior(loss=1.0), LinkBehavior(delay_s=1.0))
    assert not wiring.passes(a, b)
    assert not wiring.passes(b, a)
    wiring.clock.run(1.0)
    assert len(a.came) == 1
    network.set_link("b", "core", LinkBehavior())
    assert wiring.passes(a, b)
    with pytest.raises(LocalProtocolError, match="plain cable"):
        network.set_link("a", "core", LinkBehavior())
    with pytest.raises(LocalProtocolError, match="no link between"):
        network.set_link("a", "b", LinkBehavior())
    with pytest.raises(UnsupportedBehaviorError, match="mtu_bytes"):
        network.set_link("b", "core", LinkBehavior(mtu_bytes=1501))
    assert list(network.link_counters()) == [("core", "b"), ("b", "core")]


CUTS = Topology(
    "cuts",
    (Host("server"), Nat("nat"), Host("a"), Host("b"), Firewall("wall"), Host("c")),
    tuple(
        Link(ends)
        for ends in (
            ("core", "server"),
            ("core", "nat"),
            ("nat", "a"),
            ("nat", "b"),
            ("core", "wall"),
            ("wall", "c"),
        )
    ),
)


@pytest.mark.parametrize(
    ("cut", "dead"),
    [
        (("a", "server"), {"a", "b"}),  # they part at the core, and share the way to it
        (("a", "nat"), {"a"}),
        (("nat", "core"), {"a", "b"}),
        (("a", "b"), set[str]()),
        (("c", "wall"), {"c"}),
        (("core", "server"), {"a", "b", "c"}),
    ],
)
def test_cuts(cut: tuple[str, str], dead: set[str]) -> None:
    wiring = Wiring(CUTS)
    server = wiring.udp("server")
    hosts = {name: wiring.udp(name) for name in ("a", "b", "c")}
    wiring.network.cut(*cut)
    assert {name for name, one in hosts.items() if not wiring.passes(one, server)} == dead
    wiring.network.restore(*reversed(cut))
    assert all(wiring.passes(one, server) for one in hosts.values())
    with pytest.raises(LocalProtocolError, match="not cut off"):
        wiring.network.restore(*cut)
    with pytest.raises(LocalProtocolError, match="there is no node"):
        wiring.network.cut("a", "nobody")


def test_a_cut_between_hosts_of_a_home_is_no_cut_of_its_uplink() -> None:
    wiring = Wiring(CUTS)
    a, b = wiring.udp("a"), wiring.udp("b")
    assert wiring.passes(a, b) == a.address
    wiring.network.cut("a", "b")
    assert not wiring.passes(a, b)
    assert not wiring.passes(b, a)


def test_ttl_and_where_a_packet_is_seen() -> None:
    """At every interface that it crosses, as a capture of the kernel's lab has it."""
    wiring = Wiring(CUTS)
    a, server = wiring.udp("a"), wiring.udp("server")
    wiring.passes(a, server)
    seen = [(f.node, f.interface, f.direction, f.packet.ttl) for f in wiring.frames]
    assert seen == [
        ("a", "nat", "out", FIRST_TTL),
        ("nat", "a", "in", FIRST_TTL),
        ("nat", "core", "out", FIRST_TTL - 1),
        ("core", "nat", "in", FIRST_TTL - 1),
        ("core", "server", "out", FIRST_TTL - 2),
        ("server", "core", "in", FIRST_TTL - 2),
    ]


def test_a_host_talks_to_itself() -> None:
    wiring = Wiring(CUTS)
    one, other = wiring.udp("a"), wiring.udp("a")
    assert wiring.passes(one, other) == one.address
    loop = TransportAddress("127.0.0.1", other.address.port)
    assert wiring.passes(one, other, loop) == ("127.0.0.1", one.address.port)
    assert {(frame.node, frame.interface) for frame in wiring.frames} == {("a", "lo")}


def test_what_leads_nowhere() -> None:
    """No route, nobody there, nobody listening: what the sender hears of each."""
    wiring = Wiring(CUTS)
    a, c = wiring.udp("a"), wiring.udp("c")
    server = wiring.address("server")
    for sock, to, heard in (
        (a, TransportAddress(server, 9), (3, 3, server)),
        (c, TransportAddress(server, 9), (3, 3, server)),
        (a, TransportAddress("203.0.113.1", 9), (3, 0, "198.18.0.9")),
        (a, TransportAddress("224.0.0.1", 9), None),
        (a, TransportAddress("192.168.0.7", 9), None),  # the link's broadcast address
    ):
        sock.errors.clear()
        sock.send(b"?", to)
        wiring.clock.run(wiring.clock.now)
        said = [(one.type, one.code, one.source) for one in sock.errors]
        assert said == ([] if heard is None else [heard]), to
        assert all(
            isinstance(one.about, Udp) and one.about.source == sock.address for one in sock.errors
        )


def test_sockets_and_their_ports() -> None:
    wiring = Wiring(CUTS)
    one = wiring.udp("a", 5000)
    with pytest.raises(OSError, match="in use"):
        wiring.udp("a", 5000)
    with pytest.raises(OSError, match="in use"):
        wiring.udp("a", 5000, wiring.address("a"))
    with pytest.raises(OSError, match="does not have"):
        wiring.udp("a", 5001, "192.0.2.1")
    one.close()
    with pytest.raises(OSError, match="closed"):
        one.send(b"?", one.address)
    again = wiring.udp("a", 5000)
    assert again.address == (wiring.address("a"), 5000)
    assert wiring.udp("a").address.port != wiring.udp("a").address.port
    with pytest.raises(LocalProtocolError, match="did you mean 'server'"):
        wiring.network.host("sever")
    with pytest.raises(LocalProtocolError, match="no NAT or firewall 'a'"):
        wiring.network.router("a")


def test_what_was_sent_before_a_socket_was_closed_is_not_handed_over() -> None:
    wiring = pair(LinkBehavior(delay_s=1.0))
    a, b = wiring.udp("a"), wiring.udp("b")
    a.send(b"late", b.address)
    wiring.clock.run(0.5)
    b.close()
    wiring.clock.run(2.0)
    assert not b.came
    assert len(a.errors) == 1


def test_pings() -> None:
    wiring = Wiring(CUTS)
    replies: dict[str, list[Echo]] = {"a": [], "b": [], "c": []}
    for name, identifier in (("a", 7), ("b", 7), ("c", 8)):
        host = wiring.network.host(name)
        host.ping(wiring.address("server"), replies[name].append, identifier=identifier)
    wiring.clock.run(0.0)
    assert [[one.identifier for one in came] for came in replies.values()] == [[7], [7], [8]]
    asked = [f for f in wiring.frames if f.node == "server" and f.direction == "in"]
    assert len(asked) == 3


@pytest.mark.parametrize("behavior", [NatBehavior(), NAT_PRESETS["linux-masquerade"]])
def test_errors_about_pings_find_their_way(behavior: NatBehavior) -> None:
    """RFC 5508, REQ-4: what they quote is as its sender sent it."""
    nodes = tuple(Nat("nat", behavior) if one.name == "nat" else one for one in CUTS.nodes)
    wiring = Wiring(replace(CUTS, nodes=nodes))
    for name in ("a", "b"):
        wiring.network.host(name).ping("203.0.113.1", lambda _: None, identifier=7)
    wiring.clock.run(0.0)
    errors = [
        (frame.node, frame.packet.about)
        for frame in wiring.frames
        if frame.node in "ab" and isinstance(frame.packet, IcmpError)
    ]
    assert [(node, about.source) for node, about in errors] == [
        (name, wiring.address(name)) for name in ("a", "b")
    ]
    assert all(isinstance(about, Echo) and about.identifier == 7 for _, about in errors)


@pytest.mark.parametrize("name", topology_names())
def test_every_host_reaches_every_host_outside(name: str) -> None:
    """In the bundled topologies: the relay's answers come back, unless UDP is blocked."""
    topology = find_topology(name)
    wiring = Wiring(topology)
    relay = wiring.udp("relay", 443)
    for node in topology.of_kind(Host):
        if node.name in ("relay", "dave"):
            continue
        inside = wiring.udp(node.name, through_nat64=topology.nat64_above(node.name) is not None)
        inside.send(b"out", relay.address)
        wiring.clock.run(wiring.clock.now + 5.0)
        relay.send(b"back", relay.came[-1][1])
        wiring.clock.run(wiring.clock.now + 5.0)
        assert inside.came == [(b"back", relay.address)], node.name
