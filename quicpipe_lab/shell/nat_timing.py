"""How patiently a lab's NATs are asked: as its links need it, which are known there."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace

from quicpipe_lab.model.link import LinkBehavior
from quicpipe_lab.model.link_odds import tries_needed
from quicpipe_lab.model.topology import Host, Topology
from quicpipe_lab.shell.stun_client import DELAYED, LOSSY, PLAIN, Timing

_ALL_LOST = 1e-9
"""The chance that links lose all there is of one question. A NAT is asked about a hundred."""
_ROUNDS = 3
"""With an answer in between, which ends a burst, they need fewer packets than one round would."""
_MOST = 1000
"""Packets a question: beyond that, links lose too much to tell them from a NAT."""

_Path = tuple[LinkBehavior, ...]


def timing_for(topology: Topology) -> Timing | None:
    """None: what its links lose would pass for what its NATs do. Jitter is no reordering: see
    LinkBehavior."""
    if all(link.is_plain for link in topology.links):
        return PLAIN
    directions = [
        one for link in topology.links for one in (link.towards_lower, link.towards_upper) if one
    ]
    if not any(one.mean_loss or one.reorder or one.corrupt for one in directions):
        return DELAYED
    paths = list(_paths(topology))
    in_a_row = _most_needed(paths, _ALL_LOST)
    copies = _most_needed(paths, _ALL_LOST ** (1 / _ROUNDS), after_one=True)
    if in_a_row is None or copies is None:
        return None
    slowest_s = max(map(_longest_s, paths), default=0.0)
    return replace(
        LOSSY,
        first_wait_s=max(LOSSY.first_wait_s, slowest_s),
        slowest_s=max(LOSSY.slowest_s, slowest_s),
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


def _paths(topology: Topology) -> Iterator[_Path]:
    """From each host by each of its links to the core and back, to the same one or to another:
    each kind once."""
    up, down = set[_Path](), set[_Path]()
    for name, uplink in topology.by_link.items():
        if not isinstance(topology.by_name[uplink.lower], Host):
            continue
        on_the_way = [topology.by_link[one].link for one in topology.path_to_core(name)[:-1]]
        up.add(tuple(link.towards_upper for link in on_the_way if link.towards_upper))
        down.add(tuple(link.towards_lower for link in reversed(on_the_way) if link.towards_lower))
    return (there + back for there in up for back in down)


def _longest_s(path: _Path) -> float:
    return sum(one.delay_s + one.jitter_s for one in path)
