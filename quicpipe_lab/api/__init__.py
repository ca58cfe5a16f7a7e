"""The package for Python programs and notebooks: a lab for ``async with``, and scenarios to run.

async with Lab("two-homes") as lab:
    result = await lab["alice"].run(["ping", "-c", "3", "relay"])
    print(result.exit_code, result.stdout)

Names are imported when they are asked for: a simulation needs nothing of what a lab is built with,
and runs where that cannot be had.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quicpipe_lab.api.lab import Lab as Lab
    from quicpipe_lab.api.lab import Node as Node
    from quicpipe_lab.api.program import Program as Program
    from quicpipe_lab.api.program import ProgramResult as ProgramResult
    from quicpipe_lab.api.runs import run as run
    from quicpipe_lab.api.runs import scenarios as scenarios
    from quicpipe_lab.api.runs import simulate as simulate
    from quicpipe_lab.api.tables import packets as packets

_MODULES = {
    "Lab": "lab",
    "Node": "lab",
    "Program": "program",
    "ProgramResult": "program",
    "packets": "tables",
    "run": "runs",
    "scenarios": "runs",
    "simulate": "runs",
}

__all__ = ["Lab", "Node", "Program", "ProgramResult", "packets", "run", "scenarios", "simulate"]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
