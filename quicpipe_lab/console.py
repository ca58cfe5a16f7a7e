"""What a person sees of a run: live progress on a terminal, and a short summary."""

import sys
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol

from quicpipe_lab.analysis.sentences import sentence
from quicpipe_lab.analysis.units import duration
from quicpipe_lab.model.event import Event
from quicpipe_lab.model.result import Disturbance, PortSearched, RelayedBy, RunResult
from quicpipe_lab.model.scenario import Outcome, Scenario

_FILES = "files"
_PADDING = 2


class Watcher(AbstractContextManager["Watcher"], Protocol):
    """Shows a run while it goes on."""

    def observe(self, event: Event) -> None:
        """Take note of an event."""


def watcher(scenario: Scenario, *, quiet: bool) -> Watcher:
    """A live view on a terminal and in a notebook, plain lines elsewhere; nothing if ``quiet``."""
    if quiet:
        return _Silent()
    in_notebook = "ipykernel" in sys.modules  # where rich makes its bars of HTML
    return _Live(scenario) if in_notebook or sys.stderr.isatty() else _Lines()


def _line(event: Event) -> str | None:
    text = sentence(event)
    return None if text is None else f"{event.t_s:7.3f} s  {event.node:8} {text}"


class _Silent:
    def __enter__(self) -> "_Silent":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def observe(self, event: Event) -> None:
        pass


class _Lines(_Silent):
    def observe(self, event: Event) -> None:
        line = _line(event)
        if line is not None:
            print(line, file=sys.stderr, flush=True)


class _Live(_Silent):
    """The same lines, with a bar for the transfer that is under way."""

    def __init__(self, scenario: Scenario) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(binary_units=True),
            console=Console(stderr=True, highlight=False),
            transient=True,
        )
        self._task = self._progress.add_task(f"[bold]{scenario.name}", total=None)

    def __enter__(self) -> "_Live":
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def observe(self, event: Event) -> None:
        if event.name in ("progress", "transfer-started"):
            done = event.data.get("echoed_bytes", 0)
            self._progress.update(self._task, total=event.data["size_bytes"], completed=done)
        line = _line(event)
        if line is not None:
            style = {"failed": "bold red", "path-changed": "bold green"}.get(event.name, "")
            self._progress.console.print(line, style=style, markup=False, soft_wrap=True)


def print_summary(result: RunResult) -> None:
    """Path, times, bytes, files: what a person wants to know at the end."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 100)
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, _PADDING))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    rows = summary_rows(result)
    for name, value in rows:
        if name != _FILES:
            table.add_row(name, Text(value))
    verdict = "as expected" if result.ok else f"NOT as expected ({result.expected})"
    colour = "green" if result.ok else "red"
    console.print(
        f"[bold {colour}]{result.scenario}: {result.outcome}, {verdict}[/]", soft_wrap=True
    )
    console.print(table)
    if result.run_dir is not None:  # in one piece, to be copied
        width = max(len(name) for name, _ in rows)
        line = Text.assemble((_FILES.ljust(width + 2 * _PADDING), "bold"), result.run_dir)
        console.print(line, soft_wrap=True)


def summary_rows(result: RunResult) -> list[tuple[str, str]]:
    """(what, value): path, times, bytes, files."""
    rtts = result.rtt_s
    rows = []
    if result.failure:
        rows.append(("why", result.failure))
    if result.outcome is not Outcome.FAILED:
        path = {"direct": "peer to peer", "relayed": "through the relay"}[result.outcome.value]
        rows.append(("data flows", path))
    rows += _time_rows(result)
    for name, rtt in (("relayed", rtts.relayed), ("direct", rtts.direct)):
        if rtt is not None:
            rows.append((f"round trip, {name}", f"{1000 * rtt:.2f} ms"))
    if result.has_bytes:
        moved = result.bytes
        rows.append(("bytes", f"{moved.relayed:,} relayed, {moved.direct:,} direct (on the wire)"))
    if result.relayed_by is not None and result.relayed_by.filter is not None:
        rows.append(("relayed by", _relayed_by(result.relayed_by)))
    rows.append(("data checked", f"{result.transferred_bytes:,} bytes each way"))
    if result.longest_gap_s is not None:
        rows.append(("longest gap", f"{1000 * result.longest_gap_s:.0f} ms without a new byte"))
    if result.disturbed:
        rows.append(("disturbed", "; ".join(map(disturbance, result.disturbed))))
    if result.capture is not None:
        lost = f", {result.capture.dropped:,} missed" if result.capture.dropped else ""
        rows.append(("capture", f"{result.capture.packets:,} packets{lost}"))
    if result.run_dir is not None:
        rows.append((_FILES, result.run_dir))
    return rows


def _time_rows(result: RunResult) -> list[tuple[str, str]]:
    times, rtts = result.times_s, result.rtt_s
    rows = []
    if times.connected is not None and times.relay_ready is not None:
        took = times.connected - times.relay_ready
        rows.append(("time to relayed", _duration(took, rtts.relayed) + ", from the relay's start"))
    if times.direct is not None and result.punching_s is not None:
        took = times.direct - result.punching_s
        rows.append(("time to direct", _duration(took, rtts.relayed) + ", from the first punch"))
    if result.search is not None:
        rows.append(("port search", _search(result.search)))
    if times.total is not None:
        rows.append(("in all", f"{times.total:.2f} s"))
    return rows


def disturbance(one: Disturbance) -> str:
    """In words, with its time."""
    return f"{one.what.replace('relay-', '')} {' - '.join(one.nodes)} at {one.t_s:.2f} s"


def _relayed_by(by: RelayedBy) -> str:
    filtered = by.filter or 0
    return (
        f"the XDP filter ({by.mode}): {100 * by.filter_share:.2f} %,"
        f" {filtered:,} of {filtered + by.userspace:,} datagrams"
    )


def _search(search: PortSearched) -> str:
    end = f"probe {search.hit} hit" if search.hit else "found" if search.found else "in vain"
    spent = f"{search.probes:,} probes, {search.opened:,} datagrams to open ports"
    return f"{end}, {search.took_s:.2f} s ({spent})"


def _duration(seconds: float, rtt_s: float | None) -> str:
    """In ms, and in round trips of the path where its length is known."""
    text = duration(seconds)
    return f"{text} = {seconds / rtt_s:.1f} RTT" if rtt_s else text
