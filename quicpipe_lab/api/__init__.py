"""The package for Python programs and notebooks: a lab for ``async with``, and scenarios to run.

async with Lab("two-homes") as lab:
    result = await lab["alice"].run(["ping", "-c", "3", "relay"])
    print(result.exit_code, result.stdout)
"""

from quicpipe_lab.api.lab import Lab, Node
from quicpipe_lab.api.program import Program, ProgramResult
from quicpipe_lab.api.runs import run, scenarios
from quicpipe_lab.api.tables import packets

__all__ = ["Lab", "Node", "Program", "ProgramResult", "packets", "run", "scenarios"]
