"""How many packets in a row a path may lose. Pure.

A burst of losses is counted in packets (``BurstLoss``), so waiting does not end it, and packets do.
Whoever asks again and again, one packet each time, asks into the same burst.
"""

from collections.abc import Sequence

from quicpipe_lab.model.link import BurstLoss, LinkBehavior

_NEGLIGIBLE = 1e-6
"""Of the chance that is asked for: states that are rarer are left out."""
_NO_BURSTS = BurstLoss(enter=0.0, leave=1.0)


def tries_needed(
    path: Sequence[LinkBehavior], chance: float, most: int, *, after_one: bool = False
) -> int | None:
    """So many packets, that all of them are lost has this chance at most; None: more than ``most``.

    ``path``: the directions of links in their order, there and back. A packet that is lost goes no
    further, and changes nothing there. What a full queue drops is left out.
    ``after_one``: right after one that was not lost.

    Computed, and not bounded: the mass of each combination of bursts, as long as all were lost.
    """
    lossy = [one for one in path if one.mean_loss or one.corrupt]
    least = chance * _NEGLIGIBLE / 2 ** len(lossy)
    all_lost = _in_the_long_run(lossy)
    if after_one:
        passed, _ = _send(all_lost, lossy, least)
        share = sum(passed.values())
        if not share:
            return None
        all_lost = {state: mass / share for state, mass in passed.items()}
    for tries in range(1, most + 1):
        _, all_lost = _send(all_lost, lossy, least)
        if sum(all_lost.values()) <= chance:
            return tries
    return None


_States = dict[int, float]
"""The chance of each: a bit for every direction that is in a burst."""


def _in_the_long_run(path: Sequence[LinkBehavior]) -> _States:
    states = {0: 1.0}
    for number, link in enumerate(path):
        burst = link.burst_loss
        if burst is None or not burst.enter:
            continue
        within = burst.enter / (burst.enter + burst.leave)
        states = {
            state | inside << number: mass * share
            for state, mass in states.items()
            for inside, share in ((0, 1 - within), (1, within))
        }
    return states


def _send(before: _States, path: Sequence[LinkBehavior], least: float) -> tuple[_States, _States]:
    """One packet: the states that it leaves where it passes all, and where it is lost."""
    on_its_way, lost = before, _States()
    for number, link in enumerate(path):
        bit = 1 << number
        passed: _States = {}
        burst = link.burst_loss or _NO_BURSTS
        for state, mass in on_its_way.items():
            inside = bool(state & bit)
            loss = 1 - (
                (1 - link.loss)
                * (1 - link.corrupt)
                * (1 - (burst.loss_within if inside else burst.loss_outside))
            )
            change = burst.leave if inside else burst.enter
            for then, share in ((state, 1 - change), (state ^ bit, change)):
                if mass * share > least:
                    lost[then] = lost.get(then, 0.0) + mass * share * loss
                    passed[then] = passed.get(then, 0.0) + mass * share * (1 - loss)
        on_its_way = passed
    return on_its_way, lost
