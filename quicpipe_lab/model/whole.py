"""Whole numbers from Python callers, who bring those of other libraries, and what is none."""

import operator
from typing import SupportsIndex

from quicpipe_lab.errors import ScenarioError


def whole(field: str, given: SupportsIndex, least: int, most: int | None = None) -> int:
    """As Python's own, also one of numpy's. Raises ScenarioError."""
    try:
        number = operator.index(given)
    except TypeError:
        raise ScenarioError(field, f"is a whole number, not {given!r}") from None
    if most is not None and not least <= number <= most:
        raise ScenarioError(field, f"is {least} to {most}, not {number}")
    if number < least:
        raise ScenarioError(field, f"is {least} or more, not {number}")
    return number
