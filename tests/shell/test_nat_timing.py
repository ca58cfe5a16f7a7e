"""How patiently NATs are asked over which links."""

from dataclasses import replace

import pytest

from quicpipe_lab.model.check_topology import topology_of
from quicpipe_lab.model.link import LinkBehavior
from quicpipe_lab.model.link_presets import PRESETS
from quicpipe_lab.model.nat import NatBehavior
from quicpipe_lab.model.topology import Link, Topology
from quicpipe_lab.resources import find_topology
from quicpipe_lab.shell.nat_timing import timing_for
from quicpipe_lab.shell.stun_client import DELAYED, LOSSY, PLAIN

PLAIN_LINKS = topology_of({"nat": NatBehavior()})


def with_links(*behaviors: LinkBehavior) -> Topology:
    """The same in the first ones, which are those next to the core."""
    links = list(PLAIN_LINKS.links)
    for number, one in enumerate(behaviors):
        links[number] = Link.both_ways(links[number].between, one)
    return replace(PLAIN_LINKS, links=tuple(links))


def test_plain_and_slow_links_cost_nothing_more() -> None:
    assert timing_for(PLAIN_LINKS) is PLAIN
    assert timing_for(with_links(LinkBehavior(delay_s=0.1, jitter_s=0.05))) is DELAYED
    assert (PLAIN.repeats, PLAIN.in_a_row, DELAYED.repeats, DELAYED.in_a_row) == (1, 1, 1, 1)


def test_losses_one_by_one_need_no_more_packets() -> None:
    timing = timing_for(with_links(LinkBehavior(delay_s=0.02, loss=0.001)))
    assert timing == replace(LOSSY, rounds=3)


@pytest.mark.parametrize("name", ["wifi", "leo-satellite"])
def test_bursts_need_more_packets_and_no_more_waits(name: str) -> None:
    timing = timing_for(with_links(PRESETS[name].up))
    assert timing is not None
    assert (timing.tries, timing.first_wait_s) == (LOSSY.tries, LOSSY.first_wait_s)
    assert timing.repeats > 10
    assert timing.in_a_row <= 1 + timing.repeats * (timing.tries - 1)


def test_what_is_on_its_way_is_not_asked_for_again() -> None:
    timing = timing_for(with_links(PRESETS["geo-satellite"].up, PRESETS["wifi"].up))
    assert timing is not None
    assert timing.first_wait_s > 0.6


def test_a_link_that_stands_by_is_asked_through_as_well() -> None:
    """The phone's LTE, exchanged for one that needs more than its Wi-Fi."""
    phone = find_topology("phone-and-home")
    (standby,) = (one.link for links in phone.standby.values() for one in links)
    worse = replace(standby, towards_upper=PRESETS["leo-satellite"].up)
    links = tuple(worse if one is standby else one for one in phone.links)
    before, after = timing_for(phone), timing_for(replace(phone, links=links))
    assert before is not None
    assert after is not None
    assert before.in_a_row < after.in_a_row


def test_links_that_lose_nearly_all_are_hopeless() -> None:
    assert timing_for(with_links(LinkBehavior(loss=0.95))) is None
