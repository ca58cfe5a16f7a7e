"""What lies between two nodes: a link, or the router where their ways part."""

from collections.abc import Mapping

from quicpipe_lab.errors import LocalProtocolError
from quicpipe_lab.model.topology import CORE, Topology, Uplink


def link_between(topology: Topology, one: str, other: str) -> Uplink:
    """The link that joins two nodes. Raises LocalProtocolError."""
    for uplink in topology.all_links:
        if {uplink.lower, uplink.upper} == {one, other}:
            return uplink
    raise LocalProtocolError(f"there is no link between {one!r} and {other!r}")


def link_upwards(topology: Topology, host: str, to: str) -> Uplink:
    """A host's link to one of its routers. Raises LocalProtocolError."""
    if host not in topology.standby:
        raise LocalProtocolError(f"{host!r} is no host with several links")
    for link in topology.links_of(host):
        if link.upper == to:
            return link
    routers = " and ".join(repr(link.upper) for link in topology.links_of(host))
    raise LocalProtocolError(f"{host!r} has no link to {to!r}, but to {routers}")


def cut_point(
    topology: Topology, one: str, other: str, *, in_use: Mapping[str, str] | None = None
) -> tuple[str, list[str]]:
    """The router where the ways of two nodes part, and its neighbours towards them.

    One neighbour where one of the two is the router itself. A host's way is that by its link in
    use, by its name in ``in_use`` where that is not the first any more, unless another one joins
    the two. Raises LocalProtocolError.
    """
    for name in (one, other):
        if name != CORE and name not in topology.by_name:
            raise LocalProtocolError(f"there is no node {name!r}")
    if one == other:
        raise LocalProtocolError(f"nothing lies between {one!r} and itself")
    for lower, upper in ((one, other), (other, one)):
        if lower in topology.standby and any(
            link.upper == upper for link in topology.links_of(lower)
        ):
            return upper, [lower]
    ways = [
        [name, *topology.path_to_core((in_use or {}).get(name, name))[1:]][::-1]
        for name in (one, other)
    ]
    shared = 0
    while all(len(way) > shared for way in ways) and ways[0][shared] == ways[1][shared]:
        shared += 1
    return ways[0][shared - 1], [way[shared] for way in ways if len(way) > shared]
