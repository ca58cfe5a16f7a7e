"""Where the other end of a link for XDP is; see xdp_peer.py for what is done to it."""

import os

from quicpipe_lab.backends.netns.blueprint import WIRES, Blueprint, End
from quicpipe_lab.errors import BackendUnavailableError, LocalProtocolError


def require_root() -> None:
    """Raises BackendUnavailableError: root of a user namespace of its own may not load programs."""
    if os.geteuid() != 0:
        raise BackendUnavailableError("XDP needs root", "run it as root: sudo quicpipe-lab")


def other_end(blueprint: Blueprint, node: str) -> tuple[str, End]:
    """The namespace and the interface that the node's own is the veth peer of."""
    for space in blueprint.spaces:
        for wire in space.wires:
            if wire.link == node:
                # Where a process passes frames on, it has the other end.
                return (WIRES, wire.through[1]) if wire.through else (space.node, wire.upper)
    raise LocalProtocolError(f"{node!r} has no link upwards")
