"""The matrix in words, numbers and pictures."""

from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg

from quicpipe_lab.analysis import matrix, plots
from quicpipe_lab.model.scenario import Outcome


@dataclass(frozen=True)
class Run:
    row: str
    column: str
    outcome: Outcome
    expected: Outcome | None
    direct_s: float | None = None

    @property
    def ok(self) -> bool:
        return self.expected is None or self.outcome is self.expected


D, R, F = Outcome.DIRECT, Outcome.RELAYED, Outcome.FAILED
RUNS = [
    Run("EIM/EIF", "EIM/EIF", D, D, 0.010),
    Run("EIM/EIF", "EIM/EIF", D, D, 0.030),
    Run("EIM/EIF", "APDM/APDF", D, D, 0.020),
    Run("EIM/EIF", "APDM/APDF", R, D),
    Run("APDM/APDF", "EIM/EIF", R, R),
    Run("APDM/APDF", "EIM/EIF", R, R),
    Run("APDM/APDF", "APDM/APDF", F, R),
    Run("APDM/APDF", "APDM/APDF", R, R),
]


def test_text_marks_what_was_not_expected() -> None:
    lines = matrix.text_table(RUNS).splitlines()
    assert lines[0].split() == ["EIM/EIF", "APDM/APDF"]
    assert lines[1].split() == ["EIM/EIF", "D", "1D!"]
    assert lines[2].split() == ["APDM/APDF", "r", "r!"]


def test_text_marks_what_chance_decides() -> None:
    table = matrix.text_table([Run("linux-masquerade", "home", R, None)])
    assert table.splitlines()[1].split() == ["linux-masquerade", "r~"]


def test_summary_counts() -> None:
    summary = matrix.summary(RUNS)
    assert (summary["runs"], summary["as_expected"]) == (8, 6)
    assert (summary["direct"], summary["relayed"], summary["failed"]) == (3, 4, 1)
    assert summary["direct_s"] == {"median": 0.02, "max": 0.03}
    assert matrix.summary([])["direct_s"] == {"median": None, "max": None}


def test_fields_of_the_figure() -> None:
    (first, mixed), (relayed, failed) = matrix.heat_cells(RUNS)
    assert (first.text, first.direct, first.ok) == ("20 ms", True, True)
    assert mixed.text == "20 ms\n1/2"
    assert not mixed.ok
    assert relayed.text == "relay"
    assert (failed.text, failed.ok) == ("failed", False)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634), (81, 81, 0.9547, 1.0)],
)
def test_wilson_against_published_values(
    successes: int, trials: int, low: float, high: float
) -> None:
    assert matrix.wilson(successes, trials) == pytest.approx((low, high), abs=2e-4)


@given(st.integers(0, 500), st.integers(0, 500))
def test_wilson_is_an_interval_around_the_share(one: int, other: int) -> None:
    successes, trials = min(one, other), max(one, other)
    low, high = matrix.wilson(successes, trials)
    assert 0 <= low <= high <= 1
    if trials:
        assert low - 1e-9 <= successes / trials <= high + 1e-9


@pytest.mark.parametrize("dark", [False, True])
def test_figure_says_all_that_the_table_says(dark: bool, tmp_path: Path) -> None:
    rows, columns = matrix.names(RUNS)
    figure = plots.matrix_heatmap(rows, columns, matrix.heat_cells(RUNS), dark=dark)
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == ["20 ms", "20 ms\n1/2", "relay", "failed"]
    assert sum(patch.get_hatch() is not None for patch in axes.patches) == 2
    png, svg = plots.save(figure, tmp_path / "m")
    assert png.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    ElementTree.parse(svg)


def test_texts_stay_inside_their_fields(tmp_path: Path) -> None:
    """No label covers another one's field."""
    rows = [f"APDM/APDF{i}" for i in range(3)]
    cells = [[plots.HeatCell("1234 ms\n10/10", True, True)] * 3] * 3
    figure = plots.matrix_heatmap(rows, rows, cells)
    figure.savefig(tmp_path / "m.png")
    (axes,) = figure.axes
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    for text, patch in zip(axes.texts, axes.patches, strict=True):
        inner, outer = text.get_window_extent(renderer), patch.get_window_extent(renderer)
        assert outer.x0 <= inner.x0
        assert inner.x1 <= outer.x1
        assert outer.y0 <= inner.y0
        assert inner.y1 <= outer.y1
