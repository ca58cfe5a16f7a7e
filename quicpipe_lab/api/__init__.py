"""The package for Python programs and notebooks: a lab for ``async with``, and scenarios to run.

async with Lab("two-homes") as lab:
    server = await lab["relay"].start(["iperf3", "-s"])
    result = await lab["alice"].run(["iperf3", "-c", "relay"])
    print(result.exit_code, result.stdout)
"""

from quicpipe_lab.api.lab import Lab, Node
from quicpipe_lab.api.program import Program, ProgramResult
from quicpipe_lab.api.runs import run, scenarios

__all__ = ["Lab", "Node", "Program", "ProgramResult", "run", "scenarios"]
