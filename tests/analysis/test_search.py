"""What port searches cost, in numbers and words."""

import pytest

from quicpipe_lab.analysis import search
from quicpipe_lab.model.result import PortSearched

FOUND = [PortSearched(True, hit, hit + 3, 256, hit / 200) for hit in (100, 200, 300, 400)]
IN_VAIN = PortSearched(False, None, 2048, 1024, 13.0)
BY_ACCIDENT = PortSearched(True, None, 900, 900, 5.0)


def test_chance_says_what_the_study_says() -> None:
    assert [search.expected_probes(share) for share in (0.5, 0.9, 0.99)] == [175, 577, 1148]
    assert abs(search.expected_probes(0.5, open_ports=1) - search.PORTS / 2) <= 1
    assert search.expected_probes(1.0, open_ports=search.PORTS) == 1


@pytest.mark.parametrize(("share", "value"), [(0.5, 20), (0.9, 40), (0.99, 40), (0.01, 10)])
def test_a_quantile_is_one_of_the_values(share: float, value: float) -> None:
    assert search.quantile([40, 10, 30, 20], share) == value
    assert search.quantile([], share) is None


def test_what_was_in_vain_counts_but_hits_nothing() -> None:
    summary = search.summary([None, *FOUND, IN_VAIN, BY_ACCIDENT])
    assert summary is not None
    assert (summary["searches"], summary["found"], summary["hits"]) == (6, 5, 4)
    assert summary["probes"] == {"p50": 200, "p90": 400, "p99": 400}
    assert summary["took_s"] == {"p50": 1.5, "p90": 5.0}
    told = search.text(summary)
    assert "6 port searches, 5 found a port in 1.5 / 5 s" in told
    assert "200 / 400 / 400" in told
    assert "175 / 577 / 1148" in told


def test_without_searches_there_is_nothing_to_say() -> None:
    assert search.summary([None, None]) is None
    in_vain = search.summary([IN_VAIN])
    assert in_vain is not None
    assert "- / - / -" in search.text(in_vain)
