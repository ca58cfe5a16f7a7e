"""Pictures of repeated trials: the matrix, and how the times are distributed."""

import statistics
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quicpipe_lab.analysis import matrix as analysis
from quicpipe_lab.analysis.matrix import HeatCell
from quicpipe_lab.analysis.plots import distribution, matrix, style
from tests.analysis.plots.legible import assert_legible, points
from tests.analysis.test_matrix import RUNS


@pytest.mark.parametrize("dark", [False, True])
def test_matrix_says_all_that_the_table_says(dark: bool, tmp_path: Path) -> None:
    rows, columns = analysis.names(RUNS)
    axes = matrix.matrix(rows, columns, analysis.heat_cells(RUNS), dark=dark)
    words = assert_legible(axes)
    assert {"20 ms", "relay", "failed", "1 of 2 direct\n9 to 91 %\nexpected direct"} <= set(words)
    assert sum(patch.get_hatch() is not None for patch in axes.patches) == 2
    png = style.save(axes, tmp_path / "m.png")
    assert png.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    ElementTree.parse(style.save(axes, tmp_path / "m.svg"))


def test_texts_of_the_matrix_stay_inside_their_fields() -> None:
    names = [f"APDM/APDF{number}" for number in range(9)]
    cell = HeatCell("1234 ms", True, True, "100 of 100 direct\n96 to 100 %\nexpected relayed")
    assert_legible(matrix.matrix(names, names, [[cell] * 9] * 9))


@given(st.lists(st.floats(0, 1e3), min_size=1))
def test_percentiles_are_values_that_were_measured(values: list[float]) -> None:
    ordered = sorted(values)
    assert distribution.percentile(ordered, 100) == ordered[-1]
    assert distribution.percentile(ordered, 0) == ordered[0]
    assert distribution.percentile(ordered, 50) == statistics.median_low(ordered)


@pytest.mark.parametrize("dark", [False, True])
def test_distribution_tells_percentiles_and_passes_through_them(dark: bool) -> None:
    times_s = {"home to home": [number / 1000 for number in range(1, 101)], "alone": [0.05]}
    axes = distribution.distribution(times_s, "from the first punch", dark=dark)
    words = assert_legible(axes)
    assert "home to home (n = 100): 50 %: 50 ms, 90 %: 90 ms, 99 %: 99 ms" in words
    curve, marks = map(points, axes.lines[:2])
    assert [x for x, _ in marks] == [50.0, 90.0, 99.0]
    assert all(point in curve for point in marks)
    lines = [line.get_linestyle() for line in axes.lines if str(line.get_label())[0] != "_"]
    assert len(set(lines)) == 2


def test_more_distributions_than_can_be_told_apart_are_refused() -> None:
    with pytest.raises(ValueError, match="not 5"):
        distribution.distribution({str(number): [1.0] for number in range(5)}, "time")
    with pytest.raises(ValueError, match=r"not 1 \(0 full\)"):
        distribution.distribution({"nobody": []}, "time")
