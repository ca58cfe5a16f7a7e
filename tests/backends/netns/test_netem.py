"""Link behaviours as netem's netlink messages, taken apart by the kernel's own headers.

The structures are those of linux/rtnetlink.h, linux/pkt_sched.h (tc_netem_qopt, TCA_NETEM_*).
"""

import struct
from typing import Any

import pytest

from quicpipe_lab.backends.netns.impairment import why_not_netem
from quicpipe_lab.backends.netns.netem import set_netem
from quicpipe_lab.errors import UnsupportedBehaviorError
from quicpipe_lab.model.link import BurstLoss, LinkBehavior

NETLINK = struct.Struct("=IHHII")
TRAFFIC = struct.Struct("=BxHiIII")
"""tcmsg: family, index, handle, parent, info."""
OPTIONS = struct.Struct("=6I")
"""tc_netem_qopt: latency, limit, loss, gap, duplicate, jitter."""
KIND, TCA_OPTIONS = 1, 2
REORDER, CORRUPT, LOSS, RATE, RATE64, LATENCY64, JITTER64, SEED = 3, 4, 5, 6, 8, 10, 11, 14
GILBERT_ELLIOTT = 2


def attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    while data:
        size, kind = struct.unpack_from("=HH", data)
        found[kind & 0x3FFF] = data[4:size]
        data = data[(size + 3) & ~3 :]
    return found


def encoded(**fields: Any) -> tuple[tuple[int, ...], dict[int, tuple[int, ...] | bytes]]:
    """The fixed fields, and the numbers in each attribute."""
    data, purpose = set_netem(101, "core", LinkBehavior(**fields), "seed")
    assert purpose == "netem on interface 'core'"
    size, kind, flags, _, _ = NETLINK.unpack_from(data)
    assert (size, kind, flags) == (len(data), 36, 0x501)  # RTM_NEWQDISC, request, replace, create
    head = TRAFFIC.unpack_from(data, NETLINK.size)
    assert head == (0, 0, 101, 0x10000, 0xFFFFFFFF, 0)
    outer = attributes(data[NETLINK.size + TRAFFIC.size :])
    assert outer[KIND] == b"netem\0"
    options = outer[TCA_OPTIONS]
    numbers: dict[int, tuple[int, ...] | bytes] = {}
    for attribute, value in attributes(options[OPTIONS.size :]).items():
        layout = {REORDER: "=2I", CORRUPT: "=2I", RATE: "=IiIi", LATENCY64: "=q", JITTER64: "=q"}
        if attribute == LOSS:
            numbers[attribute] = struct.unpack("=4I", attributes(value)[GILBERT_ELLIOTT])
        else:
            numbers[attribute] = struct.unpack(layout.get(attribute, "=Q"), value)
    return OPTIONS.unpack_from(options), numbers


def test_a_link_that_does_nothing() -> None:
    fixed, more = encoded()
    assert fixed == (0, 0x7FFFFFFF, 0, 0, 0, 0)
    assert set(more) == {LATENCY64, JITTER64, SEED}
    assert more[LATENCY64] == more[JITTER64] == (0,)


def test_delay_and_jitter_in_nanoseconds_and_in_order() -> None:
    _, more = encoded(delay_s=0.0375, jitter_s=0.000_001)
    assert more[LATENCY64] == (37_500_000,)
    assert more[JITTER64] == (1000,)
    # A rate, for that keeps the order; and one by which 1500 bytes take no nanosecond.
    assert more[RATE] == (0xFFFFFFFF, -14, 0, 0)
    assert more[RATE64] == (1 << 62,)


def test_chances_are_fractions_of_32_bits() -> None:
    fixed, more = encoded(delay_s=1.0, loss=0.25, duplicate=1.0, reorder=0.5, corrupt=0.75)
    assert fixed == (0, 0x7FFFFFFF, 0x40000000, 1, 0xFFFFFFFF, 0)
    assert more[REORDER] == (0x80000000, 0)
    assert more[CORRUPT] == (0xBFFFFFFF, 0)
    assert RATE not in more


def test_bursts() -> None:
    """p and r; then what is delivered in a burst, then what is lost outside."""
    fixed, more = encoded(burst_loss=BurstLoss(0.25, 0.5, loss_within=0.75, loss_outside=0.125))
    assert fixed[2] == 0
    assert more[LOSS] == (0x40000000, 0x80000000, 0x40000000, 0x20000000)


def test_loss_beside_bursts_goes_into_both_states() -> None:
    fixed, more = encoded(loss=0.5, burst_loss=BurstLoss(0.25, 0.5, 0.75, 0.0))
    assert fixed[2] == 0
    assert more[LOSS] == (0x40000000, 0x80000000, 0x20000000, 0x80000000)


@pytest.mark.parametrize(
    ("rate_bps", "low", "high"),
    [(8e6, 1_000_000, 1_000_000), (80e9, 0xFFFFFFFF, 10_000_000_000)],
)
def test_the_rate_is_in_bytes_of_ip_packets(rate_bps: float, low: int, high: int) -> None:
    _, more = encoded(rate_bps=rate_bps)
    assert more[RATE] == (low, -14, 0, 0)
    assert more[RATE64] == (high,)


def test_the_seed_decides() -> None:
    one, again, other = (
        set_netem(1, "x", LinkBehavior(loss=0.1), seed)[0] for seed in ("1", "1", "2")
    )
    assert one == again != other


@pytest.mark.parametrize(
    ("behavior", "field"),
    [
        (LinkBehavior(rate_bps=1e6, queue_bytes=3000), "queue_bytes"),
        (LinkBehavior(mtu_bytes=1280), "mtu_bytes"),
        (LinkBehavior(delay_s=0.1, reorder=0.1, rate_bps=1e6), "reorder"),
        (LinkBehavior(delay_s=4.0, jitter_s=3.0), "jitter_s"),
    ],
)
def test_what_netem_cannot_do_is_refused_by_name(behavior: LinkBehavior, field: str) -> None:
    assert (why_not_netem(behavior) or "").startswith(f"{field}: ")
    with pytest.raises(UnsupportedBehaviorError, match=f"core: {field}: "):
        set_netem(1, "core", behavior, "seed")
