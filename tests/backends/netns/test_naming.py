"""Which names a node knows the others by."""

import pytest

from quicpipe_lab.backends.netns.naming import addresses, hosts_file, places
from quicpipe_lab.model.topology import Host, Link, Nat, Relay, Topology
from quicpipe_lab.resources import find_topology

# alice and carol share a home, whose NAT is behind a carrier's; bob has a home of his own.
_STACKED = Topology(
    "stacked",
    (
        Host("alice"),
        Host("carol"),
        Host("bob"),
        Relay("relay"),
        Nat("home"),
        Nat("carrier"),
        Nat("other"),
    ),
    (
        Link(("core", "relay")),
        Link(("core", "carrier")),
        Link(("core", "other")),
        Link(("carrier", "home")),
        Link(("home", "alice")),
        Link(("home", "carol")),
        Link(("other", "bob")),
    ),
)


def known(topology: Topology, node: str) -> dict[str, str]:
    """Name to address, without the loopback interface's."""
    lines = hosts_file(places(topology), node).splitlines()
    entries = [line.split() for line in lines if not line.startswith("#")]
    return {name: address for address, name, *_ in entries if name != "localhost"}


def test_a_host_behind_two_nats() -> None:
    """Routers by the address that faces it, public hosts, those in its home, and itself."""
    assert known(_STACKED, "alice") == {
        "core": "198.18.0.9",
        "relay": "198.18.0.6",
        "carrier": "100.64.0.5",
        "other": "198.18.0.14",
        "home": "192.168.0.5",
        "alice": "192.168.0.6",
        "carol": "192.168.0.10",
    }
    assert "# bob is behind other: no address of its own here\n" in hosts_file(
        places(_STACKED), "alice"
    )


@pytest.mark.parametrize(
    ("node", "names"),
    [
        ("core", {"core", "relay", "carrier", "other"}),
        ("relay", {"core", "relay", "carrier", "other"}),
        ("carrier", {"core", "relay", "carrier", "other", "home"}),
        ("home", {"core", "relay", "carrier", "other", "home", "alice", "carol"}),
        ("bob", {"core", "relay", "carrier", "other", "bob"}),
    ],
)
def test_nobody_knows_what_is_behind_anothers_nat(node: str, names: set[str]) -> None:
    assert set(known(_STACKED, node)) == names


def test_every_node_knows_itself_and_localhost() -> None:
    for node in ("core", *_STACKED.by_name):
        text = hosts_file(places(_STACKED), node)
        assert text.startswith("127.0.0.1\tlocalhost\n::1\tlocalhost ")
        own = known(_STACKED, node)[node]
        assert own == "127.0.1.1" if node == "core" else own in addresses(places(_STACKED))[node]


def test_addresses_of_routers_begin_with_the_one_towards_the_core() -> None:
    found = addresses(places(find_topology("two-homes")))
    assert found["nat-a"] == ["198.18.0.10", "192.168.0.5"]
    assert found["alice"] == ["192.168.0.6"]
    assert len(found["core"]) == 3


def test_dual_stack_nodes_have_both_names_where_both_mean_something() -> None:
    """Carol's fd00 address is hers behind her own router alone, and so is her IPv4 one."""
    topology = find_topology("dual-stack-translated")
    text = hosts_file(places(topology), "alice")
    entries = {tuple(line.split()) for line in text.splitlines() if not line.startswith("#")}
    relay, alice, router, core = ("relay", "alice", "prefix-a", "core")
    assert {
        ("198.18.0.6", relay),
        ("2001:db8:0:1::2", relay),
        ("192.168.0.6", alice),
        ("fd00:db8:2302:5::6", alice),
        ("192.168.0.5", router),
        ("fd00:db8:2302:5::1", router),
        ("198.18.0.9", core),
        ("2001:db8:0:2::1", core),
    } <= entries
    assert not any(name == "carol" for _, name, *_ in entries)
    assert "# carol is behind masked: no address of its own here\n" in text


def test_routed_ipv6_is_known_everywhere() -> None:
    """bob's IPv4 address is not, so that his name means his IPv6 one alone."""
    topology = find_topology("dual-stack")
    assert known(topology, "alice")["bob"] == "2001:db8:0:5::6"
    assert addresses(places(topology))["alice"] == ["192.168.0.6", "2001:db8:0:4::5"]


def test_a_host_with_several_links_knows_the_router_of_each() -> None:
    """And is known behind each by the address there."""
    several = Topology(
        "several",
        (*_STACKED.nodes, Host("phone")),
        (*_STACKED.links, Link(("home", "phone")), Link(("other", "phone"))),
    )
    wifi, other = several.links_of("phone")
    assert known(several, "phone") == {
        **known(_STACKED, "alice"),
        "alice": "192.168.0.6",
        "home": str(wifi.upper_address),
        "other": str(other.upper_address),
        "phone": str(wifi.lower_address),
    }
    assert known(several, "alice")["phone"] == str(wifi.lower_address)
    assert known(several, "bob")["phone"] == str(other.lower_address)
    assert "phone" not in known(several, "relay")
    found = addresses(places(several))
    assert found["phone"] == [str(wifi.lower_address), str(other.lower_address)]
    assert str(other.upper_address) in found["other"]
