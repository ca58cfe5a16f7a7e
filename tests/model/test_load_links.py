"""Links in a topology's document: their fields, presets and directions, and what is wrong there."""

from dataclasses import replace

import pytest

from quicpipe_lab.errors import ScenarioError
from quicpipe_lab.model.link import BurstLoss, LinkBehavior
from quicpipe_lab.model.link_presets import PRESETS as LINK_PRESETS
from quicpipe_lab.model.load import topology_from_toml
from quicpipe_lab.model.topology import Link


def link_of(text: str) -> Link:
    """The only link of a topology, with these lines as its table."""
    head = 'host = [{ name = "a" }]\n[[link]]\nbetween = ["core", "a"]\n'
    (link,) = topology_from_toml(head + text, "t", "t.toml").links
    return link


def test_a_link_without_fields_is_plain() -> None:
    assert link_of("").is_plain
    assert link_of('lower_address = "198.18.7.2/30"').is_plain


def test_a_link_with_an_idle_field_is_not_plain() -> None:
    assert link_of("delay_s = 0") == Link.both_ways(("core", "a"), LinkBehavior())


def test_every_field_of_a_link() -> None:
    link = link_of("""\
delay_s = 0.05
jitter_s = 0.01
loss = 0.1
burst_loss = { enter = 0.01, leave = 0.25, loss_within = 0.9, loss_outside = 0.02 }
reorder = 0.03
duplicate = 0.04
corrupt = 0.05
rate_bps = 1000000
queue_bytes = 30000
mtu_bytes = 1280
""")
    behavior = LinkBehavior(
        delay_s=0.05,
        jitter_s=0.01,
        loss=0.1,
        burst_loss=BurstLoss(0.01, 0.25, 0.9, 0.02),
        reorder=0.03,
        duplicate=0.04,
        corrupt=0.05,
        rate_bps=1e6,
        queue_bytes=30_000,
        mtu_bytes=1280,
    )
    assert link == Link.both_ways(("core", "a"), behavior)


@pytest.mark.parametrize("name", LINK_PRESETS)
def test_link_presets_by_name(name: str) -> None:
    preset = LINK_PRESETS[name]
    assert link_of(f'preset = "{name}"') == Link(("core", "a"), preset.down, preset.up)


def test_fields_beside_a_preset_and_a_direction_of_its_own() -> None:
    link = link_of('preset = "lte"\nloss = 0.25\nup = { loss = 0.5, delay_s = 0.1 }')
    lte = LINK_PRESETS["lte"]
    assert link.towards_lower == replace(lte.down, loss=0.25)
    assert link.towards_upper == replace(lte.up, loss=0.5, delay_s=0.1)


def test_one_direction_alone() -> None:
    link = link_of("[link.down]\ndelay_s = 0.1\nburst_loss = { enter = 0.1, leave = 0.5 }")
    assert link.towards_upper is None
    assert link.towards_lower == LinkBehavior(delay_s=0.1, burst_loss=BurstLoss(0.1, 0.5))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('preset = "ltr"', "t.toml:4: link[0].preset: 'ltr' is none of fibre, "),
        ('preset = "ltr"', "did you mean 'lte'?"),
        ("loss = 2", "t.toml:4: link[0].loss: is a fraction from 0 to 1, not 2.0"),
        ("loss = 0.1\nup = { loss = 2 }", "t.toml:5: link[0].up.loss: is a fraction"),
        ("up = { los = 0.1 }", "t.toml:4: link[0].up.los: there is no such field"),
        ('up = { preset = "lte" }', "t.toml:4: link[0].up.preset: there is no such field"),
        ("delay_s = 0.1\njitter_s = 0.2", "t.toml:5: link[0].jitter_s: is at most the delay"),
        ("down = 3", "t.toml:4: link[0].down: must be a table, not 3"),
        ("rate_bps = 0", "t.toml:4: link[0].rate_bps: is 1 to 1e+12 bits a second"),
        ("queue_bytes = 5000", "t.toml:4: link[0].queue_bytes: needs a rate_bps"),
        ("mtu_bytes = 1e3", "t.toml:4: link[0].mtu_bytes: must be an integer"),
        ("burst_loss = 0.1", "t.toml:4: link[0].burst_loss: must be a table"),
        ("burst_loss = { enter = 0.1 }", "t.toml:4: link[0].burst_loss.leave: is missing"),
        ("burst_loss = { enter = 2, leave = 1 }", "t.toml:4: link[0].burst_loss.enter: is a fr"),
        (
            "loss = 0.1\nup = { burst_loss = { enter = 2, leave = 1 } }",
            "t.toml:5: link[0].up.burst_loss.enter: is a fraction",
        ),
    ],
)
def test_complaints_about_links(text: str, complaint: str) -> None:
    with pytest.raises(ScenarioError) as refused:
        link_of(text)
    assert complaint in str(refused.value)
