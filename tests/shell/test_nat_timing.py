"""How patiently NATs are asked over which links, and which are not asked at all."""

import math
import re
from dataclasses import replace

import pytest

from quicpipe_lab.model.address import Family, TransportAddress
from quicpipe_lab.model.check_topology import topology_of
from quicpipe_lab.model.link import LinkBehavior
from quicpipe_lab.model.link_presets import PRESETS
from quicpipe_lab.model.nat import NatBehavior
from quicpipe_lab.model.nat_measurement import POINTS
from quicpipe_lab.model.topology import Link, Topology
from quicpipe_lab.model.vantage import SERVICES, Vantage
from quicpipe_lab.resources import find_topology
from quicpipe_lab.shell.nat_timing import (
    ANSWER_BYTES,
    MOST_ROUND_TRIP_S,
    QUESTION_BYTES,
    timing_for,
)
from quicpipe_lab.shell.stun import BindingRequest
from quicpipe_lab.shell.stun_client import DELAYED, LOSSY, PLAIN, Timing
from quicpipe_lab.shell.stun_responder import STUN_PORT, answer_to

PLAIN_LINKS = topology_of({"nat": NatBehavior()})
BEHIND = Vantage("nat-a", "nat-b", Family.IPV4)


def with_links(*behaviors: LinkBehavior) -> Topology:
    """The same in the first ones, which are those next to the core."""
    links = list(PLAIN_LINKS.links)
    for number, one in enumerate(behaviors):
        links[number] = Link.both_ways(links[number].between, one)
    return replace(PLAIN_LINKS, links=tuple(links))


def timing_over(*behaviors: LinkBehavior) -> Timing:
    timing = timing_for(with_links(*behaviors), BEHIND)
    assert isinstance(timing, Timing)
    return timing


def test_plain_and_slow_links_cost_nothing_more() -> None:
    assert timing_for(PLAIN_LINKS, BEHIND) is PLAIN
    assert timing_over(LinkBehavior(delay_s=0.1, jitter_s=0.05)) is DELAYED
    assert (PLAIN.repeats, PLAIN.in_a_row, DELAYED.repeats, DELAYED.in_a_row) == (1, 1, 1, 1)


def test_losses_one_by_one_need_no_more_packets() -> None:
    timing = timing_over(LinkBehavior(delay_s=0.02, loss=0.001))
    assert timing == replace(LOSSY, rounds=3)


@pytest.mark.parametrize("name", ["wifi", "leo-satellite"])
def test_bursts_need_more_packets_and_no_more_waits(name: str) -> None:
    timing = timing_over(PRESETS[name].up)
    assert (timing.tries, timing.first_wait_s) == (LOSSY.tries, LOSSY.first_wait_s)
    assert timing.repeats > 10
    assert timing.in_a_row <= 1 + timing.repeats * (timing.tries - 1)


def test_what_is_on_its_way_is_not_asked_for_again() -> None:
    assert timing_over(PRESETS["geo-satellite"].up, PRESETS["wifi"].up).first_wait_s > 0.6
    timing = timing_over(LinkBehavior(delay_s=9.0), LinkBehavior(delay_s=2.0, jitter_s=1.0))
    assert timing == replace(DELAYED, first_wait_s=24.0, slowest_s=24.0)


def test_packets_that_wait_for_a_rate_are_waited_for() -> None:
    """Nine questions of 64 bytes and as many answers of 100, at 1,000 bit/s."""
    assert timing_over(LinkBehavior(rate_bps=1000)).first_wait_s == pytest.approx(9 * 164 * 0.008)


def test_a_link_that_stands_by_is_asked_through_as_well() -> None:
    """The phone's LTE, exchanged for one that needs more than its Wi-Fi."""
    phone = find_topology("phone-and-home")
    (standby,) = (one for links in phone.standby.values() for one in links)
    worse = replace(standby.link, towards_upper=PRESETS["leo-satellite"].up)
    links = tuple(worse if one is standby.link else one for one in phone.links)
    vantage = Vantage(standby.name, None, Family.IPV4)
    before, after = timing_for(phone, vantage), timing_for(replace(phone, links=links), vantage)
    assert isinstance(before, Timing)
    assert isinstance(after, Timing)
    assert before.in_a_row < after.in_a_row


def test_links_that_are_not_on_the_way_are_none_of_its_business() -> None:
    both = topology_of({"nat": NatBehavior(), "moon": NatBehavior()})
    slow = Link.both_ways(("core", "moon"), LinkBehavior(delay_s=30.0))
    links = tuple(slow if one.between == slow.between else one for one in both.links)
    topology = replace(both, links=links)
    assert timing_for(topology, BEHIND) is PLAIN
    assert isinstance(timing_for(topology, Vantage("moon-a", None, Family.IPV4)), str)


@pytest.mark.parametrize(
    ("link", "lifetime_s", "within_s", "why"),
    [
        (LinkBehavior(loss=0.95), 300, math.inf, "lose too much"),
        (LinkBehavior(delay_s=15.1), 300, math.inf, "a question takes up to 30.2 s .* than 30 s"),
        (LinkBehavior(delay_s=15.1, loss=0.01), 300, math.inf, "up to 30.2 s"),
        (LinkBehavior(rate_bps=100.0), 300, math.inf, "a question takes up to 118 s"),
        (LinkBehavior(delay_s=5.0), 49, math.inf, "too long for mappings that live for 49 s"),
        (LinkBehavior(delay_s=1.0), 300, 30, "too long to ask 16 in the 30 s that there are"),
        (LinkBehavior(mtu_bytes=68), 300, math.inf, "carry 68 bytes at most, .* take 100"),
    ],
)
def test_where_nothing_can_be_told_it_is_said_why(
    link: LinkBehavior, lifetime_s: float, within_s: float, why: str
) -> None:
    timing = timing_for(with_links(link), BEHIND, lifetime_s, within_s)
    assert isinstance(timing, str)
    assert re.search(why, timing)


def test_what_is_as_slow_as_may_be_is_waited_for() -> None:
    assert timing_over(LinkBehavior(delay_s=MOST_ROUND_TRIP_S / 2)).first_wait_s == 30.0


@pytest.mark.parametrize(("family", "headers_bytes"), [(Family.IPV4, 28), (Family.IPV6, 48)])
def test_the_longest_packets_are_as_long_as_is_said(family: Family, headers_bytes: int) -> None:
    hosts = SERVICES[family]
    points = {one: TransportAddress(hosts[one.address], STUN_PORT + one.port) for one in POINTS}
    question = BindingRequest(bytes(12), True, True, response_port=1)
    _, answer, _ = answer_to(question, POINTS[0], points[POINTS[0]], points)
    assert headers_bytes + len(question.encode()) == QUESTION_BYTES[family]
    assert headers_bytes + len(answer.encode()) == ANSWER_BYTES[family]
