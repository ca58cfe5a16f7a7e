"""The command line: arguments to calls to text. Imports what a command needs when it is run."""

import argparse
import errno
import json
import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from quicpipe_lab import (
    explore_report,
    lab_commands,
    nat_report,
    output,
    program_commands,
    run_commands,
)
from quicpipe_lab.errors import (
    BackendUnavailableError,
    QuicpipeLabError,
    RemoteProtocolError,
    ScenarioError,
    UnsupportedBehaviorError,
)
from quicpipe_lab.program_commands import positive

if TYPE_CHECKING:
    from quicpipe_lab.backends.many import Manner

OK, DIFFERENT, BAD_INPUT, CANNOT = 0, 1, 2, 3
"""Exit statuses: as expected; another outcome; bad input; not on this machine."""
INTERRUPTED = 128 + signal.SIGINT
ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""Windows has no SIGHUP."""

_LONG = ("scenario", "matrix", "explore")
"""What has something to take down, and no handlers of its own."""

_PIPES = (["dial"], ["accept"])
"""What they write is for a program or the other peer: without a reader there is no use in it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status. No traceback reaches a user."""
    _have_standard_files()
    words = sys.argv[1:] if argv is None else argv
    if words[:1] not in _PIPES:
        output.tolerate_readers_that_go()
    status = OK
    try:
        try:
            status = _run(words)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        return DIFFERENT
    except OSError as error:
        if status == CANNOT:  # which has been said
            return CANNOT
        return _complain(_describe_bug(error), CANNOT, wants_json=False)
    finally:
        output.drop_what_is_not_taken()
    return status


def _run(words: Sequence[str]) -> int:
    try:
        arguments = _parser().parse_args(words)
    except _UsageError as error:
        return _complain(str(error), BAD_INPUT, wants_json="--json" in words)
    wants_json = getattr(arguments, "json", False)
    try:
        with _orderly_end() if arguments.command in _LONG else nullcontext():
            status: int = arguments.run(arguments)
    except (BackendUnavailableError, UnsupportedBehaviorError) as problem:
        return _complain(str(problem), CANNOT, wants_json)
    except RemoteProtocolError as problem:
        return _complain(str(problem), DIFFERENT, wants_json)
    except QuicpipeLabError as problem:
        return _complain(str(problem), BAD_INPUT, wants_json)
    except _TerminatedError as terminated:
        return _complain(str(terminated), 128 + terminated.number, wants_json)
    except KeyboardInterrupt:
        return _complain("interrupted; nothing was left running", INTERRUPTED, wants_json)
    except BrokenPipeError:
        raise
    except Exception as bug:
        if os.environ.get("QUICPIPE_LAB_TRACEBACK"):
            raise
        return _complain(_describe_bug(bug), CANNOT, wants_json)
    return status


def _have_standard_files() -> None:
    """Where the caller closed one, nothing else may take its number: a socket that is file 0
    would be read as standard input."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)  # the lowest free number: this one
            setattr(sys, name, os.fdopen(null, "w" if number else "r", closefd=False))


_EXHAUSTED = {
    errno.ENOSPC: "make room where runs are kept (--run-dir) and in the folder for temporary files",
    errno.EDQUOT: "make room where runs are kept (--run-dir) and in the folder for temporary files",
    errno.EMFILE: "allow a process more open files: ulimit -n 4096",
    errno.ENFILE: "the machine has no more open files to give: sysctl fs.file-max",
    errno.ENOMEM: "close some programs, or run fewer labs at a time",
}


def _describe_bug(bug: Exception) -> str:
    """One line: what the machine has run out of, or a mistake of ours and where it is."""
    import traceback

    if isinstance(bug, OSError) and bug.errno in _EXHAUSTED:
        what = f" ({bug.filename})" if bug.filename else ""
        return f"{os.strerror(bug.errno)}{what}; {_EXHAUSTED[bug.errno]}"

    frames = traceback.extract_tb(bug.__traceback__)
    where = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(bug).__name__}: {bug}{where} (QUICPIPE_LAB_TRACEBACK=1 shows how it came to it)"


