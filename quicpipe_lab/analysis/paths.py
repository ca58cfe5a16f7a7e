"""Which path each peer sent on, and when; from events alone."""

from typing import NamedTuple

from quicpipe_lab.analysis.run_files import LAB, Run


class Stretch(NamedTuple):
    """A time during which a peer sent on one path."""

    start_s: float
    end_s: float
    direct: bool


def stretches(run: Run, node: str) -> list[Stretch]:
    """From when the peer was connected to when the scenario's steps were done, without a gap."""
    connected = run.named("connected", node)
    if not connected:
        return []
    end_s = steps_done_s(run)
    start_s, direct = connected[0].t_s, False
    found = []
    for event in run.named("path-changed", node):
        if start_s < event.t_s < end_s and bool(event.data["direct"]) != direct:
            found.append(Stretch(start_s, event.t_s, direct))
            start_s, direct = event.t_s, not direct
    return [*found, Stretch(start_s, max(start_s, end_s), direct)]


def is_direct_at(history: list[Stretch], t_s: float) -> bool:
    """Which path was used at a moment."""
    return any(one.direct and one.start_s <= t_s < one.end_s for one in history)


def steps_done_s(run: Run) -> float:
    """When the scenario's last step was done, or it failed; else when the last thing was said.

    What happens to paths while the programs end is of no account.
    """
    ended = run.named("steps-done", LAB) or run.named("failed", LAB)
    return ended[0].t_s if ended else run.end_s


def span_s(run: Run) -> tuple[float, float]:
    """What a picture shows: from when the relay was up to when the steps were done, and a bit."""
    ready = run.named("ready", run.scenario.relay)
    start_s, end_s = ready[0].t_s if ready else 0.0, steps_done_s(run)
    margin = 0.02 * max(end_s - start_s, 0.05)
    return start_s - margin, max(end_s, start_s + 0.05) + margin
