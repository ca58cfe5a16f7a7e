"""NATs that are built otherwise than they are declared."""

from dataclasses import replace
from typing import Any

import pytest

from quicpipe_lab.backends.netns import lab as lab_module
from quicpipe_lab.backends.netns.plan import plan
from quicpipe_lab.model.nat import NatBehavior
from quicpipe_lab.model.topology import Nat, Topology


def make_lie(nat: str, behavior: NatBehavior, patch: pytest.MonkeyPatch) -> None:
    """From here on, labs are built with another behaviour of one NAT than their topology says."""

    def lying_plan(topology: Topology, *rest: Any, **options: Any) -> Any:
        nodes = tuple(
            replace(node, behavior=behavior) if isinstance(node, Nat) and node.name == nat else node
            for node in topology.nodes
        )
        return plan(Topology(topology.name, nodes, topology.links), *rest, **options)

    patch.setattr(lab_module, "plan", lying_plan)
