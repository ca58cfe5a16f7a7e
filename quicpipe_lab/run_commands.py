"""The commands that look at what a run left; what they need is imported when they are run."""

import argparse
from pathlib import Path
from typing import Any

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


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", type=Path, metavar="RUN", help="the directory of a run")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def _capture(arguments: argparse.Namespace) -> int:
    from quicpipe_lab import capture_report

    return capture_report.report(
        arguments.run_dir, arguments.node, arguments.filter, arguments.out, arguments.json
    )
