"""The blueprint of a lab: complete, without clashes, and the same after its way through JSON."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from quicpipe_lab.backends.netns.backend import BACKEND
from quicpipe_lab.backends.netns.blueprint import WIRES, blueprint_from_json
from quicpipe_lab.backends.netns.cuts import cut_interfaces
from quicpipe_lab.backends.netns.plan import plan
from quicpipe_lab.errors import LocalProtocolError, UnsupportedBehaviorError
from quicpipe_lab.model.interface import interface_name
from quicpipe_lab.model.link import LinkBehavior
from quicpipe_lab.model.scenario import Attack, Hostility, Meanwhile
from quicpipe_lab.model.topology import Host, Link, Relay, Topology
from quicpipe_lab.resources import find_scenario, find_topology, topology_names


@pytest.mark.parametrize("name", topology_names())
def test_every_bundled_topology_has_a_plan(name: str) -> None:
    topology = find_topology(name)
    blueprint = plan(topology)
    assert blueprint_from_json(json.loads(json.dumps(blueprint))) == blueprint
    nodes = [space.node for space in blueprint.spaces if space.node != WIRES]
    assert nodes == sorted(["core", *topology.uplinks], key=lambda name: name in topology.standby)
    wires = [wire for space in blueprint.spaces for wire in space.wires]
    assert {wire.link: wire.lower.address for wire in wires} == {
        one.name: "" if topology.nat64_above(one.lower) else str(one.lower_address)
        for one in topology.all_links
    }
    for space in blueprint.spaces:
        numbers = [wire.upper.number for wire in space.wires]
        assert len(set(numbers)) == len(numbers)
        for wire in space.wires:
            assert wire.upper.interface == interface_name(topology, space.node, wire.lower_node)
            assert wire.lower.interface == interface_name(topology, wire.lower_node, space.node)
            assert wire.upper.mac != wire.lower.mac


def test_interface_names() -> None:
    fifteen, sixteen, other = "a" * 15, "b" * 16, "b" * 17
    names = [fifteen, sixteen, other, "lo"]
    topology = Topology(
        "names", tuple(map(Host, names)), tuple(Link(("core", name)) for name in names)
    )
    assert [interface_name(topology, "core", name) for name in names] == [
        fifteen,
        "b" * 13 + "~0",
        "b" * 13 + "~1",
        "lo~2",
    ]
    assert interface_name(topology, sixteen, "core") == "core"


def _one_link(behavior: LinkBehavior) -> Topology:
    return Topology("slow", (Relay("relay"),), (Link(("core", "relay"), behavior),))


def test_a_link_that_behaves_goes_through_the_wires() -> None:
    topology = _one_link(LinkBehavior(delay_s=0.1))
    blueprint = plan(topology)
    assert blueprint_from_json(json.loads(json.dumps(blueprint))) == blueprint
    core, _, wires = blueprint.spaces
    (wire,) = core.wires
    assert wires.node == WIRES
    assert [end.interface for end in wire.through] == ["upper0", "lower0"]
    assert wire.netem == []
    ends = [wire.upper, wire.lower, *wire.through]
    assert len({end.mac for end in ends}) == 4


def test_netem_is_planned_where_it_is_exact() -> None:
    exact = _one_link(LinkBehavior(delay_s=0.1, loss=0.1))
    blueprint = plan(exact, 7, netem=True)
    assert blueprint_from_json(json.loads(json.dumps(blueprint))) == blueprint
    assert [space.node for space in blueprint.spaces] == ["core", "relay"]
    down, up = blueprint.spaces[0].wires[0].netem
    assert LinkBehavior.from_data(down.behavior) == exact.links[0].towards_lower
    assert LinkBehavior.from_data(up.behavior) == LinkBehavior()
    assert (down.seed, up.seed) == ("7/relay/down", "7/relay/up")
    inexact = _one_link(LinkBehavior(rate_bps=1e6, queue_bytes=15_000))
    assert plan(inexact, netem=True) == plan(inexact)
    idle = _one_link(LinkBehavior())  # who knows what it will be changed to
    assert plan(idle, netem=True) == plan(idle)


def test_what_nothing_here_can_do_is_refused() -> None:
    with pytest.raises(UnsupportedBehaviorError, match="'relay' to 'core': mtu_bytes of 9000"):
        plan(_one_link(LinkBehavior(mtu_bytes=9000)))


@pytest.mark.parametrize(
    ("pair", "router", "interfaces"),
    [
        (("alice", "bob"), "core", ["nat-a", "nat-b"]),
        (("bob", "relay"), "core", ["nat-b", "relay"]),
        (("core", "relay"), "core", ["relay"]),
        (("alice", "core"), "core", ["nat-a"]),
        (("alice", "nat-a"), "nat-a", ["alice"]),
        (("nat-a", "bob"), "core", ["nat-a", "nat-b"]),
    ],
)
def test_cut_point(pair: tuple[str, str], router: str, interfaces: list[str]) -> None:
    topology = find_topology("two-homes")
    assert cut_interfaces(topology, *pair) == (router, interfaces)
    assert cut_interfaces(topology, *reversed(pair)) == (router, interfaces[::-1])


def test_cut_point_is_between_two_nodes_that_exist() -> None:
    topology = find_topology("two-homes")
    for pair in (("alice", "alice"), ("alice", "nobody"), ("nobody", "core")):
        with pytest.raises(LocalProtocolError):
            cut_interfaces(topology, *pair)


def test_an_attack_is_refused_before_anything_is_built(tmp_path: Path) -> None:
    attack = Meanwhile(1.0, Attack(Hostility.REPLAY))
    attacked = replace(find_scenario("nat-to-nat"), meanwhile=(attack,))
    with pytest.raises(UnsupportedBehaviorError, match=r"attack \(replay\): .*use --backend sim"):
        BACKEND.run(attacked, tmp_path, lambda _: None)
    assert not list(tmp_path.iterdir())
