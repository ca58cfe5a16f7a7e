"""The matrix in words, numbers and pictures."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quicpipe_lab.analysis import matrix
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
    assert first.detail == "2 of 2 direct\n34 to 100 %"
    assert (mixed.text, mixed.ok) == ("20 ms", False)
    assert mixed.detail == "1 of 2 direct\n9 to 91 %\nexpected direct"
    assert (relayed.text, relayed.direct) == ("relay", False)
    assert (failed.text, failed.ok) == ("failed", False)
    (((chance,),), ((once,),)) = (
        matrix.heat_cells([Run("linux-masquerade", "home", R, None)]),
        matrix.heat_cells([Run("home", "home", D, D, 0.02)]),
    )
    assert (chance.text, chance.ok, chance.detail) == ("relay", True, "by chance")
    assert (once.text, once.detail) == ("20 ms", "")
    ((short,),) = matrix.heat_cells([Run("home", "home", D, D, 0.00025)])
    assert short.text == "250 µs"  # in virtual time; no path takes 0 ms


def test_times_for_their_distribution() -> None:
    assert matrix.times_to_direct(RUNS) == {
        "EIM/EIF to EIM/EIF": [0.010, 0.030],
        "EIM/EIF to APDM/APDF": [0.020],
    }
    many = [Run("home", f"nat-{number}", D, D, number / 1000) for number in range(9)]
    assert matrix.times_to_direct(many) == {"9 pairs": [number / 1000 for number in range(9)]}
    assert matrix.times_to_direct([Run("home", "home", R, D)]) == {}


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
