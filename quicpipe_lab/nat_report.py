"""``quicpipe-lab nat-check``: what NATs are declared to be against what they are measured to be."""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from quicpipe_lab.errors import QuicpipeLabError

if TYPE_CHECKING:
    from rich.table import Table

    from quicpipe_lab.model.nat_certificate import Certificate, Finding
    from quicpipe_lab.model.topology import Topology

_OK, _DIFFERENT = 0, 1


def add(commands: Any) -> None:
    """Add the parser."""
    parser = commands.add_parser("nat-check", help="are NATs what they are declared to be?")
    parser.add_argument(
        "target",
        nargs="?",
        metavar="PRESET | TOPOLOGY",
        help="a named NAT, or those of a bundled topology or TOML file (default: all named)",
    )
    parser.add_argument(
        "--server",
        metavar="HOST:PORT",
        help="outside the lab: look at the NATs between here and an RFC 5780 STUN server",
    )
    parser.add_argument(
        "--lifetime",
        action="store_true",
        help="wait for idle mappings to end as well: takes a little longer than they live",
    )
    parser.add_argument(
        "--lifetime-scale",
        type=float,
        metavar="N",
        help="build the NATs with lifetimes of an N-th, and measure those",
    )
    parser.add_argument(
        "--backend",
        help="netns, the real kernel; sim, virtual time, in which lifetimes take none; auto"
        " (default), netns where that works",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.lifetime_scale is not None and not 1 <= arguments.lifetime_scale < float("inf"):
        raise QuicpipeLabError("--lifetime-scale is a number of 1 or more")
    if arguments.server is not None:
        if any((arguments.target, arguments.lifetime_scale, arguments.backend)):
            raise QuicpipeLabError("--server is for NATs that are there; it takes --lifetime alone")
        return _check_server(arguments.server, arguments.lifetime, arguments.json)
    topology = _find(arguments.target)
    if arguments.lifetime_scale is not None:
        from quicpipe_lab.model.check_topology import with_shorter_lives

        topology = with_shorter_lives(topology, arguments.lifetime_scale)
    lifetime = arguments.lifetime or arguments.lifetime_scale is not None
    return _check_topology(topology, arguments.backend or "auto", lifetime, arguments.json)


def _find(target: str | None) -> "Topology":
    from quicpipe_lab.backends.nat_check import nats_named
    from quicpipe_lab.model.check_topology import topology_of
    from quicpipe_lab.model.nat_presets import PRESETS

    return topology_of(PRESETS) if target is None else nats_named(target)


def _check_topology(topology: "Topology", backend: str, lifetime: bool, wants_json: bool) -> int:
    from quicpipe_lab.backends.nat_check import check_nats

    started_s = time.monotonic()
    found, certificates = check_nats(topology, backend=backend, lifetime=lifetime, tell=_tell)
    took_s = round(time.monotonic() - started_s, 3)
    ok = all(one.ok for one in certificates)
    if wants_json:
        nats = [one.to_json() for one in certificates]
        report = {"topology": topology.name, "backend": found, "ok": ok, "nats": nats}
        print(json.dumps({**report, "took_s": took_s}))
    else:
        _print_certificates(topology.name, certificates)
    return _OK if ok else _DIFFERENT


def _tell(line: str) -> None:
    print(f"quicpipe-lab: {line}", file=sys.stderr)


def _check_server(text: str, lifetime: bool, wants_json: bool) -> int:
    from quicpipe_lab.model.nat_certificate import findings_of
    from quicpipe_lab.shell import nat_server

    started_s = time.monotonic()
    check = nat_server.check_server(nat_server.parse_server(text), lifetime=lifetime)
    took_s = round(time.monotonic() - started_s, 3)
    findings = findings_of(check.measured)
    if wants_json:
        report = {
            "server": str(check.server),
            "other": None if check.other is None else str(check.other),
            "properties": [one.to_json() for one in findings],
            "took_s": took_s,
        }
        print(json.dumps(report))
        return _OK
    table = _table(f"towards {check.server}", "property", "measured", "remark")
    for one in findings:
        table.add_row(one.property, one.measured or "not tested", one.remark)
    _print(table)
    if check.other is None:
        print(f"{check.server} is no RFC 5780 server: mapping and filtering need a second address")
    return _OK


def _print_certificates(name: str, certificates: "Sequence[Certificate]") -> None:
    if not certificates:
        print(f"{name} has no NAT")
        return
    for one in certificates:
        table = _table(_title(one), "property", "declared", "measured", "verdict")
        for finding in one.findings:
            style = "bold red" if finding.ok is False else None
            table.add_row(
                finding.property,
                finding.declared or "-",
                finding.measured or "-",
                _verdict(finding),
                style=style,
            )
        _print(table)
    differences = [one.difference() for one in certificates if not one.ok]
    for line in differences:
        print(line)
    if not differences:
        print(_all_well(len(certificates), sum(one.doubt() is not None for one in certificates)))


def _all_well(count: int, unmeasured: int) -> str:
    if unmeasured == count:
        return f"none of {count} measured" if count > 1 else "not measured"
    if unmeasured:
        return f"{count - unmeasured} of {count} as declared; {unmeasured} not measured"
    return f"all {count} as declared" if count > 1 else "as declared"


def _title(certificate: "Certificate") -> str:
    if certificate.host is None:
        return f"{certificate.name}: no host is behind it"
    title = f"{certificate.name}, seen from {certificate.host}"
    if len(certificate.through) > 1:
        return f"{title} through {', '.join(certificate.through)}: the stricter of each"
    return title


def _verdict(finding: "Finding") -> str:
    if finding.ok is None:
        return f"not compared: {finding.remark}" if finding.remark else "not compared"
    return "ok" if finding.ok else "DIFFERENT"


def _table(title: str, *columns: str) -> "Table":
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _print(table: "Table") -> None:
    from rich.console import Console

    Console(highlight=False, width=None if sys.stdout.isatty() else 100).print(table)
    print()
