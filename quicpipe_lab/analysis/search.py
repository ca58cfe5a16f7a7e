"""What port searches cost, beside what chance says that they must."""

import statistics
from collections.abc import Sequence
from typing import Any

from quicpipe_lab.model.result import PortSearched

PORTS = 65536 - 1024
"""What a NAT draws from, and a search knocks at."""
OPEN_PORTS = 256
_QUANTILES = (0.5, 0.9, 0.99)


def expected_probes(share: float, open_ports: int = OPEN_PORTS) -> int:
    """The fewest probes, none twice, by which so many of all searches have found an open port."""
    missed, probes = 1.0, 0
    while 1 - missed < share:
        missed *= (PORTS - probes - open_ports) / (PORTS - probes)
        probes += 1
    return probes


def quantile(values: Sequence[float], share: float) -> float | None:
    """The least value that so large a share of them does not exceed; None of none."""
    ordered = sorted(values)
    return next((v for n, v in enumerate(ordered, 1) if n >= share * len(ordered)), None)


def summary(searches: Sequence[PortSearched | None]) -> dict[str, Any] | None:
    """Counts, probes up to the hit beside what is expected, and seconds; None without searches."""
    made = [one for one in searches if one is not None]
    if not made:
        return None
    found = [one for one in made if one.found]
    hits = [one.hit for one in found if one.hit is not None]
    return {
        "searches": len(made),
        "found": len(found),
        "hits": len(hits),
        "probes": {_name(share): quantile(hits, share) for share in _QUANTILES},
        "expected_probes": {_name(share): expected_probes(share) for share in _QUANTILES},
        "took_s": {
            _name(share): quantile([one.took_s for one in found], share) for share in (0.5, 0.9)
        },
        "datagrams": statistics.mean(one.probes + one.opened for one in made),
    }


def text(given: dict[str, Any]) -> str:
    """The summary in two lines."""
    probes, expected, took_s = given["probes"], given["expected_probes"], given["took_s"]

    def all_of(values: dict[str, Any]) -> str:
        return " / ".join("-" if value is None else f"{value:g}" for value in values.values())

    return (
        f"{given['searches']} port searches, {given['found']} found a port"
        f" in {all_of({name: value and round(value, 2) for name, value in took_s.items()})} s"
        " (half / 90 %)\n"
        f"probes to the hit: {all_of(probes)} for half / 90 % / 99 % of {given['hits']},"
        f" where chance says {all_of(expected)}"
    )


def _name(share: float) -> str:
    return f"p{100 * share:g}"
