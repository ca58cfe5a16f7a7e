"""The commands that look at what a run left; what they need is imported when they are run."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quicpipe_lab.model.result import RunResult

_FILTER = """\
A filter is COLUMN=PATTERN, several joined by commas; all must hold. The columns are those of the
table of packets (flow, kind, type, journey, interface, direction, dcid, comment), and host and
port, which hold for either end. Patterns may have * and ?: --filter 'flow=alice~bob,kind=punch',
--filter 'comment=*dropped*'. It needs no other program; for BPF or Wireshark's display filters
give the file to tcpdump or tshark. What is cut out without its handshake stays encrypted."""


def add(commands: Any) -> None:
    """The commands, for the parser."""
    parser = commands.add_parser(
        "capture",
        help="what a run's capture holds, and parts cut out of it",
        epilog=_FILTER,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_run(parser)
    parser.add_argument(
        "--node", action="append", default=[], metavar="NAME", help="this node alone; repeatable"
    )
    parser.add_argument("--filter", metavar="FILTER", help="these packets alone; see below")
    parser.add_argument(
        "-o", dest="out", type=Path, metavar="FILE", help="where to write; default RUN/cut.pcapng"
    )
    parser.set_defaults(run=_capture)
    parser = commands.add_parser("explain", help="what led to a run's end, and its cause")
    _add_run(parser)
    parser.set_defaults(run=_explain)
    _add_plot(commands)
    _add_report(commands)


def _add_plot(commands: Any) -> None:
    parser = commands.add_parser("plot", help="one picture of a run, or of a matrix")
    _add_run(parser)
    parser.add_argument(
        "name",
        metavar="NAME",
        help="topology, sequence, timeline, nat-tables or relay; of a matrix: matrix or times",
    )
    parser.add_argument(
        "-o", dest="out", type=Path, metavar="FILE", help=".png or .svg; default RUN/NAME.svg"
    )
    parser.add_argument("--dark", action="store_true", help="on a dark background")
    parser.add_argument(
        "--beside", type=Path, metavar="RUN2", help="of relay: another run, to compare"
    )
    parser.set_defaults(run=_plot)


def _add_report(commands: Any) -> None:
    parser = commands.add_parser("report", help="everything about a run, or a matrix, on one page")
    _add_run(parser)
    parser.add_argument("-o", dest="out", type=Path, metavar="FILE", help="default RUN/report.html")
    parser.set_defaults(run=_report)


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", type=Path, metavar="RUN", help="the directory of a run")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def print_sentence(result: "RunResult") -> None:
    """At the end of a run: why it ended so, where it did not simply go direct."""
    if result.ok and result.outcome == "direct":
        return
    from quicpipe_lab import explain_report

    print(explain_report.sentence_for(result))


def _explain(arguments: argparse.Namespace) -> int:
    from quicpipe_lab import explain_report

    return explain_report.report(arguments.run_dir, arguments.json)


def _capture(arguments: argparse.Namespace) -> int:
    from quicpipe_lab import capture_report

    return capture_report.report(
        arguments.run_dir, arguments.node, arguments.filter, arguments.out, arguments.json
    )


def _plot(arguments: argparse.Namespace) -> int:
    from quicpipe_lab import pictures

    run_dir, name = arguments.run_dir, arguments.name
    out = arguments.out or run_dir / f"{name}.svg"
    file = pictures.save(run_dir, name, out, dark=arguments.dark, beside=arguments.beside)
    return _tell(file, arguments.json)


def _report(arguments: argparse.Namespace) -> int:
    from quicpipe_lab.report import page

    return _tell(page.write(arguments.run_dir, arguments.out), arguments.json)


def _tell(file: Path, wants_json: bool) -> int:
    """What was written."""
    import json

    print(json.dumps({"file": str(file)}) if wants_json else file)
    return 0