class _TerminatedError(KeyboardInterrupt):
    """SIGTERM or SIGHUP: everything is taken down in its order, as after Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by {signal.Signals(number).name}; nothing was left running")
        self.number = number


@contextmanager
def _orderly_end() -> Iterator[None]:
    """Within the block SIGTERM and SIGHUP end the command as Ctrl-C does."""

    def terminate(number: int, _: Any) -> NoReturn:
        raise _TerminatedError(number)

    before = {
        number: signal.getsignal(number)
        for number in ENDING
        if signal.getsignal(number) is not signal.SIG_IGN  # nohup
    }
    for number in before:
        signal.signal(number, terminate)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _complain(problem: str, status: int, wants_json: bool) -> int:
    line = " ".join(problem.split())
    with suppress(OSError):  # on a full disk the exit status alone can say it
        print(f"quicpipe-lab: {line}", file=sys.stderr)
    if wants_json:
        print(json.dumps({"error": line, "exit_status": status}))
    return status


# Commands


def _scenario(arguments: argparse.Namespace) -> int:
    from quicpipe_lab import resources

    if arguments.list:
        return _list_scenarios(arguments.json)
    if arguments.name is None:
        raise QuicpipeLabError("which scenario? --list shows them")
    import dataclasses

    from quicpipe_lab import console
    from quicpipe_lab.backends import base

    scenario = resources.find_scenario(arguments.name)
    if arguments.xdp is not None:
        scenario = dataclasses.replace(scenario, xdp=arguments.xdp)
    if arguments.search:
        scenario = dataclasses.replace(scenario, search=True)
    watcher = console.watcher(scenario, quiet=arguments.json)
    with watcher:
        result = base.run(
            scenario,
            backend=arguments.backend,
            run_dir=arguments.run_dir,
            observe=watcher.observe,
            certify=arguments.certify,
            tell=_tell,
        )
    if arguments.json:
        print(result.dumps())
    else:
        console.print_summary(result)
        run_commands.print_sentence(result)
    return OK if result.ok else DIFFERENT


def _tell(line: str) -> None:
    print(f"quicpipe-lab: {line}", file=sys.stderr)


def _list_scenarios(wants_json: bool) -> int:
    from quicpipe_lab import resources

    scenarios = [resources.find_scenario(name) for name in resources.scenario_names()]
    if wants_json:
        rows = [
            {"name": one.name, "summary": one.summary, "expected": one.expect} for one in scenarios
        ]
        print(json.dumps({"scenarios": rows}))
    else:
        width = max(len(one.name) for one in scenarios)
        for one in scenarios:
            print(f"{one.name:{width}}  {one.summary}")
    return OK


def _matrix(arguments: argparse.Namespace) -> int:
    from quicpipe_lab.backends import matrix
    from quicpipe_lab.matrix_report import report
    from quicpipe_lab.model.address import Family
    from quicpipe_lab.model.nat import FilterScope

    if arguments.situations:
        return _situations(arguments)
    scope = arguments.scope and FilterScope(arguments.scope)
    family = Family(arguments.family)
    cells = matrix.cells_of(
        matrix.parse_nats(arguments.rows, scope, family),
        matrix.parse_nats(arguments.cols, scope, family),
        arguments.trials,
        matrix.parse_link(arguments.link),
        family,
        search=arguments.search,
    )
    return report(
        cells,
        run_dir=arguments.run_dir,
        manner=_manner(arguments),
        json_wanted=arguments.json,
    )


def _situations(arguments: argparse.Namespace) -> int:
    from quicpipe_lab.backends.situations import situations
    from quicpipe_lab.matrix_report import report_situations

    given = {"rows": None, "cols": None, "scope": None, "link": None, "family": "ipv4"}
    for option, usual in (given | {"search": False}).items():
        if getattr(arguments, option) != usual:
            raise QuicpipeLabError(f"--situations are what they are: --{option} does not apply")
    return report_situations(
        situations(arguments.trials),
        run_dir=arguments.run_dir,
        manner=_manner(arguments),
        json_wanted=arguments.json,
    )


def _manner(arguments: argparse.Namespace) -> "Manner":
    from quicpipe_lab.backends.many import Manner

    return Manner(arguments.backend, arguments.jobs, arguments.capture).settled(_tell)


def _doctor(arguments: argparse.Namespace) -> int:
    from quicpipe_lab.backends.netns import doctor

    return doctor.run(json=arguments.json)


def _capture(arguments: argparse.Namespace) -> int:
    from quicpipe_lab.shell import capture

    return capture.main(arguments.rest)


def _nat_probe(arguments: argparse.Namespace) -> int:
    from quicpipe_lab.shell import nat_program

    return nat_program.main(arguments.rest)


def _stun(arguments: argparse.Namespace) -> int:
    from quicpipe_lab.shell import stun_responder

    return stun_responder.main(arguments.rest)


# The parser


class _UsageError(Exception):
    pass


class _Parser(argparse.ArgumentParser):
    """argparse, but a mistake is one line."""

    def error(self, message: str) -> NoReturn:
        command = self.prog.partition(" ")[2]
        # Among the choices are programs that the lab alone starts.
        message = re.sub(r", '?_[a-z-]+'?", "", message)
        raise _UsageError(f"{command}: {message}" if command else message)


class _Version(argparse.Action):
    """argparse's own wants the version before anybody has asked for it."""

    def __call__(self, *_: object) -> NoReturn:
        from importlib.metadata import version

        print(f"quicpipe-lab {version('quicpipe-lab')}")
        sys.exit(0)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="quicpipe-lab",
        description="Point-to-point QUIC through NATs, and a laboratory to see it happen.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="say which version this is")
    commands: Any = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_scenario(commands)
    _add_matrix(commands)
    explore_report.add(commands)
    lab_commands.add(commands)
    nat_report.add(commands)
    run_commands.add(commands)
    program_commands.add(commands)
    doctor = commands.add_parser("doctor", help="what this machine can do, and how to enable more")
    doctor.add_argument("--json", action="store_true", help="one JSON object on standard output")
    doctor.set_defaults(run=_doctor)
    for name, run in (("_capture", _capture), ("_nat-probe", _nat_probe), ("_stun", _stun)):
        hidden = commands.add_parser(name, prefix_chars="\0")
        hidden.add_argument("rest", nargs="*")
        hidden.set_defaults(run=run)
    return parser


