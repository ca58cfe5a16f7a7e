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


@st.composite
def with_standby_links(draw: st.DrawFn) -> Topology:
    """Trees whose hosts have further links to any of the other routers."""
    tree = draw(trees())
    routers = [CORE, *(one.name for one in tree.nodes if not isinstance(one, Host))]
    further = []
    for node in tree.nodes:
        if type(node) is not Host:
            continue
        others = [one for one in routers if one != tree.uplinks[node.name].upper]
        uppers = draw(st.lists(st.sampled_from(others), unique=True)) if others else []
        further += [Link((node.name, upper)) for upper in uppers]
    return Topology("phones", tree.nodes, (*tree.links, *further))


@given(with_standby_links())
def test_no_host_has_two_links_that_are_alike(topology: Topology) -> None:
    for host in topology.of_kind(Host):
        links = topology.links_of(host.name)
        assert links[0] == topology.uplinks[host.name]
        assert len({one.name for one in links}) == len({one.upper for one in links}) == len(links)
        for one, other in combinations(links, 2):
            assert not one.network.overlaps(other.network)
    for one, other in combinations(topology.all_links, 2):
        if topology.realm(one.upper) == topology.realm(other.upper):
            assert not one.network.overlaps(other.network)


def test_the_first_link_in_the_authors_order_is_in_use() -> None:
    """Though the other one's router is nearer to the core."""
    nodes = (Host("phone"), Nat("carrier"), Nat("home"), Nat("street"))
    links = (
        Link(("phone", "home")),
        Link(("home", "street")),
        Link(("street", CORE)),
        Link(("phone", "carrier")),
        Link(("carrier", CORE)),
    )
    topology = Topology("t", nodes, links)
    assert topology.path_to_core("phone") == ["phone", "home", "street", CORE]
    assert [one.upper for one in topology.links_of("phone")] == ["home", "carrier"]
    assert [one.name for one in topology.links_of("phone")] == ["phone", "phone/carrier"]
    assert topology.tree_below("carrier") == []
    assert topology.subscribers("carrier") == [topology.standby["phone"][0].lower_address]


def _phone(*links: Link, dual_stack: bool = False) -> Topology:
    nodes = (Host("phone"), Host("other"), Nat("home"), Nat("carrier"), Relay("relay"))
    ours = (Link(("core", "home")), Link(("core", "carrier")), Link(("core", "relay")))
    return Topology("t", nodes, (*ours, Link(("core", "other")), *links), dual_stack)


@pytest.mark.parametrize(
    ("links", "problem"),
    [
        (
            [("phone", "home"), ("home", "phone")],
            r"link\[5\].between: 'phone' has a link to 'home'",
        ),
        ([("phone", "home"), ("relay", "home")], r"link\[5\].between: 'relay' is a relay"),
        ([("phone", "home"), ("home", "carrier")], "'carrier' is reached twice"),
        ([("phone", "home"), ("phone", "other")], "is a host: nothing hangs below a host"),
    ],
)
def test_what_no_host_can_have_is_refused(links: list[tuple[str, str]], problem: str) -> None:
    with pytest.raises(ScenarioError, match=problem):
        _phone(*map(Link, links))


def test_with_dual_stack_no_host_has_several_links() -> None:
    links = Link(("phone", "home")), Link(("phone", "carrier"))
    with pytest.raises(ScenarioError, match=r"link\[5\].between: .*with dual_stack no host has"):
        _phone(*links, dual_stack=True)


def test_given_addresses_of_one_hosts_links_must_differ() -> None:
    with pytest.raises(ScenarioError, match=r"link\[4\] has an address of 192.168.7.0/30 already"):
        _phone(
            Link(("phone", "home"), lower_address="192.168.7.2/30"),
            Link(("phone", "carrier"), lower_address="192.168.7.1/30"),
        )


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
def test_one_link_more_is_no_tree_unless_it_is_a_hosts(
    topology: Topology, data: st.DataObject
) -> None:
    names = st.sampled_from([CORE, *topology.by_name])
    ends = data.draw(st.tuples(names, names).filter(lambda pair: pair[0] != pair[1]))
    hosts = [name for name in ends if type(topology.by_name.get(name)) is Host]
    is_another = len(hosts) == 1 and not {*ends} <= {hosts[0], topology.uplinks[hosts[0]].upper}
    routers = {CORE, *(name for name, one in topology.by_name.items() if not isinstance(one, Host))}
    links = (*topology.links, Link(ends))
    if is_another and routers & {*ends}:
        graph = Topology("graph", topology.nodes, links)
        assert graph.uplinks == topology.uplinks, "links in use are as they were"
        (standby,) = graph.standby[hosts[0]]
        assert {standby.lower, standby.upper} == {*ends} and standby.lower == hosts[0]
        return
    with pytest.raises(ScenarioError):
        Topology("graph", topology.nodes, links)


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
