"""What a node's interfaces are called, the same on every backend and in every capture."""

from collections.abc import Sequence

from quicpipe_lab.model.topology import CORE, Topology

LOOPBACK = "lo"
HAIRPIN_OUT, HAIRPIN_IN = "~out", "~in"
"""The two ends of the cable that brings hairpinned datagrams back as if from outside. No node has
such a name, and so no other interface."""

_NAME_LIMIT = 15  # Linux's IFNAMSIZ less its terminating zero
_RESERVED = {LOOPBACK, "all", "default"}


def interface_name(topology: Topology, node: str, neighbour: str) -> str:
    """The name of ``node``'s interface on its link with ``neighbour``."""
    return interface_names(neighbours(topology, node))[neighbour]


def neighbours(topology: Topology, node: str) -> list[str]:
    """Of a node: those towards the core first, of a host the one that it uses before others."""
    above = [uplink.upper for uplink in topology.links_of(node)] if node != CORE else []
    return above + [uplink.lower for uplink in topology.children(node)]


def interface_names(neighbours: Sequence[str]) -> dict[str, str]:
    """Of a node with these neighbours: theirs, shortened where Linux allows none as long as that.

    No two are equal: a node's name has no tilde.
    """
    names: dict[str, str] = {}
    shortened = 0
    for neighbour in neighbours:
        if len(neighbour) <= _NAME_LIMIT and neighbour not in _RESERVED:
            names[neighbour] = neighbour
        else:
            suffix = f"~{shortened}"
            names[neighbour] = neighbour[: _NAME_LIMIT - len(suffix)] + suffix
            shortened += 1
    return names
