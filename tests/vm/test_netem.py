"""netem for real: what the golden messages (tests/backends/netns/test_netem.py) do to packets."""

import json
import os
from itertools import pairwise
from math import sqrt
from statistics import median
from typing import Any

import pytest

from tests.folders import vanishing_folder
from tests.vm import guest
from tests.vm.machine import Machine, missing_programs

pytestmark = [
    pytest.mark.skipif(
        os.environ.get("QUICPIPE_LAB_VM") != "1", reason="opt-in: set QUICPIPE_LAB_VM=1"
    ),
    pytest.mark.timeout(600),
]

SIGMAS = 5.0
MODULES = ("veth", "sch_netem", "af_packet")


@pytest.fixture(scope="module")
def observed() -> dict[str, Any]:
    """What the guest saw."""
    if missing := missing_programs():
        pytest.fail(f"not installed here: {', '.join(missing)}")
    with vanishing_folder() as folder:  # a kernel is too large to be kept, as pytest would
        machine = Machine(folder)
        machine.prepare()
        text = machine.run("tests.vm.guest", MODULES, within_s=400)
    lines = [line for line in text.splitlines() if line.startswith(guest.MARK)]
    assert lines, text
    found: dict[str, Any] = json.loads(lines[0].removeprefix(guest.MARK))
    return found


def numbers(observed: dict[str, Any], name: str) -> list[int]:
    return [number for number, _, _ in observed[name]]


def test_the_kernel_is_debians_and_has_netem(observed: dict[str, Any]) -> None:
    assert observed["kernel"].endswith("-amd64")
    assert observed["has_netem"]


def test_delay(observed: dict[str, Any]) -> None:
    delays_s = [received_s - sent_s for _, sent_s, received_s in observed["delay"]]
    assert len(delays_s) == guest.COUNTS["delay"]
    assert 0.2 <= min(delays_s) < 0.3


def test_jitter_keeps_the_order(observed: dict[str, Any]) -> None:
    assert numbers(observed, "jitter") == list(range(guest.COUNTS["jitter"]))


@pytest.mark.parametrize("name", ["loss", "bursts", "both"])
def test_loss(observed: dict[str, Any], name: str) -> None:
    behavior, count = guest.BEHAVIORS[name], guest.COUNTS[name]
    lost = 1 - len(observed[name]) / count
    burst = 2 / behavior.burst_loss.leave if behavior.burst_loss else 1
    chance = behavior.mean_loss
    assert abs(lost - chance) <= SIGMAS * sqrt(burst * chance * (1 - chance) / count)
    counters = observed["counters"][name]
    assert counters["dropped"] == count - len(observed[name])
    assert counters["delivered"] == len(observed[name])


def test_bursts_have_their_length(observed: dict[str, Any]) -> None:
    arrived = set(numbers(observed, "bursts"))
    lost = [number not in arrived for number in range(guest.COUNTS["bursts"])]
    starts = sum(now and not before for before, now in zip([False, *lost], lost, strict=False))
    leave = 0.25
    assert abs(sum(lost) / starts - 1 / leave) <= SIGMAS * sqrt(1 - leave) / leave / sqrt(starts)


def test_a_link_that_is_changed_to_reorder(observed: dict[str, Any]) -> None:
    assert numbers(observed, "reorder") == [1, 0]


def test_duplicates(observed: dict[str, Any]) -> None:
    assert sorted(numbers(observed, "duplicate")) == sorted([*range(100), *range(100)])


def test_flipped_bits_are_noticed(observed: dict[str, Any]) -> None:
    """But for those of the frame's source address, six bytes of 114, which nobody looks at."""
    count, unnoticed = guest.COUNTS["corrupt"], 6 / 114
    arrived = numbers(observed, "corrupt")
    assert -1 not in arrived
    bound = SIGMAS * sqrt(unnoticed * (1 - unnoticed) / count)
    assert abs(len(arrived) / count - unnoticed) <= bound


def test_the_rate_counts_ip_packets(observed: dict[str, Any]) -> None:
    """0.1 s each; with the Ethernet header's 14 bytes it would be 0.114 s."""
    times_s = [received_s for _, _, received_s in observed["rate"]]
    assert len(times_s) == guest.COUNTS["rate"]
    gaps_s = [after_s - before_s for before_s, after_s in pairwise(times_s)]
    assert abs(median(gaps_s) - 0.1) < 0.005
    assert times_s[-1] - observed["rate"][0][1] >= 0.1 * len(times_s)


def test_what_netem_cannot_do_is_refused_in_a_running_lab(observed: dict[str, Any]) -> None:
    assert "mtu_bytes: netem drops nothing for its length" in observed["refusal"]
