"""Topologies: every tree gets addresses that do not clash, and what is no tree is refused."""

from ipaddress import IPv4Network
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quicpipe_lab.errors import ScenarioError
from quicpipe_lab.model.link import LinkBehavior
from quicpipe_lab.model.nat import NatBehavior
from quicpipe_lab.model.topology import (
    BUILDING_POOL,
    CARRIER_POOL,
    CORE,
    HOME_POOL,
    PUBLIC_POOL,
    SERVICE_NETWORK,
    Firewall,
    Host,
    Link,
    Nat,
    Node,
    Relay,
    Topology,
)


@st.composite
def trees(draw: st.DrawFn) -> Topology:
    """Any tree of hosts, relays, NATs and firewalls, its links in any order and direction."""
    nodes: list[Node] = []
    links: list[Link] = []
    routers = [CORE]
    for number in range(draw(st.integers(1, 25))):
        kind = draw(st.sampled_from([Host, Relay, Nat, Firewall]))
        node: Node = kind(f"n{number}")
        if isinstance(node, Nat):
            behavior = NatBehavior(external_addresses=draw(st.integers(1, 5)))
            node = Nat(node.name, behavior)
        upper = draw(st.sampled_from(routers))
        ends = (upper, node.name) if draw(st.booleans()) else (node.name, upper)
        delay_s, loss = draw(st.floats(0, 10)), draw(st.floats(0, 1))
        links.append(Link(ends, towards_upper=LinkBehavior(delay_s=delay_s, loss=loss)))
        nodes.append(node)
        if isinstance(node, Nat | Firewall):
            routers.append(node.name)
    return Topology("tree", tuple(nodes), tuple(draw(st.permutations(links))))


@given(trees())
def test_every_node_has_one_uplink_and_a_way_to_the_core(topology: Topology) -> None:
    assert set(topology.uplinks) == set(topology.by_name)
    for name, uplink in topology.uplinks.items():
        assert uplink.lower == name
        assert set(uplink.link.between) == {uplink.lower, uplink.upper}
        path = topology.path_to_core(name)
        assert path[0] == name and path[-1] == CORE
        nats = [node for node in path[1:-1] if isinstance(topology.by_name[node], Nat)]
        assert [nat.name for nat in topology.nats_above(name)] == nats
        assert topology.realm(uplink.upper) == (nats[0] if nats else CORE)
        assert uplink in topology.children(uplink.upper)


@given(trees())
def test_no_address_is_twice_in_a_realm(topology: Topology) -> None:
    """Firewalls do not part realms, and a NAT is in two: its sides differ."""
    networks: dict[str, list[IPv4Network]] = {CORE: [SERVICE_NETWORK]}
    for name, uplink in topology.uplinks.items():
        realm = networks.setdefault(topology.realm(uplink.upper), [])
        realm.append(uplink.network)
        if isinstance(topology.by_name[name], Nat):
            networks.setdefault(name, []).append(uplink.network)
            external = topology.external_addresses[name]
            assert external[0] == uplink.lower_address
            realm += map(IPv4Network, external[1:])
    for realm in networks.values():
        for one, other in combinations(realm, 2):
            assert not one.overlaps(other)


@given(trees())
def test_every_address_of_a_realm_is_behind_its_router(topology: Topology) -> None:
    """What lies behind the nodes below a realm's router, with their uplinks, is all there is."""
    for router in [CORE, *topology.external_addresses]:
        reached: list[IPv4Network] = []
        for uplink in topology.children(router):
            reached += [uplink.network, *topology.behind(uplink.lower)]
        wanted = [
            one.network for one in topology.uplinks.values() if topology.realm(one.upper) == router
        ]
        for name, addresses in topology.external_addresses.items():
            if topology.realm(topology.uplinks[name].upper) == router:
                wanted += map(IPv4Network, addresses[1:])
        assert sorted(reached) == sorted(wanted)
        senders = [
            one
            for one in topology.uplinks.values()
            if topology.realm(one.upper) == router
            and not isinstance(topology.by_name[one.lower], Firewall)
        ]
        counted = sum(len(topology.external_addresses.get(one.lower, ("",))) for one in senders)
        if router != CORE:
            assert len(set(topology.subscribers(router))) == counted


