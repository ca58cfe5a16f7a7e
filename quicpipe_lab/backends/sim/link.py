"""Interfaces, and the links between them: plain cables, or what LinkModel makes of the packets."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from quicpipe_lab.backends.sim.clock import Clock
from quicpipe_lab.backends.sim.packet import Packet, flip, size_bytes
from quicpipe_lab.model.link_model import LinkModel

if TYPE_CHECKING:
    from quicpipe_lab.backends.sim.node import Node


class Interface:
    """One end of a link. ``addresses`` by IP version, as far as it has them."""

    __slots__ = ("addresses", "carry", "name", "node")

    def __init__(self, node: "Node", name: str, addresses: dict[int, str]) -> None:
        self.node = node
        self.name = name
        self.addresses = addresses
        self.carry: Callable[[Packet], None]
        """Where what leaves by it goes."""


class Direction:
    """One way of a link. Without a model a packet arrives in the moment in which it is sent."""

    __slots__ = ("_clock", "_target", "model")

    def __init__(self, clock: Clock, target: Interface, model: LinkModel | None) -> None:
        self.model = model
        self._clock = clock
        self._target = target

    def __call__(self, packet: Packet) -> None:
        """Send a packet on its way."""
        target, model = self._target, self.model
        if model is None:
            target.node.receive(packet, target)
            return
        for fate in model.admit(size_bytes(packet), self._clock.now):
            if fate.out_s is not None:
                copy = packet if fate.flipped_bit is None else flip(packet, fate.flipped_bit)
                self._clock.at(fate.out_s, target.node.receive, copy, target)


def join(
    clock: Clock, one: Interface, other: Interface, there: LinkModel | None, back: LinkModel | None
) -> None:
    """A link between two interfaces; ``there`` is from ``one`` to ``other``."""
    one.carry = Direction(clock, other, there)
    other.carry = Direction(clock, one, back)
