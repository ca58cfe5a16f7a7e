"""How patiently a lab's NATs are asked: as the links on the way need it, which are known there."""

import math
from collections.abc import Iterable
from dataclasses import replace

from quicpipe_lab.model.address import Family
from quicpipe_lab.model.link import LinkBehavior
from quicpipe_lab.model.link_odds import tries_needed
from quicpipe_lab.model.topology import Topology
from quicpipe_lab.model.vantage import Vantage
from quicpipe_lab.shell.stun_client import DELAYED, LOSSY, PLAIN, Timing

MOST_ROUND_TRIP_S = 30.0
"""A question that takes longer is not waited for: nobody's programs would, either."""
ROUND_TRIPS = 16
"""So many follow one another until a NAT has been measured, its mappings' lifetime apart."""
_LONGEST_UNUSED = 5
"""Round trips for which the tests rely on a mapping that they do not use, and one to spare."""
QUESTION_BYTES = {Family.IPV4: 28 + 36, Family.IPV6: 48 + 36}
ANSWER_BYTES = {Family.IPV4: 28 + 72, Family.IPV6: 48 + 108}
"""The longest, as IP packets."""
_AT_ONCE = 9
"""Tests that a host makes side by side: so many packets may wait for a link's rate."""

_ALL_LOST = 1e-9
"""The chance that links lose all there is of one question. A NAT is asked about a hundred."""
_ROUNDS = 3
"""With an answer in between, which ends a burst, they need fewer packets than one round would."""
_MOST = 1000
"""Packets a question: beyond that, links lose too much to tell them from a NAT."""
_LOST = "its links lose too much to tell that from what it does"

_Path = tuple[LinkBehavior, ...]


def timing_for(
    topology: Topology,
    vantage: Vantage,
    lifetime_s: float | None = None,
    within_s: float = math.inf,
) -> Timing | str:
    """For what is looked at from there; or why nothing is, as it would pass for what NATs do.

    ``lifetime_s``: of a mapping on the way. ``within_s``: all that may be spent on it.
    Jitter is no reordering: see LinkBehavior.
    """
    up, down = _paths(topology, vantage)
    directions = [one for path in up | down for one in path]
    if not directions:
        return PLAIN
    is_ipv6 = vantage.family is Family.IPV6 or topology.nat64_above(vantage.first) is not None
    family = Family.IPV6 if is_ipv6 else Family.IPV4
    for paths, size_bytes in ((up, QUESTION_BYTES[family]), (down, ANSWER_BYTES[family])):
        mtu_bytes = min((one.mtu_bytes for path in paths for one in path), default=size_bytes)
        if mtu_bytes < size_bytes:
            return f"its links carry {mtu_bytes} bytes at most, and its tests take {size_bytes}"
    round_trip_s = max(_longest_s(path, QUESTION_BYTES[family]) for path in up)
    round_trip_s += max(_longest_s(path, ANSWER_BYTES[family]) for path in down)
    if (why := _why_too_slow(round_trip_s, lifetime_s, within_s)) is not None:
        return why
    if any(one.mean_loss or one.reorder or one.corrupt for one in directions):
        return _against_losses({there + back for there in up for back in down}, round_trip_s)
    if round_trip_s <= DELAYED.slowest_s:
        return DELAYED
    return replace(DELAYED, first_wait_s=round_trip_s, slowest_s=round_trip_s)


def _why_too_slow(round_trip_s: float, lifetime_s: float | None, within_s: float) -> str | None:
    takes = f"a question takes up to {round_trip_s:.3g} s over its links"
    if round_trip_s > MOST_ROUND_TRIP_S:
        return f"{takes}, and no test waits for more than {MOST_ROUND_TRIP_S:g} s"
    if round_trip_s <= DELAYED.slowest_s:
        return None
    if round_trip_s * ROUND_TRIPS > within_s:
        return f"{takes}: too long to ask {ROUND_TRIPS} in the {within_s:.3g} s that there are"
    if lifetime_s is not None and round_trip_s * _LONGEST_UNUSED > lifetime_s:
        return f"{takes}: too long for mappings that live for {lifetime_s:g} s"
    return None


def _against_losses(paths: Iterable[_Path], round_trip_s: float) -> Timing | str:
    in_a_row = _most_needed(paths, _ALL_LOST)
    copies = _most_needed(paths, _ALL_LOST ** (1 / _ROUNDS), after_one=True)
    if in_a_row is None or copies is None:
        return _LOST
    return replace(
        LOSSY,
        first_wait_s=max(LOSSY.first_wait_s, round_trip_s),
        slowest_s=max(LOSSY.slowest_s, round_trip_s),
        repeats=math.ceil((in_a_row - 1) / (LOSSY.tries - 1)) or 1,
        rounds=_ROUNDS,
        copies=max(LOSSY.copies, copies),
        in_a_row=max(LOSSY.in_a_row, in_a_row),
    )


def _most_needed(paths: Iterable[_Path], chance: float, *, after_one: bool = False) -> int | None:
    most = 1
    for path in paths:
        needed = tries_needed(path, chance, _MOST, after_one=after_one)
        if needed is None:
            return None
        most = max(most, needed)
    return most


def _paths(topology: Topology, vantage: Vantage) -> tuple[set[_Path], set[_Path]]:
    """From each of its hosts to the core, and back, which may be to the other one."""
    up, down = set[_Path](), set[_Path]()
    for host in (vantage.first, vantage.second):
        if host is None:
            continue
        on_the_way = [topology.by_link[one].link for one in topology.path_to_core(host)[:-1]]
        up.add(tuple(link.towards_upper for link in on_the_way if link.towards_upper))
        down.add(tuple(link.towards_lower for link in reversed(on_the_way) if link.towards_lower))
    return up, down


def _longest_s(path: _Path, size_bytes: int) -> float:
    """``size_bytes``: of a packet, of which several may be on the way."""
    bits = size_bytes * 8 * _AT_ONCE
    return sum(
        one.delay_s + one.jitter_s + (bits / one.rate_bps if one.rate_bps else 0.0) for one in path
    )
