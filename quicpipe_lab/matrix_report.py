"""Runs the matrix for a person or a machine: progress, the table, the figure, the verdict."""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from quicpipe_lab.analysis import matrix as analysis
from quicpipe_lab.analysis import search
from quicpipe_lab.backends.many import Manner
from quicpipe_lab.backends.matrix import Cell, CellResult, run_matrix
from quicpipe_lab.backends.situations import Situation
from quicpipe_lab.errors import BackendUnavailableError
from quicpipe_lab.progress import Progress


def report(
    cells: Sequence[Cell], *, run_dir: Path | None, manner: Manner, json_wanted: bool
) -> int:
    """Run, print, save the figure; the exit status is 1 where any run ended unexpectedly."""
    directory = run_dir or Path("runs") / time.strftime("matrix-%Y%m%d-%H%M%S")
    started_s = time.monotonic()
    with Progress(len(cells), quiet=json_wanted) as progress:
        results = run_matrix(cells, directory, manner=manner, observe=progress.take)
    took_s = time.monotonic() - started_s
    summary = analysis.summary(results) | {"wall_s": round(took_s, 3), "run_dir": str(directory)}
    summary["search"] = search.summary([one.search for one in results])
    figures = _save_figures(results, directory, quiet=json_wanted)
    if json_wanted:
        summary["cells"] = [asdict(one) | {"ok": one.ok} for one in results]
        print(json.dumps(summary))
    else:
        _print_text(results, summary, figures)
    return 0 if all(one.ok for one in results) else 1


def report_situations(
    runs: Sequence[Situation],
    *,
    run_dir: Path | None,
    manner: Manner,
    json_wanted: bool,
) -> int:
    """As ``report``, for what has no rows and columns: one line for each, with the reason."""
    directory = run_dir or Path("runs") / time.strftime("situations-%Y%m%d-%H%M%S")
    started_s = time.monotonic()
    with Progress(len(runs), quiet=json_wanted) as progress:
        results = run_matrix(runs, directory, manner=manner, observe=progress.take)
    wall_s = round(time.monotonic() - started_s, 3)
    told = [
        {
            "situation": run.row,
            "scope": run.column if run.scope_matters else None,
            "trial": run.trial,
            "outcome": result.outcome,
            "expected": result.expected,
            "why": run.prediction.reason,
            "direct_s": result.direct_s,
            "failure": result.failure,
            "ok": result.ok,
        }
        for run, result in zip(runs, results, strict=True)
    ]
    summary = analysis.summary(results) | {"wall_s": wall_s, "run_dir": str(directory)}
    if json_wanted:
        print(json.dumps(summary | {"situations": told}))
    else:
        print(analysis.columns(_SITUATION_HEADER, [_situation_line(one) for one in told]))
        print(f"{summary['as_expected']} of {summary['runs']} as expected, in {wall_s} s")
        print(f"files  {directory}")
    return 0 if all(one.ok for one in results) else 1


_SITUATION_HEADER = ("situation", "filters", "expected", "outcome", "to direct", "", "why")


def _situation_line(one: dict[str, Any]) -> tuple[str, ...]:
    took = "" if one["direct_s"] is None else f"{1000 * one['direct_s']:.0f} ms"
    verdict = "" if one["ok"] else "DIFFERENT"
    scope = "" if one["scope"] is None else f"per {one['scope']}"
    expected = one["expected"] or "chance"
    return one["situation"], scope, expected, one["outcome"], took, verdict, one["why"]


def _print_text(results: Sequence[CellResult], summary: dict[str, Any], figures: str) -> None:
    print(analysis.text_table(results))
    print(
        "\nD: direct, r: stays relayed, ~: chance decides, !: not as expected."
        " Rows dial, columns accept."
    )
    for one in results:
        if not one.ok:
            why = f": {one.failure}" if one.failure else ""
            print(f"{one.row} against {one.column}: {one.outcome}, expected {one.expected}{why}")
    print(
        f"{summary['as_expected']} of {summary['runs']} as expected,"
        f" {summary['direct']} direct, in {summary['wall_s']} s"
    )
    if summary["search"] is not None:
        print(search.text(summary["search"]))
    print(f"files  {summary['run_dir']}{figures}")


def _save_figures(results: Sequence[CellResult], directory: Path, *, quiet: bool) -> str:
    """As PNG and SVG; what to say of them."""
    try:
        from quicpipe_lab.analysis.plots import distribution, matrix, style
    except BackendUnavailableError as problem:
        if not quiet:
            print(f"no figure: {problem}", file=sys.stderr)
        return ""
    rows, columns = analysis.names(results)
    figures = {"matrix": matrix.matrix(rows, columns, analysis.heat_cells(results))}
    times_s = analysis.times_to_direct(results)
    if times_s:
        what = "from the first punch to the direct path"
        figures["times"] = distribution.distribution(times_s, what)
    paths = [
        style.save(axes, directory / f"{name}.{kind}")
        for name, axes in figures.items()
        for kind in ("png", "svg")
    ]
    return " (" + ", ".join(path.name for path in paths) + ")"
