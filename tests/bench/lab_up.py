"""How long a lab takes to come up and go away again, against what else people build with.

Two numbers for nat-to-nat: the first lab of a process has its supervisor import pyroute2 and
encode the plan; every other of the same plan is given what the first encoded (see lab.py there).
Each starts a Python of its own.
"""

import shutil
import subprocess
import textwrap
import time
from pathlib import Path

from quicpipe_lab.backends.netns import lab as lab_module
from quicpipe_lab.backends.netns.lab import Lab
from quicpipe_lab.model.topology import Host, Link, Relay, Topology
from quicpipe_lab.resources import find_topology
from tests.bench import Row, alternate, median, skipped, time_program_s
from tests.bench._lab_script import clean_up, script
from tests.folders import vanishing_folder

TITLE = "Lab up and down again (wall clock, median)"

_SCRIPT_LIMIT = 1.0
_MININET_LIMIT = 0.1
_GROWTH_LIMIT = 1.5
_ROUNDS = 21
_MININET_ROUNDS = 7
_GROWTH_ROUNDS = 3
_HOSTS = (10, 100, 400)
_PREFIX = "quicpipe-bench-"
_MININET_PYTHON = "/usr/bin/python3"  # where the distribution's package is


def run() -> list[Row]:
    topology = find_topology("two-homes")
    return [*_against_script(topology), *_against_mininet(topology), *_growth()]


def _against_script(topology: Topology) -> list[Row]:
    what = "shell script of ip -batch and nft -f"
    missing = [name for name in ("ip", "nft") if shutil.which(name) is None]
    if missing:
        return [skipped(what, f"{missing[0]} is not installed")]
    with vanishing_folder() as folder:
        path = folder / "build.sh"
        path.write_text(script(topology, _PREFIX))
        try:
            times_s = alternate(
                _ROUNDS,
                first=lambda: _first_lab_s(topology),
                lab=lambda: _lab_s(topology),
                script=lambda: time_program_s(["sh", str(path)]),
            )
        finally:
            subprocess.run(["sh", "-c", clean_up(topology, _PREFIX)], check=True)
    first_s, lab_s, script_s = (times_s[name] for name in ("first", "lab", "script"))
    return [
        Row(what, median(script_s), "s"),
        _row("nat-to-nat, first of a process", first_s, script_s, "the script"),
        _row("nat-to-nat", lab_s, script_s, "the script", _SCRIPT_LIMIT),
    ]


def _against_mininet(topology: Topology) -> list[Row]:
    """Mininet has the same hosts and links, with a switch in the core's place and no NATs."""
    what = "Mininet, same hosts and links"
    check = [_MININET_PYTHON, "-c", "import mininet.net"]
    if not Path(_MININET_PYTHON).exists() or subprocess.run(check, capture_output=True).returncode:
        return [skipped(what, "mininet is not installed")]
    program = [_MININET_PYTHON, "-c", _mininet_program(topology)]
    times_s = alternate(
        _MININET_ROUNDS, lab=lambda: _lab_s(topology), mininet=lambda: time_program_s(program)
    )
    lab_s, mininet_s = times_s["lab"], times_s["mininet"]
    return [
        Row(what, median(mininet_s), "s"),
        _row("nat-to-nat", lab_s, mininet_s, "Mininet", _MININET_LIMIT),
    ]


def _row(
    what: str, ours_s: list[float], theirs_s: list[float], against: str, limit: float | None = None
) -> Row:
    """The ratio is taken round by round, so that a slow spell of the machine falls on both."""
    ratio = median([one / other for one, other in zip(ours_s, theirs_s, strict=True)])
    return Row(what, median(ours_s), "s", ratio=ratio, against=against, limit=limit)


def _mininet_program(topology: Topology) -> str:
    """Every node a host of Mininet's, so that no switch has to be running."""
    numbers = {name: number for number, name in enumerate(["core", *topology.uplinks])}
    links = [(numbers[one.upper], numbers[one.lower]) for one in topology.uplinks.values()]
    return textwrap.dedent(
        f"""\
        from mininet.net import Mininet
        net = Mininet(controller=None)
        hosts = [net.addHost(f"h{{number}}") for number in range({len(numbers)})]
        for one, other in {links!r}:
            net.addLink(hosts[one], hosts[other])
        net.start()
        net.stop()
        """
    )


def _growth() -> list[Row]:
    runs = {str(count): (lambda size=count: _lab_s(_star(size))) for count in _HOSTS}
    times_s = alternate(_GROWTH_ROUNDS, **runs)
    per_host_s = {count: median(times_s[str(count)]) / count for count in _HOSTS}
    rows = []
    for count in _HOSTS:
        ratio = per_host_s[count] / per_host_s[_HOSTS[0]]
        rows.append(
            Row(
                f"{count} hosts, for each",
                per_host_s[count],
                "s",
                ratio=ratio,
                against=f"at {_HOSTS[0]}",
                limit=_GROWTH_LIMIT if count == _HOSTS[-1] else None,
            )
        )
    return rows


def _star(hosts: int) -> Topology:
    names = [f"host-{number}" for number in range(hosts)]
    nodes = (Relay("relay"), *(Host(name) for name in names))
    return Topology("star", nodes, tuple(Link(("core", node.name)) for node in nodes))


def _first_lab_s(topology: Topology) -> float:
    lab_module._encoded.clear()
    return _lab_s(topology)


def _lab_s(topology: Topology) -> float:
    started_s = time.perf_counter()
    Lab(topology).up().down()
    return time.perf_counter() - started_s
