"""Which addresses a peer may make us send to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.protocol.candidates import (
    MAX_SIGNALLED,
    Scope,
    acceptable,
    own_candidates,
    scope,
)

RELAY = TransportAddress("203.0.113.1", 443)
HERE = TransportAddress("198.51.100.1", 1111)
THERE = TransportAddress("198.51.100.2", 2222)


def accept(
    *theirs: tuple[str, int],
    relay: TransportAddress = RELAY,
    ours: TransportAddress | None = HERE,
    observed: TransportAddress | None = THERE,
) -> list[TransportAddress]:
    candidates = [TransportAddress(*one) for one in theirs]
    return list(acceptable(candidates, relay=relay, our_observed=ours, their_observed=observed))


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", Scope.LOOPBACK),
        ("::1", Scope.LOOPBACK),
        ("10.1.2.3", Scope.PRIVATE),
        ("172.31.0.1", Scope.PRIVATE),
        ("192.168.0.1", Scope.PRIVATE),
        ("100.64.0.1", Scope.PRIVATE),
        ("fd00::1", Scope.PRIVATE),
        ("198.18.0.1", Scope.GLOBAL),
        ("8.8.8.8", Scope.GLOBAL),
        ("2001:db8::1", Scope.GLOBAL),
        ("0.0.0.0", None),
        ("224.0.0.1", None),
        ("255.255.255.255", None),
        ("169.254.1.1", None),
        ("fe80::1", None),
        ("::ffff:10.0.0.1", None),
        ("ff02::1", None),
        ("fec0::1", Scope.PRIVATE),
        ("0.1.2.3", None),
        ("240.0.0.1", None),
        ("2001:db8::1%eth0", None),
        ("example.org", None),
        ("", None),
    ],
)
def test_scope(host: str, expected: Scope | None) -> None:
    assert scope(host) is expected


def test_a_global_address_is_accepted() -> None:
    assert accept(("198.51.100.2", 2222)) == [THERE]


@pytest.mark.parametrize(
    "forbidden",
    [
        ("127.0.0.1", 53),
        ("10.0.0.1", 80),
        ("192.168.1.1", 80),
        ("224.0.0.251", 5353),
        ("255.255.255.255", 9),
        ("198.51.100.2", 0),
        ("198.51.100.2", 70000),
        ("198.51.100.2", -1),
        ("2001:db8::2", 443),  # our socket is IPv4's
        tuple(RELAY),
        ("not an address", 443),
    ],
)
def test_request_forgery_is_refused(forbidden: tuple[str, int]) -> None:
    assert accept(forbidden) == []


def test_addresses_are_compared_in_one_spelling() -> None:
    """A socket knows one; else the answer would come from another address than was asked."""
    relay = TransportAddress("2001:db8::1", 443)
    assert accept(("2001:DB8:0::2", 7), ("2001:db8::2", 7), relay=relay) == [
        TransportAddress("2001:db8::2", 7)
    ]
    assert accept(("2001:DB8:0:0::1", 443), relay=relay) == []


def test_neighbours_may_use_private_addresses() -> None:
    behind_one = TransportAddress(HERE.host, 3333)
    assert accept(("192.168.0.6", 5), observed=behind_one) == [TransportAddress("192.168.0.6", 5)]
    assert accept(("127.0.0.1", 5), observed=behind_one) == []


def test_without_an_observed_address_nobody_is_a_neighbour() -> None:
    assert accept(("192.168.0.6", 5), ours=None, observed=None) == []


def test_a_relay_in_a_private_network_makes_private_peers_reachable() -> None:
    relay = TransportAddress("10.0.0.1", 443)
    assert accept(("10.0.0.7", 5), relay=relay) == [TransportAddress("10.0.0.7", 5)]
    loopback = TransportAddress("127.0.0.1", 443)
    assert accept(("127.0.0.1", 5), relay=loopback) == [TransportAddress("127.0.0.1", 5)]


def test_duplicates_and_excess_are_left_out() -> None:
    many = [("198.51.100.2", port) for port in range(1, 50)]
    assert (
        accept(("198.51.100.2", 1), *many)
        == [TransportAddress(*one) for one in many][:MAX_SIGNALLED]
    )


def test_own_candidates_name_hosts_first_and_each_once() -> None:
    host = TransportAddress("192.168.0.6", 5)
    assert own_candidates([host], HERE) == (host, HERE)
    assert own_candidates([HERE], HERE) == (HERE,)
    assert own_candidates([TransportAddress("0.0.0.0", 5)], None) == ()


def test_where_the_relay_sees_us_is_told_however_many_addresses_a_host_has() -> None:
    hosts = [TransportAddress(f"192.168.0.{number}", 5) for number in range(1, 9)]
    assert own_candidates(hosts, HERE) == (*hosts[: MAX_SIGNALLED - 1], HERE)
    assert own_candidates(hosts, None) == tuple(hosts[:MAX_SIGNALLED])


@given(st.lists(st.tuples(st.text(max_size=20), st.integers()), max_size=20))
def test_arbitrary_candidates_never_raise(theirs: list[tuple[str, int]]) -> None:
    for one in accept(*theirs):
        assert scope(one.host) is Scope.GLOBAL
        assert 0 < one.port < 65536
