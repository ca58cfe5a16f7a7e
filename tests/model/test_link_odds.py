"""How many packets links lose in a row, against the links themselves."""

from dataclasses import replace

import pytest

from quicpipe_lab.model.link import BurstLoss, LinkBehavior
from quicpipe_lab.model.link_model import LinkModel
from quicpipe_lab.model.link_odds import tries_needed
from quicpipe_lab.model.link_presets import PRESETS

WIFI = PRESETS["wifi"].up
HALF = LinkBehavior(loss=0.5)
ROUGH = LinkBehavior(loss=0.1, burst_loss=BurstLoss(0.1, 0.2, 0.9, 0.05), corrupt=0.02)
TRIALS = 500


def test_what_is_known_by_heart() -> None:
    assert tries_needed([], 1e-9, 10) == 1
    assert tries_needed([LinkBehavior(delay_s=1.0)], 1e-9, 10) == 1
    assert tries_needed([HALF], 0.5**10, 10) == 10
    assert tries_needed([HALF], 0.5**11, 10) is None
    assert tries_needed([HALF, HALF], 0.75**10, 100) == 10
    once = LinkBehavior(burst_loss=BurstLoss(enter=0.001, leave=0.2))
    within = 1.001 * 0.001 / 0.201  # of all packets
    assert tries_needed([once], within * 0.8**20, 100) == 21
    assert tries_needed([once], 0.00101 * 0.8**20, 100, after_one=True) == 21


def test_links_on_which_nothing_passes() -> None:
    assert tries_needed([LinkBehavior(loss=1.0)], 1e-9, 1000) is None
    assert tries_needed([LinkBehavior(loss=1.0)], 1e-9, 1000, after_one=True) is None


@pytest.mark.parametrize("path", [[ROUGH], [ROUGH, HALF], [ROUGH, WIFI, ROUGH]], ids=len)
@pytest.mark.parametrize("tries", [2, 5])
def test_as_often_as_the_links_do_it(path: list[LinkBehavior], tries: int) -> None:
    """Just as many are needed as it takes to lose them all as seldom as they were lost."""
    lost = sum(_are_all_lost(path, tries, seed) for seed in range(TRIALS)) / TRIALS
    margin = 4 * (lost * (1 - lost) / TRIALS) ** 0.5
    assert (tries_needed(path, lost + margin, 100) or 101) <= tries
    assert (tries_needed(path, lost - margin, 100) or 101) > tries


def _are_all_lost(path: list[LinkBehavior], tries: int, seed: int) -> bool:
    models = [
        LinkModel(replace(one, rate_bps=None, queue_bytes=None), f"{seed}/{n}")
        for n, one in enumerate(path)
    ]
    for _ in range(30):  # into the long run
        for model in models:
            model.admit(100, 0.0)
    return not any(_passes(models) for _ in range(tries))


def _passes(models: list[LinkModel]) -> bool:
    for model in models:
        (fate,) = model.admit(100, 0.0)
        if fate.drop is not None or fate.flipped_bit is not None:
            return False
    return True
