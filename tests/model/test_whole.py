"""Whole numbers that Python callers give."""

from dataclasses import replace
from typing import Any

import numpy
import pytest

from quicpipe_lab.errors import ScenarioError
from quicpipe_lab.model.scenario_data import dump_scenario
from quicpipe_lab.resources import find_scenario


def test_numpys_are_taken_as_pythons_own() -> None:
    base = find_scenario("nat-to-nat")
    given = replace(base, seed=numpy.int64(3), direct_after_bytes=numpy.uint8(5))  # type: ignore[arg-type]
    assert type(given.seed) is type(given.direct_after_bytes) is int
    assert given == replace(base, seed=3, direct_after_bytes=5)
    assert '"seed": 3' in dump_scenario(given)


@pytest.mark.parametrize(
    ("seed", "says"),
    [
        (1.5, "seed: is a whole number, not 1.5"),
        ("x", "seed: is a whole number, not 'x'"),
        (None, "seed: is a whole number, not None"),
        (2**63, f"seed: is {-(2**63)} to {2**63 - 1}, not {2**63}"),
    ],
)
def test_what_is_none_is_refused_by_name(seed: Any, says: str) -> None:
    """At once: a search through all numbers would not end."""
    with pytest.raises(ScenarioError) as refused:
        replace(find_scenario("nat-to-nat"), seed=seed)
    assert str(refused.value) == says
