"""The matrix's results as a table for people, a summary for machines, and a figure's cells."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from quicpipe_lab.analysis.units import duration
from quicpipe_lab.model.scenario import Outcome

MOST_SERIES = 4
"""More than these would not be told apart in one picture."""


@dataclass(frozen=True, slots=True)
class HeatCell:
    """One field of the picture: how it ended, what is said below, and whether it was expected."""

    text: str
    direct: bool
    ok: bool
    detail: str = ""


class Result(Protocol):
    """What is read of a run of the matrix."""

    @property
    def row(self) -> str: ...
    @property
    def column(self) -> str: ...
    @property
    def outcome(self) -> Outcome: ...
    @property
    def expected(self) -> Outcome | None: ...
    @property
    def direct_s(self) -> float | None: ...
    @property
    def ok(self) -> bool: ...


def names(results: Sequence[Result]) -> tuple[list[str], list[str]]:
    """The matrix's rows and columns in the order in which they were run."""
    return (
        list(dict.fromkeys(one.row for one in results)),
        list(dict.fromkeys(one.column for one in results)),
    )


def heat_cells(results: Sequence[Result]) -> list[list[HeatCell]]:
    """A figure's fields: the median time to direct, and how many of several trials."""
    rows, columns = names(results)
    return [[_heat_cell(_trials(results, row, column)) for column in columns] for row in rows]


def text_table(results: Sequence[Result]) -> str:
    """Rows dialer, columns accepter: D direct, r relayed; ``~`` behind what chance decides, ``!``
    behind what was not expected."""
    rows, columns = names(results)
    width, widths = max(map(len, rows)), [max(len(column), 3) for column in columns]

    def line(first: str, fields: Sequence[str]) -> str:
        padded = (f"{one:>{wide}}" for one, wide in zip(fields, widths, strict=True))
        return f"{first:<{width}}  " + "  ".join(padded)

    lines = [line("", columns)]
    for row in rows:
        marks = []
        for column in columns:
            trials = _trials(results, row, column)
            direct = sum(one.outcome is Outcome.DIRECT for one in trials)
            mark = "D" if direct == len(trials) else "r" if direct == 0 else f"{direct}D"
            chance = "~" if any(one.expected is None for one in trials) else ""
            marks.append(mark + (chance if all(one.ok for one in trials) else "!"))
        lines.append(line(row, marks))
    return "\n".join(lines)


def columns(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Text in columns as wide as they must be."""
    widths = [max(map(len, column)) for column in zip(header, *lines, strict=True)]
    padded = (
        "  ".join(f"{one:<{wide}}" for one, wide in zip(line, widths, strict=True) if wide)
        for line in (header, *lines)
    )
    return "\n".join(line.rstrip() for line in padded)


def summary(results: Sequence[Result]) -> dict[str, Any]:
    """Counts, and the time from the first punch to the direct path with its 95 % interval."""
    direct = sorted(one.direct_s for one in results if one.direct_s is not None)
    low, high = wilson(sum(one.ok for one in results), len(results))
    return {
        "runs": len(results),
        "as_expected": sum(one.ok for one in results),
        "as_expected_interval_95": [round(low, 4), round(high, 4)],
        "direct": sum(one.outcome is Outcome.DIRECT for one in results),
        "relayed": sum(one.outcome is Outcome.RELAYED for one in results),
        "failed": sum(one.outcome is Outcome.FAILED for one in results),
        "direct_s": {
            "median": round(statistics.median(direct), 6) if direct else None,
            "max": round(direct[-1], 6) if direct else None,
        },
    }


def wilson(successes: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's score interval of a proportion (JASA 22, 1927): honest near 0 and 1."""
    if trials == 0:
        return 0.0, 1.0
    share = successes / trials
    centre = share + z * z / (2 * trials)
    margin = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - margin) / scale), min(1.0, (centre + margin) / scale)


def _trials(results: Sequence[Result], row: str, column: str) -> list[Result]:
    return [one for one in results if (one.row, one.column) == (row, column)]


def _heat_cell(trials: Sequence[Result]) -> HeatCell:
    direct = [one for one in trials if one.outcome is Outcome.DIRECT]
    times = [one.direct_s for one in direct if one.direct_s is not None]
    if not direct:
        failed = any(one.outcome is Outcome.FAILED for one in trials)
        text = "failed" if failed else "relay"
    else:
        text = duration(statistics.median(times)) if times else "direct"
    details = []
    if len(trials) > 1:
        low, high = wilson(len(direct), len(trials))
        details += [
            f"{len(direct)} of {len(trials)} direct",
            f"{100 * low:.0f} to {100 * high:.0f} %",
        ]
    wrong = next((one for one in trials if not one.ok), None)
    if wrong is not None:
        details.append(f"expected {wrong.expected}" if wrong.expected else "failed")
    elif any(one.expected is None for one in trials):
        details.append("by chance")
    return HeatCell(
        text, direct=len(direct) * 2 > len(trials), ok=wrong is None, detail="\n".join(details)
    )


def times_to_direct(results: Sequence[Result]) -> dict[str, list[float]]:
    """For the picture of their distribution: a series for each pair, or one where they are many."""
    series: dict[str, list[float]] = {}
    for one in results:
        if one.direct_s is not None:
            series.setdefault(f"{one.row} to {one.column}", []).append(one.direct_s)
    if len(series) > MOST_SERIES:
        return {f"{len(series)} pairs": [value for values in series.values() for value in values]}
    return series
