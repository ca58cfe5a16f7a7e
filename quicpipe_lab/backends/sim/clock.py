"""Virtual time: what is to happen, in order of time, and of asking where times are equal.

Nothing here reads a clock. Time passes as fast as what happens in it can be computed.
"""

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from math import isfinite
from typing import Any

from quicpipe_lab.cycle_search import no_cycle_search

_LEAST_TO_SWEEP = 64


class Scheduled:
    """Something that will happen, until it has or is cancelled."""

    __slots__ = ("_clock", "action", "arguments", "time_s")

    def __init__(
        self, clock: "Clock", time_s: float, action: Callable[..., object], arguments: Any
    ) -> None:
        self.time_s = time_s
        self.action: Callable[..., object] | None = action
        self.arguments = arguments
        self._clock = clock

    def cancel(self) -> None:
        """It will not happen. Twice is fine, and so is too late."""
        if self.action is not None:
            self.action = None
            self._clock.forget_one()


class Clock:
    """``now`` is in seconds, from ``start_s`` on."""

    def __init__(self, start_s: float = 0.0) -> None:
        self.now = start_s
        self._heap: list[tuple[float, int, Scheduled]] = []
        self._order = 0
        self._cancelled = 0

    def at(self, time_s: float, action: Callable[..., object], *arguments: Any) -> Scheduled:
        """Have ``action(*arguments)`` happen then; a time that has passed is now."""
        if time_s < self.now:
            time_s = self.now
        one = Scheduled(self, time_s, action, arguments)
        self._order += 1
        heappush(self._heap, (time_s, self._order, one))
        return one

    def after(self, delay_s: float, action: Callable[..., object], *arguments: Any) -> Scheduled:
        """The same, from now."""
        return self.at(self.now + delay_s, action, *arguments)

    @property
    def next_s(self) -> float | None:
        """When the next thing happens; None where nothing will."""
        heap = self._heap
        while heap and heap[0][2].action is None:
            heappop(heap)
            self._cancelled -= 1
        return heap[0][0] if heap else None

    def step(self) -> bool:
        """Let the next thing happen; False where there is none."""
        heap = self._heap
        while heap:
            time_s, _, one = heappop(heap)
            action = one.action
            if action is None:
                self._cancelled -= 1
                continue
            one.action = None
            self.now = time_s
            action(*one.arguments)
            return True
        return False

    def run_until(self, predicate: Callable[[], bool], end_s: float) -> bool:
        """Let things happen until ``predicate`` holds, which is asked before the first and after
        each; or until ``end_s``, inclusive. Whether it holds.

        Where it does not, it is ``end_s`` afterwards, unless that is infinite.
        """
        with no_cycle_search():
            while not predicate():
                next_s = self.next_s
                if next_s is None or next_s > end_s:
                    if isfinite(end_s) and end_s > self.now:
                        self.now = end_s
                    return False
                self.step()
            return True

    def run(self, end_s: float) -> None:
        """Let everything happen up to ``end_s``."""
        self.run_until(_never, end_s)

    def forget_one(self) -> None:
        """One of those to come was cancelled. Timers that are moved again and again leave many."""
        self._cancelled += 1
        if self._cancelled > _LEAST_TO_SWEEP and self._cancelled * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].action is not None]
            heapify(self._heap)
            self._cancelled = 0


def _never() -> bool:
    return False
