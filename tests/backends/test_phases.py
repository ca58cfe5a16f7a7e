"""Where two timers meet, milliseconds decide what comes of it: phases, and no difference between
the backends. So the kernel is compared with what the simulator tells around the very same phase.

Mappings end within seconds here, and the relay is reminded 2 s after the registration and then
every 15 s (relay_leg.py, EXPECTING_S and KEEPALIVE_S).
When the direct path dies, the dialer's packets through the relay reach the accepter only as long
as its NAT remembers what it has last sent to the relay, and then not before it sends again. How
long that takes hangs on one thing: how long after its registration the path died.
"""

from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

from quicpipe_lab.backends import base
from quicpipe_lab.model.event import Event
from quicpipe_lab.model.link import LinkBehavior
from quicpipe_lab.model.nat import NatBehavior
from quicpipe_lab.model.scenario import Cut, Idle, Outcome, Scenario, Transfer, WaitFor
from quicpipe_lab.model.topology import Host, Link, Nat, Relay, Topology
from quicpipe_lab.protocol.relay_leg import EXPECTING_S, KEEPALIVE_S
from tests.backends.narrow import PACKET_BYTES, SLOWEST_BPS, narrow

ACCEPTER_LIFETIME_S = 3.0
AROUND_S = 0.15
"""How far around the kernel's phase the simulator's are looked at: what its programs are late."""
SLOWER_S = 1.0
"""As in test_contract.py."""


def short_life(idle_s: float, within_s: float) -> Scenario:
    """The direct path dies ``idle_s`` after it was found; then the relay is to take over."""
    near = LinkBehavior(delay_s=0.01)
    topology = Topology(
        "short-life",
        (
            Nat("nat-a", NatBehavior(mapping_lifetime_s=2.0)),
            Nat("nat-b", NatBehavior(mapping_lifetime_s=ACCEPTER_LIFETIME_S)),
            Host("alice"),
            Host("bob"),
            Relay("relay"),
        ),
        (
            Link.both_ways(("core", "nat-a"), near),
            Link.both_ways(("core", "nat-b"), near),
            Link.both_ways(("core", "relay"), LinkBehavior(delay_s=0.02)),
            Link(("nat-a", "alice")),
            Link(("nat-b", "bob")),
        ),
    )
    return Scenario(
        "short-life",
        topology,
        dialer="alice",
        accepter="bob",
        relay="relay",
        expect=Outcome.RELAYED,
        steps=(
            WaitFor(path=Outcome.DIRECT),
            Idle(idle_s),
            Transfer(20_000, wait=False),
            Cut(("alice", "bob")),
            WaitFor(path=Outcome.RELAYED, within_s=within_s),
            WaitFor(transfer=True),
        ),
    )


class Fall(NamedTuple):
    """``phase_s``: how long after the accepter's registration the path died. ``back_s``: how long
    after that both peers used the relay; None where they did not in time."""

    phase_s: float
    back_s: float | None


def fall_of(scenario: Scenario, backend: str, folder: Path) -> Fall:
    base.run(scenario, backend=backend, run_dir=folder, certify=False)
    lines = (folder / "events.jsonl").read_text().splitlines()
    events = [Event.loads(line) for line in lines]
    registered_s = next(
        one.t_s for one in events if (one.node, one.name) == ("bob", "relay-registered")
    )
    cut_s = next(one.t_s for one in events if one.name == "cut")
    moved = {
        one.node: one.t_s
        for one in events
        if one.name == "path-changed" and one.t_s > cut_s and not one.data["direct"]
    }
    is_back = moved.keys() == {"alice", "bob"}
    return Fall(cut_s - registered_s, max(moved.values()) - cut_s if is_back else None)


class Simulated:
    """The scenario in virtual time, by the phase."""

    def __init__(self, folder: Path, within_s: float) -> None:
        self._folder = folder
        self._within_s = within_s
        self._runs = 0
        self._earliest_s = self._fall(1.0).phase_s - 1.0

    def at(self, phase_s: float) -> Fall:
        fall = self._fall(phase_s - self._earliest_s)
        assert fall.phase_s == pytest.approx(phase_s, abs=1e-3)
        return fall

    def _fall(self, idle_s: float) -> Fall:
        self._runs += 1
        scenario = short_life(idle_s, self._within_s)
        return fall_of(scenario, "sim", self._folder / str(self._runs))


def test_the_relay_takes_over_at_once_or_with_the_next_keepalive(tmp_path: Path) -> None:
    """The sweep, and its period: what follows from the phase, and from nothing else."""
    simulated = Simulated(tmp_path, within_s=60.0)
    soon = 1.0
    for phase_s in (EXPECTING_S, EXPECTING_S + 1.5):
        assert (simulated.at(phase_s).back_s or 60) < soon
        assert (simulated.at(phase_s + KEEPALIVE_S).back_s or 60) < soon
    for phase_s in (10.5, 12.0, 14.0, 15.5):
        left_s = EXPECTING_S + KEEPALIVE_S - phase_s
        back_s = simulated.at(phase_s).back_s or 60
        assert left_s - 0.1 < back_s < left_s + ACCEPTER_LIFETIME_S


@pytest.mark.netns
@pytest.mark.parametrize(
    ("idle_s", "is_remembered"), [(0.5, True), (6.0, False)], ids=["remembered", "forgotten"]
)
def test_the_kernel_does_what_the_simulator_does_in_its_phase(
    idle_s: float, is_remembered: bool, tmp_path: Path
) -> None:
    within_s = 3.0
    kernel = fall_of(short_life(idle_s, within_s), "netns", tmp_path / "netns")
    simulated = Simulated(tmp_path / "sim", within_s)
    around = [
        simulated.at(kernel.phase_s + shift_s).back_s for shift_s in (-AROUND_S, 0.0, AROUND_S)
    ]
    assert (kernel.back_s is not None) == is_remembered
    if kernel.back_s is None:
        assert None in around
    else:
        known_s = [one for one in around if one is not None]
        assert min(known_s) - AROUND_S < kernel.back_s < max(known_s) + SLOWER_S


def punching_s(scenario: Scenario, folder: Path) -> float:
    result = base.run(scenario, backend="sim", run_dir=folder, certify=False)
    assert result.times_s.direct is not None
    assert result.punching_s is not None
    return result.times_s.direct - result.punching_s


def test_packets_are_ahead_in_a_queue_or_not(tmp_path: Path) -> None:
    """Where links are slow, milliseconds become the time that a whole packet takes: so the kernel,
    whose programs are later, may find the direct path sooner."""
    by_delay = [
        punching_s(narrow(delay_s=milliseconds / 1000), tmp_path / str(milliseconds))
        for milliseconds in range(9)
    ]
    packet_s = PACKET_BYTES * 8 / SLOWEST_BPS
    steps_s = [later - sooner for sooner, later in pairwise(by_delay)]
    assert any(one == pytest.approx(packet_s, abs=1e-4) for one in steps_s)
    assert any(one == pytest.approx(0.0, abs=1e-4) for one in steps_s)


def test_a_small_mtu_is_not_what_takes_time(tmp_path: Path) -> None:
    """No packet of ours is longer than 1228 bytes: the rate is what counts, and all else alike."""
    told = []
    for mtu_bytes in (PACKET_BYTES, 1500):
        folder = tmp_path / str(mtu_bytes)
        base.run(narrow(mtu_bytes), backend="sim", run_dir=folder, certify=False)
        told.append((folder / "events.jsonl").read_bytes())
    assert told[0] == told[1]
