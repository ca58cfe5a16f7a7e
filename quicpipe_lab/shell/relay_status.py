"""What a relay says of its work: by which path datagrams went, and what became of the others."""

from collections.abc import Mapping
from enum import IntEnum
from typing import Any, TypeVar

_Reason = TypeVar("_Reason", bound=IntEnum)


def named(counters: Mapping[_Reason, int]) -> dict[str, int]:
    """Counts by reason, as events carry them."""
    return {reason.name.lower(): count for reason, count in counters.items()}


def table(status: Mapping[str, Any]) -> str:
    """A ``status`` or ``stopped`` event's data for a person: one line for each reason that
    occurred."""
    xdp = status.get("xdp")
    columns = {"userspace": status["datagrams"]}
    if xdp is not None:
        columns = {"kernel": xdp["datagrams"], **columns}
    reasons = dict.fromkeys(reason for counts in columns.values() for reason in counts)
    rows = [["datagrams", *columns]]
    for reason in reasons:
        counts = [column.get(reason, 0) for column in columns.values()]
        if any(counts):
            rows.append([reason.replace("_", " "), *(f"{count:,}" for count in counts)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    ]
    if xdp is not None:
        lines += [_describe(xdp)]
    return "\n".join(lines)


def _describe(xdp: Mapping[str, Any]) -> str:
    where = ", ".join(f"{one['interface']} ({one['mode']})" for one in xdp["interfaces"])
    where = where or "no interface any more"
    state = "forwards" if xdp["on"] else "is switched off"
    text = f"the kernel {state} on {where}: {xdp['senders']:,} senders,"
    return f"{text} {xdp['restored']:,} IDs given again, {xdp['unmirrored']:,} had no room"
