"""``quicpipe-lab doctor``: what this machine can do, how that was tried, how to enable the rest.

The trying is done by a program of its own (probes.py). The tests take their reasons for being
skipped from here.
"""

import dataclasses
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache

from quicpipe_lab.errors import QuicpipeLabError

_DEADLINE_S = 60.0
"""For all probes; each has a shorter one of its own."""


@dataclass(frozen=True, slots=True)
class Capability:
    """One thing that a lab may need.

    ``tried`` says how it was tried, ``detail`` what came of it, and ``remedy`` is the command
    that enables it; None where there is none, or nothing to enable.
    """

    name: str
    ok: bool
    tried: str
    detail: str
    remedy: str | None

    def __str__(self) -> str:
        """Why something cannot be done here, in one line."""
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{self.name}: {self.detail}{remedy}"


def probe_all() -> list[Capability]:
    """Every capability, tried now. Raises QuicpipeLabError."""
    program = [sys.executable, "-P", "-m", "quicpipe_lab.backends.netns.probes"]
    try:
        done = subprocess.run(program, capture_output=True, text=True, timeout=_DEADLINE_S)
    except subprocess.TimeoutExpired:
        raise QuicpipeLabError(f"the probes did not end within {_DEADLINE_S:g} s") from None
    if done.returncode != 0:
        raise QuicpipeLabError(f"the probes failed: {done.stderr.strip().splitlines()[-1]}")
    return [Capability(**json.loads(line)) for line in done.stdout.splitlines()]


def capability(name: str) -> Capability:
    """One of them; all are tried once in the life of this process."""
    return _by_name()[name]


@cache
def _by_name() -> dict[str, Capability]:
    return {one.name: one for one in probe_all()}


def run(json: bool) -> int:
    """Print the report on standard output: one JSON object, or a table for people."""
    capabilities = probe_all()
    if json:
        _print_json(capabilities)
    elif sys.stdout.isatty():
        _print_table(capabilities)
    else:
        _print_lines(capabilities)
    return 0


def _print_json(capabilities: list[Capability]) -> None:
    report = {
        "kernel": os.uname().release,
        "root": os.geteuid() == 0,
        "capabilities": [dataclasses.asdict(one) for one in capabilities],
    }
    print(json.dumps(report))


def _print_table(capabilities: list[Capability]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=f"What this machine can do (Linux {os.uname().release})")
    for heading in ("capability", "", "how it was tried", "what came of it"):
        table.add_column(heading, overflow="fold")
    for one in capabilities:
        verdict = Text("yes", "green") if one.ok else Text("no", "red")
        outcome = Text(one.detail)
        if one.remedy:
            outcome.append(f"\nto enable it: {one.remedy}", "bold")
        table.add_row(Text(one.name), verdict, Text(one.tried), outcome)
    Console().print(table)


def _print_lines(capabilities: list[Capability]) -> None:
    for one in capabilities:
        print(f"{'yes' if one.ok else 'no ':3}  {one.name}: {one.detail} (tried: {one.tried})")
        if one.remedy:
            print(f"     to enable it: {one.remedy}")
