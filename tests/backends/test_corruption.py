"""What becomes of datagrams with a flipped bit, on both backends: the same, packet by packet.

The links flip the same bits of the same packets, as they have the same seeds; so a router that
drops one that another would pass on shows in the counters of the link behind it.
"""

from collections.abc import Mapping

import pytest

from quicpipe_lab.backends.netns.lab import Lab
from quicpipe_lab.backends.sim.clock import Clock
from quicpipe_lab.backends.sim.network import Network
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.model.link import LinkBehavior
from quicpipe_lab.model.link_model import LinkCounters
from quicpipe_lab.model.nat import FilteringBehavior, NatBehavior, PortAssignment
from quicpipe_lab.model.nat_presets import PRESETS
from quicpipe_lab.model.topology import Firewall, Host, Link, Nat, Topology
from tests.backends.netns.remote import sockets_of
from tests.backends.sim.home import Socket

pytestmark = pytest.mark.netns

ROUTERS: Mapping[str, Nat | Firewall] = {
    "home": Nat("router", NatBehavior()),
    "open": Nat("router", NatBehavior(filtering=FilteringBehavior.ENDPOINT_INDEPENDENT)),
    "linux": Nat("router", PRESETS["linux-masquerade"]),
    "overloading": Nat(
        "router", NatBehavior(port_assignment=PortAssignment.PRESERVING_OVERLOADING)
    ),
    "firewall": Firewall("router"),
}
IDLE, CORRUPT = LinkBehavior(), LinkBehavior(corrupt=1.0)
COUNT = 200
DATA = bytes(100)
INSIDE_PORT, SERVER_PORT = 5000, 6000
Totals = dict[tuple[str, str], int]


def topology(router: Nat | Firewall) -> Topology:
    ends = (("core", "server"), ("core", "router"), ("router", "inside"))
    links = tuple(Link.both_ways(one, IDLE) for one in ends)
    return Topology("corrupt", (Host("server"), router, Host("inside")), links)


def totals(counters: Mapping[tuple[str, str], LinkCounters]) -> Totals:
    return {ends: one.packets for ends, one in counters.items()}


def on_kernel(built: Topology, link: tuple[str, str], *, outward: bool) -> Totals:
    with Lab(built, netem=False) as lab, sockets_of(lab) as made:
        inside, server = made.udp("inside", INSIDE_PORT), made.udp("server", SERVER_PORT)
        at_server = str(built.uplinks["server"].lower_address), SERVER_PORT
        inside.sendto(b"first", at_server)
        _, at_inside = server.recvfrom(2048)
        lab.set_link(*link, CORRUPT, IDLE)
        for _ in range(COUNT):
            if outward:
                inside.sendto(DATA, at_server)
            else:
                server.sendto(DATA, at_inside)
        lab.set_link(*link, IDLE)  # once all that was sent before has been taken
        sender, to, target = (inside, at_server, server) if outward else (server, at_inside, inside)
        sender.sendto(b"fence", to)
        assert target.recv(2048) == b"fence"
        return totals(lab.link_counters())


def in_virtual_time(built: Topology, link: tuple[str, str], *, outward: bool) -> Totals:
    clock = Clock()
    network = Network(built, clock)
    inside = Socket(network, "inside", INSIDE_PORT)
    server = Socket(network, "server", SERVER_PORT)
    inside.send(b"first", server.address)
    clock.run(0.0)
    at_inside: TransportAddress = server.came[0][1]
    network.set_link(*link, CORRUPT, IDLE)
    sender, to, target = (
        (inside, server.address, server) if outward else (server, at_inside, inside)
    )
    for _ in range(COUNT):
        sender.send(DATA, to)
    clock.run(0.0)
    network.set_link(*link, IDLE)
    sender.send(b"fence", to)
    clock.run(0.0)
    assert target.came[-1][0] == b"fence"
    return totals(network.link_counters())


@pytest.mark.parametrize("outward", [True, False], ids=["outward", "inward"])
@pytest.mark.parametrize("name", ROUTERS)
def test_the_same_packets_pass(name: str, outward: bool) -> None:
    built = topology(ROUTERS[name])
    link = ("inside", "router") if outward else ("server", "core")
    kernel = on_kernel(built, link, outward=outward)
    assert kernel == in_virtual_time(built, link, outward=outward)
    assert kernel[link] > COUNT