def _run_folder(text: str) -> Path:
    from quicpipe_lab.shell.out_file import run_folder

    try:
        return run_folder(text)
    except ScenarioError as error:
        raise argparse.ArgumentTypeError(error.problem) from None


def _add_scenario(commands: Any) -> None:
    parser = commands.add_parser("scenario", help="run a scenario in a lab of NATs and a relay")
    parser.add_argument("name", nargs="?", help="a bundled scenario, or the path of a TOML file")
    parser.add_argument("--list", action="store_true", help="show the bundled scenarios")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument(
        "--run-dir", type=_run_folder, metavar="DIR", help="default: runs/NAME-TIME"
    )
    parser.add_argument(
        "--backend",
        default="auto",
        help="netns, the real kernel; sim, virtual time; auto (default), netns where that works and"
        " no stranger attacks",
    )
    parser.add_argument(
        "--no-certify",
        dest="certify",
        action="store_false",
        help="trust the NATs to be what they are declared to be",
    )
    parser.add_argument(
        "--xdp",
        choices=("off", "on", "generic"),
        help="have the relay forward in the kernel: in its interface's driver, or (generic) behind"
        " it; default: as the scenario says, which mostly is off",
    )
    parser.add_argument(
        "--search", action="store_true", help="both peers search ports where punching fails"
    )
    parser.set_defaults(run=_scenario)


def _add_matrix(commands: Any) -> None:
    parser = commands.add_parser("matrix", help="every NAT against every NAT, real programs")
    parser.add_argument(
        "--rows",
        metavar="NATS",
        help="the dialer's: cells as EIM/APDF, presets as home, or presets for all of these;"
        " default: all nine cells",
    )
    parser.add_argument("--cols", metavar="NATS", help="the accepter's, likewise")
    parser.add_argument(
        "--scope", choices=("endpoint", "mapping"), help="what the cells' filters look at"
    )
    parser.add_argument(
        "--family",
        choices=("ipv4", "ipv6"),
        default="ipv4",
        help="what the programs speak; over ipv6 the NATs are routed, nptv6 and nat66 (default)",
    )
    parser.add_argument(
        "--situations",
        action="store_true",
        help="not pairs of NATs, but stacked and shared ones, firewalls, blocked UDP, IPv6",
    )
    parser.add_argument("--link", metavar="PRESET", help="both homes' lines, as dsl or lte")
    parser.add_argument(
        "--search", action="store_true", help="both peers search ports where punching fails"
    )
    parser.add_argument("--trials", type=positive, default=1, metavar="N", help="runs of each")
    parser.add_argument(
        "--backend",
        default="auto",
        help="netns, the real kernel; sim, virtual time; auto (default), netns where that works",
    )
    parser.add_argument("--jobs", type=positive, metavar="N", help="runs at a time")
    parser.add_argument("--capture", action="store_true", help="capture every run")
    parser.add_argument(
        "--run-dir",
        type=_run_folder,
        metavar="DIR",
        help="where to put results, or go on from there",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.set_defaults(run=_matrix)


if __name__ == "__main__":
    sys.exit(main())
