"""Addresses within addresses: RFC 6052's own examples, and RFC 7050's way to the prefix."""

from ipaddress import IPv4Address, IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quicpipe_lab.model.ipv6 import SERVICE_ADDRESSES_V6
from quicpipe_lab.model.nat64 import (
    LAB_PREFIX,
    WELL_KNOWN_ADDRESSES,
    embed,
    extract,
    prefix_of,
)

RFC_6052_2_4 = {
    "2001:db8::/32": "2001:db8:c000:221::",
    "2001:db8:100::/40": "2001:db8:1c0:2:21::",
    "2001:db8:122::/48": "2001:db8:122:c000:2:2100::",
    "2001:db8:122:300::/56": "2001:db8:122:3c0:0:221::",
    "2001:db8:122:344::/64": "2001:db8:122:344:c0:2:2100::",
    "2001:db8:122:344::/96": "2001:db8:122:344::192.0.2.33",
    "64:ff9b::/96": "64:ff9b::192.0.2.33",
}


@st.composite
def prefixes(draw: st.DrawFn) -> IPv6Network:
    length = draw(st.sampled_from((32, 40, 48, 56, 64, 96)))
    bits = draw(st.integers(0, 2**length - 1)) << (128 - length)
    return IPv6Network((bits & ~(0xFF << 56), length))  # bits 64 to 71 are zero: RFC 6052, 2.2


@pytest.mark.parametrize(("prefix", "address"), RFC_6052_2_4.items())
def test_the_rfcs_examples(prefix: str, address: str) -> None:
    assert embed(IPv6Network(prefix), IPv4Address("192.0.2.33")) == IPv6Address(address)


@given(prefixes(), st.ip_addresses(v=4))
def test_what_is_put_in_comes_out(prefix: IPv6Network, address: IPv4Address) -> None:
    embedded = embed(prefix, address)
    assert embedded in prefix
    assert extract(prefix, embedded) == address


@given(prefixes(), st.ip_addresses(v=6))
def test_addresses_of_others_hold_none(prefix: IPv6Network, address: IPv6Address) -> None:
    assert (extract(prefix, address) is None) is (address not in prefix)


@given(prefixes(), st.sampled_from(WELL_KNOWN_ADDRESSES))
def test_the_prefix_is_found(prefix: IPv6Network, known: IPv4Address) -> None:
    """One that has the well-known address within itself may be taken for a longer one."""
    found = prefix_of(embed(prefix, known))
    assert found is not None
    assert embed(found, known) == embed(prefix, known) or found.prefixlen > prefix.prefixlen


@given(st.ip_addresses(v=6))
def test_where_nobody_synthesises_there_is_none(address: IPv6Address) -> None:
    found = prefix_of(address)
    assert found is None or extract(found, address) in WELL_KNOWN_ADDRESSES


def test_the_labs_own_prefix_is_nobody_elses() -> None:
    assert prefix_of(embed(LAB_PREFIX, WELL_KNOWN_ADDRESSES[0])) == LAB_PREFIX
    assert not any(address in LAB_PREFIX for address in SERVICE_ADDRESSES_V6)
    assert int(LAB_PREFIX.network_address) >> 80 & 0xFFFF > 0xFFFF - 0x2300  # see ipv6._MOST_LINKS
