"""The commands around a lab that keeps running: up, ps, exec, shell, down."""

import argparse
import json
import os
import re
import sys
import time
from typing import TYPE_CHECKING, Any

from quicpipe_lab.errors import LabEndedError, LocalProtocolError, ProgramNotStartedError

if TYPE_CHECKING:
    from quicpipe_lab.backends.netns.registry import RunningLab
    from quicpipe_lab.model.topology import Topology

_OK = 0
_KILLED = 128 + 9
"""What a shell says of a program that went with its lab."""


def add(commands: Any) -> None:
    """Add the parsers of all of them."""
    up = commands.add_parser("up", help="build a lab and keep it running")
    up.add_argument("topology", help="a bundled topology, or the path of a TOML file")
    up.add_argument("--name", help="what to call the lab (default: as its topology)")
    up.add_argument(
        "--detach", action="store_true", help="return once it is up; it runs until 'down'"
    )
    up.add_argument(
        "--xdp", action="store_true", help="relays may run native XDP programs on their links"
    )
    _add_json(up)
    up.set_defaults(run=_up)

    ps = commands.add_parser("ps", help="the running labs, their nodes, addresses and programs")
    _add_json(ps)
    ps.set_defaults(run=_ps)

    execute = commands.add_parser("exec", help="run a program on a node of a running lab")
    _add_place(execute)
    execute.add_argument(
        "argv", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="the program, its arguments"
    )
    execute.set_defaults(run=_exec)

    shell = commands.add_parser("shell", help="a shell on a node of a running lab")
    _add_place(shell)
    shell.set_defaults(run=_shell)

    down = commands.add_parser("down", help="end a running lab and everything in it")
    down.add_argument("name", nargs="?", help="which (default: the only one of 'up')")
    _add_json(down)
    down.set_defaults(run=_down)


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def _add_place(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--lab", metavar="NAME", help="which (default: the only one of 'up')")
    parser.add_argument("node", help="a node's name, or core")


def _up(arguments: argparse.Namespace) -> int:
    from quicpipe_lab import resources
    from quicpipe_lab.backends.netns.keeper import keep
    from quicpipe_lab.backends.netns.lab import Lab

    topology = resources.find_topology(arguments.topology)
    name = arguments.name or re.sub(r"[^A-Za-z0-9._-]", "-", topology.name)
    lab = Lab(topology, name=name, kept=True, xdp=arguments.xdp)

    def announce(pid: int) -> None:
        if arguments.json:
            print(json.dumps({"name": name, "topology": topology.name, "pid": pid}), flush=True)
        else:
            print(_how_to_enter(name, topology, arguments.detach), flush=True)

    if arguments.detach:
        keep(lab, announce)
        return _OK
    with lab:
        announce(lab.pid)
        try:
            end = lab.wait_for_end()
        except KeyboardInterrupt:
            end = None
    if end is not None and not end.on_purpose:
        raise LabEndedError(f"the lab {name!r} is gone: its supervisor was killed")
    if not arguments.json:
        print(f"\nthe lab {name} is down; nothing was left running")
    return _OK


def _how_to_enter(name: str, topology: "Topology", is_detached: bool) -> str:
    from quicpipe_lab.model.topology import Host

    hosts = [node.name for node in topology.nodes if type(node) is Host]
    one, other = hosts[0] if hosts else "core", hosts[-1] if hosts else "core"
    commands = [
        (f"quicpipe-lab shell {one}", "a shell on a node"),
        (f"quicpipe-lab exec {other} -- ping core", "any program on a node"),
        ("quicpipe-lab ps", "nodes, addresses, programs"),
        (f"quicpipe-lab down {name}", "end it, and everything in it"),
    ]
    width = max(len(command) for command, _ in commands)
    nodes = ", ".join(["core", *topology.by_name])
    lines = [f"the lab {name} is up, with the nodes {nodes}"]
    lines += [f"  {command:{width}}   {what}" for command, what in commands]
    if not is_detached:
        lines.append("Ctrl-C ends it too")
    return "\n".join(lines)


def _ps(arguments: argparse.Namespace) -> int:
    from quicpipe_lab.backends.netns.registry import running_labs

    labs = running_labs()
    if arguments.json:
        print(json.dumps({"labs": [lab.as_json() for lab in labs]}))
    elif labs:
        print("\n\n".join(_lab_text(lab) for lab in labs))
    else:
        print("no lab is running; start one with: quicpipe-lab up TOPOLOGY")
    return _OK


def _lab_text(lab: "RunningLab") -> str:
    """One lab for a person: a line for each node, below it one for each program."""
    data = lab.as_json()
    whose = "" if lab.user == os.getuid() else f" of {data['user']}"
    kind = "" if lab.kept else ", of another program"
    age = _duration_text(time.time() - lab.started_s)
    lines = [f"{lab.name}{whose}: topology {lab.topology}, up for {age}, pid {lab.pid}{kind}"]
    width = max(len(node["name"]) for node in data["nodes"])
    for node in data["nodes"]:
        behind = f" (behind {node['behind']})" if node["behind"] else ""
        lines.append(f"  {node['name']:{width}}  {', '.join(node['addresses'])}{behind}")
        lines += [
            f"  {'':{width}}  {one['pid'] or '?':>7} {_argv_text(one['argv'])}"
            for one in node["programs"]
        ]
    return "\n".join(lines)


def _argv_text(argv: list[str], limit: int = 80) -> str:
    text = " ".join(" ".join(argv).split())
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _duration_text(seconds: float) -> str:
    for unit, size_s in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size_s:
            return f"{seconds / size_s:.0f} {unit}"
    return f"{seconds:.0f} s"


def _exec(arguments: argparse.Namespace) -> int:
    argv = arguments.argv[1:] if arguments.argv[:1] == ["--"] else arguments.argv
    if not argv:
        raise LocalProtocolError("which program? quicpipe-lab exec NODE -- COMMAND...")
    if argv is arguments.argv and argv[0].startswith("-"):
        raise LocalProtocolError("options go before the node: exec [--lab NAME] NODE -- COMMAND...")
    return _run(arguments, argv, dict(os.environ))


def _shell(arguments: argparse.Namespace) -> int:
    from quicpipe_lab.backends.netns.entering import shell_of

    argv, env = shell_of(os.environ, arguments.node)
    return _run(arguments, argv, env)


def _run(arguments: argparse.Namespace, argv: list[str], env: dict[str, str]) -> int:
    from quicpipe_lab.backends.netns.entering import run_program
    from quicpipe_lab.backends.netns.registry import choose

    try:
        with choose(arguments.lab) as visit:
            return run_program(visit, arguments.node, argv, env)
    except ProgramNotStartedError as error:
        print(f"quicpipe-lab: {error}", file=sys.stderr)
        return error.exit_status
    except LabEndedError as error:
        print(f"quicpipe-lab: {error}", file=sys.stderr)
        return _KILLED


def _down(arguments: argparse.Namespace) -> int:
    from quicpipe_lab.backends.netns.registry import choose

    with choose(arguments.name) as visit:
        visit.end()
    if arguments.json:
        print(json.dumps({"name": visit.name}))
    else:
        print(f"the lab {visit.name} is down; nothing was left running")
    return _OK
