"""Every picture of bundled scenarios that are unlike each other, run in virtual time."""

from pathlib import Path

import pytest

from quicpipe_lab import resources
from quicpipe_lab.analysis.plots import style
from quicpipe_lab.backends import base
from quicpipe_lab.errors import QuicpipeLabError
from quicpipe_lab.evidence import open_run
from quicpipe_lab.pictures import PICTURES
from tests.analysis.plots.legible import assert_legible

UNLIKE = ("nat66-to-nptv6", "nat64-to-nat", "same-carrier", "only-port-443", "long-way")


@pytest.mark.parametrize("name", UNLIKE)
def test_every_picture_is_legible(name: str, tmp_path: Path) -> None:
    """In virtual time many things happen at the same instant; labels keep apart all the same."""
    base.run(resources.find_scenario(name), backend="sim", run_dir=tmp_path)
    evidence = open_run(tmp_path)
    for number, picture in enumerate(PICTURES.values()):
        assert_legible(picture.draw(evidence, bool(number % 2)))


def test_on_axes_of_somebody_elses_figure(tmp_path: Path) -> None:
    """As a notebook has them, several beside each other."""
    from matplotlib.figure import Figure

    from quicpipe_lab.analysis.plots.sequence import sequence
    from quicpipe_lab.analysis.plots.timeline import timeline
    from quicpipe_lab.analysis.plots.topology import topology

    base.run(resources.find_scenario("same-nat"), backend="sim", run_dir=tmp_path)
    evidence = open_run(tmp_path)
    figure = Figure(figsize=(24, 12), layout="constrained")
    one, two, three = figure.subplots(1, 3)
    assert topology(evidence.run, one) is one
    assert sequence(evidence.run, evidence.packets, two) is two
    assert timeline(evidence.run, evidence.packets, three) is three
    assert style.save(one, tmp_path / "all.png").stat().st_size > 50_000


def test_what_has_nothing_to_show_says_so(tmp_path: Path) -> None:
    base.run(resources.find_scenario("udp-blocked"), backend="sim", run_dir=tmp_path)
    with pytest.raises(QuicpipeLabError, match="the relay forwarded nothing"):
        PICTURES["relay"].draw(open_run(tmp_path), False)
