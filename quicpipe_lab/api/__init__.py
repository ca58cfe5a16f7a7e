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
    from quicpipe_lab.api.background import run_async as run_async
    from quicpipe_lab.api.blocking import BlockingLab as BlockingLab
    from quicpipe_lab.api.blocking import BlockingProgram as BlockingProgram
    from quicpipe_lab.api.exploring import explore as explore
    from quicpipe_lab.api.lab import Lab as Lab
    from quicpipe_lab.api.lab import Node as Node
    from quicpipe_lab.api.looks import Drawn as Drawn
    from quicpipe_lab.api.looks import explain as explain
    from quicpipe_lab.api.looks import picture as picture
    from quicpipe_lab.api.looks import relay_latency as relay_latency
    from quicpipe_lab.api.program import Program as Program
    from quicpipe_lab.api.program import ProgramResult as ProgramResult
    from quicpipe_lab.api.runs import run as run
    from quicpipe_lab.api.runs import scenarios as scenarios
    from quicpipe_lab.api.runs import simulate as simulate
    from quicpipe_lab.api.runs import topologies as topologies
    from quicpipe_lab.api.surveys import Certificates as Certificates
    from quicpipe_lab.api.surveys import Matrix as Matrix
    from quicpipe_lab.api.surveys import check_nats as check_nats
    from quicpipe_lab.api.surveys import matrix as matrix
    from quicpipe_lab.api.tables import packets as packets

_MODULES = {
    "BlockingLab": "blocking",
    "BlockingProgram": "blocking",
    "Certificates": "surveys",
    "Drawn": "looks",
    "Lab": "lab",
    "Matrix": "surveys",
    "Node": "lab",
    "Program": "program",
    "ProgramResult": "program",
    "check_nats": "surveys",
    "explain": "looks",
    "explore": "exploring",
    "matrix": "surveys",
    "packets": "tables",
    "picture": "looks",
    "relay_latency": "looks",
    "run": "runs",
    "run_async": "background",
    "scenarios": "runs",
    "simulate": "runs",
    "topologies": "runs",
}

__all__ = [
    "BlockingLab",
    "BlockingProgram",
    "Certificates",
    "Drawn",
    "Lab",
    "Matrix",
    "Node",
    "Program",
    "ProgramResult",
    "check_nats",
    "explain",
    "explore",
    "matrix",
    "packets",
    "picture",
    "relay_latency",
    "run",
    "run_async",
    "scenarios",
    "simulate",
    "topologies",
]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
