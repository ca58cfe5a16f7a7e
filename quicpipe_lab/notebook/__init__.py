"""How a notebook shows what this package gives it. Nothing is to be loaded by hand: importing
``quicpipe_lab`` where IPython runs is enough.

Types are known to IPython by name, so that none of their modules is imported before one is shown,
and the model knows nothing of notebooks.
"""

import sys
from typing import Any

_SHOWN = {
    "quicpipe_lab.analysis.explain.Explanation": "explanation",
    "quicpipe_lab.api.lab.Lab": "lab",
    "quicpipe_lab.api.program.ProgramResult": "program",
    "quicpipe_lab.api.surveys.Certificates": "certificates",
    "quicpipe_lab.backends.explore.Exploration": "exploration",
    "quicpipe_lab.backends.sim.simulation.Simulation": "simulation",
    "quicpipe_lab.backends.sim.table.Table": "nat_table",
    "quicpipe_lab.model.nat.NatBehavior": "behavior",
    "quicpipe_lab.model.nat_certificate.Certificate": "certificate",
    "quicpipe_lab.model.result.RelayedBy": "relayed_by",
    "quicpipe_lab.model.scenario.Scenario": "scenario",
    "quicpipe_lab.model.topology.Nat": "nat",
    "quicpipe_lab.model.topology.Topology": "topology",
    "quicpipe_lab.shell.xdp_filter.Filter": "filter_counters",
}
"""Type to the function of displays.py that makes its MIME bundle."""

_SHOWN_IN_PARTS = {
    "quicpipe_lab.model.result.RunResult": "run",
    "quicpipe_lab.api.surveys.Matrix": "matrix",
}
"""... that shows it piece by piece: a picture of its own is what forges show best."""


def register() -> None:
    """Tell IPython, where it runs. Twice is fine."""
    shell = sys.modules["IPython"].get_ipython()
    if shell is None or shell.display_formatter is None:
        return
    formatter = shell.display_formatter
    for name, function in _SHOWN.items():
        module, _, kind = name.rpartition(".")
        formatter.mimebundle_formatter.for_type_by_name(module, kind, _late(function))
    for name, function in _SHOWN_IN_PARTS.items():
        module, _, kind = name.rpartition(".")
        formatter.ipython_display_formatter.for_type_by_name(module, kind, _late(function))


def _late(function: str) -> Any:
    def show(shown: Any, **_: Any) -> Any:
        from quicpipe_lab.notebook import displays

        return getattr(displays, function)(shown)

    return show
