"""A topology by itself, before anything has run in it: the first picture without paths."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from matplotlib.axes import Axes

from quicpipe_lab.analysis.plots.topology import topology as draw
from quicpipe_lab.analysis.run_files import Run
from quicpipe_lab.model.address import Family
from quicpipe_lab.model.scenario import Scenario
from quicpipe_lab.model.topology import Relay, Topology


@dataclass
class _Nobody:
    """What a scenario is to that picture, where nobody plays a role yet. The relay's place is
    above the core all the same."""

    topology: Topology
    dialer: str = ""
    accepter: str = ""
    relay: str = field(init=False)

    def __post_init__(self) -> None:
        self.relay = next((one.name for one in self.topology.of_kind(Relay)), "")

    def family_of(self, _: str) -> Family:
        """Addresses that are shown: every topology has IPv4 somewhere."""
        return Family.IPV4


def plan(topology: Topology, ax: Axes | None = None, *, dark: bool = False) -> Axes:
    """Boxes for nodes, lines for links."""
    empty = Run(Path(), cast(Scenario, _Nobody(topology)), ())
    return draw(empty, ax, dark=dark)
