"""The page itself: gathered, put into its template, written. The only importer of jinja2."""

import html
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from quicpipe_lab import pictures
from quicpipe_lab.analysis import matrix as analysis
from quicpipe_lab.analysis.explain import explain
from quicpipe_lab.cycle_search import no_cycle_search
from quicpipe_lab.errors import BackendUnavailableError, QuicpipeLabError
from quicpipe_lab.evidence import Evidence, open_run
from quicpipe_lab.report.tables import Table, commands, tables
from quicpipe_lab.shell.out_file import require_file


class Figure(NamedTuple):
    """A picture on the page; ``missing`` says why there is none."""

    name: str
    title: str
    caption: str
    svg: str = ""
    missing: str = ""


def write(run_dir: Path, out: Path | None) -> Path:
    """The page of a run or a matrix, by default in its directory. Raises QuicpipeLabError."""
    target = out or run_dir / "report.html"
    require_file(target)
    results = pictures.matrix_results(run_dir)
    text = _matrix_page(run_dir, results) if results else run_page(open_run(run_dir))
    try:
        target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise QuicpipeLabError(f"cannot write {target}: {error.strerror or error}") from None
    return target


def run_page(evidence: Evidence) -> str:
    """All of a run."""
    run = evidence.run
    result = run.result
    with no_cycle_search():
        explanation = explain(run, evidence.frames, evidence.epoch_unix_s)
    verdict = "broken off"
    if result is not None:
        verdict = f"{result.outcome}, " + ("as expected" if result.ok else "NOT as expected")
    return _render(
        title=run.scenario.name,
        verdict=verdict,
        good=result is not None and result.ok,
        summary=run.scenario.summary,
        notes=evidence.warnings,
        cause=explanation.verdict.sentence,
        figures=list(_figures(evidence)),
        tables=tables(run, explanation.timeline),
        commands=commands(run),
    )


def _figures(evidence: Evidence) -> Iterator[Figure]:
    from quicpipe_lab.report.svg import inline_svg

    for name, picture in pictures.PICTURES.items():
        try:
            axes = picture.draw(evidence, False)
        except BackendUnavailableError:
            raise
        except QuicpipeLabError as nothing:
            yield Figure(name, picture.title, picture.caption, missing=str(nothing))
            continue
        svg = inline_svg(axes, name, html.escape(f"{picture.title}. {picture.caption}"))
        yield Figure(name, picture.title, picture.caption, svg)


def _matrix_page(run_dir: Path, results: "list[Any]") -> str:
    """All of a matrix."""
    from quicpipe_lab.report.svg import inline_svg

    summary = analysis.summary(results)
    figures = []
    for name, title in pictures.MATRIX_PICTURES.items():
        try:
            svg = inline_svg(pictures.draw_matrix(results, name, dark=False), name, title)
            figures.append(Figure(name, title, "", svg))
        except QuicpipeLabError as nothing:
            figures.append(Figure(name, title, "", missing=str(nothing)))
    unexpected = [
        [
            one.row,
            one.column,
            str(one.trial),
            str(one.outcome),
            str(one.expected),
            one.failure or "",
        ]
        for one in results
        if not one.ok
    ]
    low, high = summary["as_expected_interval_95"]
    again = f"quicpipe-lab matrix --run-dir {shlex.quote(str(run_dir))}"
    header = ["dialer's NAT", "accepter's NAT", "trial", "ended", "expected", "why"]
    return _render(
        title="every NAT against every NAT",
        verdict=f"{summary['as_expected']} of {summary['runs']} as expected",
        good=summary["as_expected"] == summary["runs"],
        summary=f"{summary['direct']} runs went direct, {summary['relayed']} stayed relayed and"
        f" {summary['failed']} failed. Another run would end as expected with {100 * low:.1f} to"
        f" {100 * high:.1f} % (Wilson's 95 % interval).",
        notes=[],
        cause="",
        figures=figures,
        tables=[Table("Not as expected", header, unexpected)] if unexpected else [],
        commands=[("go on, or show it again", again)],
    )


def _render(**what: Any) -> str:
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
    except ImportError:
        raise BackendUnavailableError(
            "a report needs jinja2", "pip install 'quicpipe-lab[plot]'"
        ) from None
    from quicpipe_lab.analysis.plots import style
    from quicpipe_lab.report.svg import css_variables

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("page.html")
    light, dark = css_variables(style.LIGHT), css_variables(style.DARK)
    return template.render(light=light, dark=dark, **what)
