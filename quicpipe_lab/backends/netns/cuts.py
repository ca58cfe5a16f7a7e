"""Cuts between nodes: which packets a router drops, as nftables rules. Pure."""

from collections.abc import Mapping

from quicpipe_lab.backends.netns.blueprint import Chain, Table
from quicpipe_lab.model.between import cut_point
from quicpipe_lab.model.interface import interface_name
from quicpipe_lab.model.topology import Topology

TABLE = "cuts"
# Ahead of everything that a NAT does (its rules begin at -300), so that nothing is recorded of
# what is dropped; and behind it on the way out.
_BEFORE_ALL, _FILTER, _AFTER_ALL = -400, 0, 200

Pair = frozenset[str]


def cut_interfaces(
    topology: Topology, one: str, other: str, *, in_use: Mapping[str, str] | None = None
) -> tuple[str, list[str]]:
    """The router where the ways of two nodes part, and its interfaces towards them.

    One interface where one of the two is the router itself. ``in_use`` as cut_point has it. Raises
    LocalProtocolError.
    """
    router, towards = cut_point(topology, one, other, in_use=in_use)
    return router, [interface_name(topology, router, name) for name in towards]


def cuts_table(cuts: list[list[str]]) -> Table:
    """The rules of a router for its cuts, each given as cut_interfaces gives it."""
    forward, inward, outward = [], [], []
    for interfaces in cuts:
        if len(interfaces) == 2:
            one, other = interfaces
            forward += [_between(one, other), _between(other, one)]
        else:
            (interface,) = interfaces
            inward.append([f'iifname "{interface}"', "drop"])
            outward.append([f'oifname "{interface}"', "drop"])
    return Table(
        TABLE,
        [],
        [
            Chain("inward", "filter", "prerouting", _BEFORE_ALL, inward),
            Chain("forward", "filter", "forward", _FILTER, forward),
            Chain("outward", "filter", "postrouting", _AFTER_ALL, outward),
        ],
        "inet",
    )


def _between(entrance: str, exit_: str) -> list[str]:
    return [f'iifname "{entrance}"', f'oifname "{exit_}"', "drop"]
