"""Small HTML: forges keep little more of a notebook's than tables."""

import html
from collections.abc import Iterable, Sequence


def text(value: object) -> str:
    """Anything, as text on a page."""
    return html.escape("" if value is None else str(value))


def heading(words: object, remark: object = "") -> str:
    """A line above a table, with what is said less loudly."""
    return f"<p><b>{text(words)}</b> {text(remark)}</p>"


def table(rows: Iterable[Sequence[object]], header: Sequence[str] = ()) -> str:
    """Without a header, the first column says what the others are."""
    head = ""
    if header:
        cells = "".join(f'<th style="text-align:left">{text(one)}</th>' for one in header)
        head = f"<thead><tr>{cells}</tr></thead>"
    lines = []
    for first, *others in rows:
        kind = "td" if header else "th"
        cells = f'<{kind} style="text-align:left">{text(first)}</{kind}>'
        cells += "".join(f'<td style="text-align:left">{text(one)}</td>' for one in others)
        lines.append(f"<tr>{cells}</tr>")
    return f"<table>{head}<tbody>{''.join(lines)}</tbody></table>"


def folded(summary: object, inside: str) -> str:
    """To be opened by whoever wants it."""
    return f"<details><summary>{text(summary)}</summary>{inside}</details>"