@given(trees())
def test_both_ends_of_a_link_are_hosts_of_its_network_in_the_right_pool(topology: Topology) -> None:
    for uplink in topology.uplinks.values():
        ends = {uplink.lower_address, uplink.upper_address}
        assert len(ends) == 2
        assert ends == set(uplink.network.hosts())
        nats = len(topology.nats_above(uplink.lower))
        if nats == 0:
            pool = PUBLIC_POOL
        elif not isinstance(topology.by_name[uplink.lower], Nat):
            pool = HOME_POOL
        else:
            pool = CARRIER_POOL if nats == 1 else BUILDING_POOL
        assert uplink.network.subnet_of(pool)


@given(trees())
def test_the_same_description_gets_the_same_addresses(topology: Topology) -> None:
    again = Topology(topology.name, topology.nodes, topology.links)
    assert again == topology
    assert list(again.uplinks.items()) == list(topology.uplinks.items())


@given(trees(), st.data())
def test_one_link_more_is_no_tree(topology: Topology, data: st.DataObject) -> None:
    names = st.sampled_from([CORE, *topology.by_name])
    ends = data.draw(st.tuples(names, names).filter(lambda pair: pair[0] != pair[1]))
    with pytest.raises(ScenarioError):
        Topology("graph", topology.nodes, (*topology.links, Link(ends)))


@given(trees(), st.data())
def test_one_link_less_leaves_somebody_behind(topology: Topology, data: st.DataObject) -> None:
    missing = data.draw(st.integers(0, len(topology.links) - 1))
    links = topology.links[:missing] + topology.links[missing + 1 :]
    with pytest.raises(ScenarioError, match="no link leads from it"):
        Topology("forest", topology.nodes, links)


def test_the_authors_addresses_are_kept_and_avoided() -> None:
    topology = Topology(
        "given",
        (Host("a"), Host("b"), Host("c")),
        (
            Link((CORE, "a")),
            # The block that "a" would have had.
            Link((CORE, "b"), lower_address="198.18.0.5/30"),
            Link((CORE, "c"), lower_address="203.0.113.1/31"),
        ),
    )
    b, c = topology.uplinks["b"], topology.uplinks["c"]
    assert (str(b.lower_address), str(b.upper_address)) == ("198.18.0.5", "198.18.0.6")
    assert (str(c.lower_address), str(c.upper_address)) == ("203.0.113.1", "203.0.113.0")
    assert str(topology.uplinks["a"].network) == "198.18.0.8/30"


def test_homes_behind_different_nats_use_the_same_addresses() -> None:
    topology = Topology(
        "homes",
        (Nat("nat-a"), Nat("nat-b"), Host("alice"), Host("bob")),
        (
            Link((CORE, "nat-a")),
            Link((CORE, "nat-b")),
            Link(("nat-a", "alice")),
            Link(("nat-b", "bob")),
        ),
    )
    assert topology.uplinks["alice"].lower_address == topology.uplinks["bob"].lower_address


def test_two_layers_of_nat_nearest_first() -> None:
    topology = Topology(
        "carrier",
        (Nat("carrier"), Nat("home"), Host("alice")),
        (Link((CORE, "carrier")), Link(("carrier", "home")), Link(("home", "alice"))),
    )
    assert [nat.name for nat in topology.nats_above("alice")] == ["home", "carrier"]
    assert topology.uplinks["home"].network.subnet_of(CARRIER_POOL)
    assert topology.nats_above(CORE) == []


def test_a_pool_that_is_used_up_is_said_so() -> None:
    blocks = 2 ** (30 - HOME_POOL.prefixlen) - 1  # the first is left out
    hosts = [Host(f"h{number}") for number in range(blocks + 1)]
    links = [Link((CORE, "nat")), *(Link(("nat", host.name)) for host in hosts)]
    with pytest.raises(ScenarioError, match="no free addresses"):
        Topology("crowd", (Nat("nat"), *hosts), tuple(links))


def test_links_are_plain_or_behave() -> None:
    slow = LinkBehavior(delay_s=0.1)
    assert Link((CORE, "a")).is_plain
    assert not Link((CORE, "a"), LinkBehavior()).is_plain
    assert not Link((CORE, "a"), towards_upper=slow).is_plain
    assert Link.both_ways((CORE, "a"), slow) == Link((CORE, "a"), slow, slow)


def test_the_lab_keeps_addresses_for_its_own_servers() -> None:
    link = Link(("core", "a"), lower_address=f"{SERVICE_NETWORK[1]}/30")
    with pytest.raises(ScenarioError, match="is for servers of the lab itself"):
        Topology("t", (Host("a"),), (link,))
