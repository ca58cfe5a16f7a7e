"""The other end of a link for XDP, from the lab's caller's side; see xdp_peer.py for the why."""

import os
import select
from collections.abc import Callable, Sequence

from quicpipe_lab.backends.netns.blueprint import WIRES, Blueprint
from quicpipe_lab.backends.netns.channel import Channel, Message
from quicpipe_lab.backends.netns.failures import raise_described
from quicpipe_lab.errors import BackendUnavailableError, LocalProtocolError, QuicpipeLabError

Ask = Callable[[Message, Sequence[int]], tuple[Message, list[int]]]
"""The supervisor."""

_WITHIN_S = 30.0
"""A compiler on a machine that is busy with other things."""


class XdpPeer:
    """Being prepared from construction on, while the lab does other things; so until ``close``."""

    def __init__(self, blueprint: Blueprint, node: str, native: bool, ask: Ask) -> None:
        require_root()
        place, interface = _other_end(blueprint, node)
        self._links: list[int] = []
        self._answer, there = Channel.pair()
        with there:
            request = {"request": "xdp-peer", "node": place, "interface": interface}
            ask({**request, "native": native}, [there.fileno()])

    def finish(self) -> None:
        """Wait until it is ready. Raises BackendUnavailableError, QuicpipeLabError."""
        if not select.select([self._answer], [], [], _WITHIN_S)[0]:
            raise QuicpipeLabError(f"the relay's link was not ready for XDP within {_WITHIN_S:g} s")
        try:
            answer, self._links = self._answer.receive()
        except EOFError:
            raise QuicpipeLabError("what prepares the relay's link for XDP has died") from None
        raise_described(answer)

    def close(self) -> None:
        """Idempotent."""
        self._answer.close()
        while self._links:
            os.close(self._links.pop())


def require_root() -> None:
    """Raises BackendUnavailableError: root of a user namespace of its own may not load programs."""
    if os.geteuid() != 0:
        raise BackendUnavailableError("XDP needs root", "run it as root: sudo quicpipe-lab")


def _other_end(blueprint: Blueprint, node: str) -> tuple[str, str]:
    """The namespace and the interface that the node's own is the veth peer of."""
    for space in blueprint.spaces:
        for wire in space.wires:
            if wire.lower_node == node:
                # Where a process passes frames on, it has the other end.
                return (
                    (WIRES, wire.through[1].interface)
                    if wire.through
                    else (space.node, wire.upper.interface)
                )
    raise LocalProtocolError(f"{node!r} has no link upwards")
