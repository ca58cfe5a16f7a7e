"""From a variation that breaks an invariant to a small scenario that breaks the same one.

Delta debugging by hand (Zeller and Hildebrandt, 2002): changes are left out one by one, then steps;
then numbers are halved, as long as that helps. What is left cannot be made smaller by one of these.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

from quicpipe_lab.backends.sim.variation import Variation
from quicpipe_lab.errors import ScenarioError
from quicpipe_lab.model.scenario import Idle, Scenario, Step, Transfer

MOST_TRIALS = 400
_LEAST_BYTES = 64
_LEAST_S = 0.01


def shrink(
    variation: Variation, breaks: Callable[[Scenario], bool], most_trials: int = MOST_TRIALS
) -> tuple[Variation, int]:
    """The smallest that was found, and how many were tried, ``most_trials`` at most. ``breaks``:
    whether a scenario still breaks the invariant."""
    tried = 0
    has_shrunk = True
    while has_shrunk and tried < most_trials:
        has_shrunk = False
        candidates = _smaller(variation)
        while tried < most_trials and (candidate := next(candidates, None)) is not None:
            try:
                scenario = candidate.applied()
            except ScenarioError:
                continue  # a restoration of what is not cut any more, and the like
            if _cannot_go_direct(scenario):
                continue
            tried += 1
            if breaks(scenario):
                variation, has_shrunk = candidate, True
                break
    return variation, tried


def _cannot_go_direct(scenario: Scenario) -> bool:
    """Too little is left to carry for the peers to look for a path, which is another matter."""
    carried = sum(2 * one.size_bytes for one in scenario.steps if isinstance(one, Transfer))
    return scenario.direct_after_bytes > carried


def _smaller(variation: Variation) -> Iterator[Variation]:
    """Each smaller by one thing, those first that promise most."""
    changes, steps = variation.changes, variation.steps
    for index in range(len(changes)):
        yield replace(variation, changes=changes[:index] + changes[index + 1 :])
    if variation.scenario.direct_after_bytes:
        yield replace(variation, scenario=replace(variation.scenario, direct_after_bytes=0))
    if len(steps) > 1:
        yield replace(variation, steps=steps[: len(steps) // 2])
    for length in (1, 2):
        for index in reversed(range(len(steps) - length + 1)):
            yield replace(variation, steps=steps[:index] + steps[index + length :])
    for index, step in enumerate(steps):
        smaller = _smaller_step(step)
        if smaller is not None:
            yield replace(variation, steps=(*steps[:index], smaller, *steps[index + 1 :]))
    for index, change in enumerate(changes):
        for less in change.smaller():
            yield replace(variation, changes=(*changes[:index], less, *changes[index + 1 :]))


def _smaller_step(step: Step) -> Step | None:
    match step:
        case Transfer(size_bytes=size, wait=wait) if size > _LEAST_BYTES:
            return Transfer(size // 2, wait)
        case Idle(seconds=seconds) if seconds > _LEAST_S:
            return Idle(float(f"{seconds / 2:.3g}"))
    return None
