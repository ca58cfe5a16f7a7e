"""Where a NAT stands."""

from dataclasses import dataclass

from quicpipe_lab.backends.sim.link import Interface
from quicpipe_lab.backends.sim.node import Node


@dataclass(frozen=True)
class NatPlace:
    """``addresses``: the external ones, that of the uplink first; ``subscribers``: the inside ones,
    as the NAT sees them. ``inward``, ``outward``: what is outside to packets that come, and to
    those that go: the uplink, and the ends of the hairpin, if there is one.
    """

    node: Node
    addresses: tuple[str, ...]
    subscribers: tuple[str, ...]
    inward: tuple[Interface, ...]
    outward: tuple[Interface, ...]

    @property
    def hairpin_out(self) -> Interface | None:
        """Where hairpinned datagrams leave."""
        return self.outward[1] if len(self.outward) > 1 else None
