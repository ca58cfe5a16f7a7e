"""Link behaviours: what is impossible is refused, by field and reason."""

from typing import Any

import pytest

from quicpipe_lab.errors import ScenarioError
from quicpipe_lab.model.link import BurstLoss, LinkBehavior
from quicpipe_lab.model.link_presets import PRESETS

NAN, INFINITE = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"delay_s": -1.0}, "delay_s"),
        ({"delay_s": NAN}, "delay_s"),
        ({"delay_s": INFINITE}, "delay_s"),
        ({"delay_s": 1.0, "jitter_s": NAN}, "jitter_s"),
        ({"delay_s": 0.01, "jitter_s": 0.02}, "jitter_s"),
        ({"loss": 1.1}, "loss"),
        ({"loss": NAN}, "loss"),
        ({"duplicate": -0.1}, "duplicate"),
        ({"corrupt": 2.0}, "corrupt"),
        ({"delay_s": 0.1, "reorder": 1.5}, "reorder"),
        ({"reorder": 0.5}, "reorder"),
        ({"rate_bps": 0.0}, "rate_bps"),
        ({"rate_bps": NAN}, "rate_bps"),
        ({"rate_bps": INFINITE}, "rate_bps"),
        ({"delay_s": 1e300}, "delay_s"),
        ({"delay_s": 10**400}, "delay_s"),
        ({"rate_bps": 1e-300}, "rate_bps"),
        ({"rate_bps": 1e300}, "rate_bps"),
        ({"rate_bps": 1e6, "queue_bytes": 10**30}, "queue_bytes"),
        ({"queue_bytes": 10_000}, "queue_bytes"),
        ({"rate_bps": 1e6, "queue_bytes": 1499}, "queue_bytes"),
        ({"mtu_bytes": 67}, "mtu_bytes"),
        ({"mtu_bytes": 65536}, "mtu_bytes"),
    ],
)
def test_impossible_links_are_refused(fields: dict[str, Any], path: str) -> None:
    with pytest.raises(ScenarioError) as refused:
        LinkBehavior(**fields)
    assert refused.value.path == path


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"enter": 1.1, "leave": 1.0}, "burst_loss.enter"),
        ({"enter": 0.1, "leave": -1.0}, "burst_loss.leave"),
        ({"enter": 0.1, "leave": 0.0}, "burst_loss.leave"),
        ({"enter": 0.1, "leave": 0.1, "loss_within": NAN}, "burst_loss.loss_within"),
        ({"enter": 0.1, "leave": 0.1, "loss_outside": 2.0}, "burst_loss.loss_outside"),
    ],
)
def test_impossible_bursts_are_refused(fields: dict[str, Any], path: str) -> None:
    with pytest.raises(ScenarioError) as refused:
        BurstLoss(**fields)
    assert refused.value.path == path


def test_mean_loss() -> None:
    assert LinkBehavior().mean_loss == 0
    assert LinkBehavior(loss=0.25).mean_loss == 0.25
    bursts = BurstLoss(enter=0.1, leave=0.3, loss_within=0.8, loss_outside=0.04)
    assert bursts.mean == pytest.approx(0.25 * 0.8 + 0.75 * 0.04)
    both = LinkBehavior(loss=0.5, burst_loss=bursts)
    assert both.mean_loss == pytest.approx(1 - 0.5 * (1 - bursts.mean))
    assert BurstLoss(enter=0.0, leave=0.0, loss_outside=0.1).mean == 0.1


def test_every_preset_that_was_asked_for_is_there() -> None:
    wanted = "fibre dsl cable wifi lte 5g geo-satellite leo-satellite transatlantic"
    assert list(PRESETS) == wanted.split()
