"""What lies between two nodes: a link, or the router where their ways part."""

from quicpipe_lab.errors import LocalProtocolError
from quicpipe_lab.model.topology import CORE, Topology, Uplink


def link_between(topology: Topology, one: str, other: str) -> Uplink:
    """The link that joins two nodes. Raises LocalProtocolError."""
    for uplink in topology.all_links:
        if {uplink.lower, uplink.upper} == {one, other}:
            return uplink
    raise LocalProtocolError(f"there is no link between {one!r} and {other!r}")


def cut_point(topology: Topology, one: str, other: str) -> tuple[str, list[str]]:
    """The router where the ways of two nodes part, and its neighbours towards them.

    One neighbour where one of the two is the router itself. A host's way is that by its link in
    use, unless a link that stands by joins the two. Raises LocalProtocolError.
    """
    for name in (one, other):
        if name != CORE and name not in topology.by_name:
            raise LocalProtocolError(f"there is no node {name!r}")
    if one == other:
        raise LocalProtocolError(f"nothing lies between {one!r} and itself")
    for lower, upper in ((one, other), (other, one)):
        if any(link.upper == upper for link in topology.standby.get(lower, ())):
            return upper, [lower]
    ways = [topology.path_to_core(name)[::-1] for name in (one, other)]
    shared = 0
    while all(len(way) > shared for way in ways) and ways[0][shared] == ways[1][shared]:
        shared += 1
    return ways[0][shared - 1], [way[shared] for way in ways if len(way) > shared]
