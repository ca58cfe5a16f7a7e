"""Many machines' timers behind one: the earliest is found without asking them all."""

import heapq
import itertools
from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


class Timers(Generic[Key]):
    """Each key has one time or none; setting it anew replaces it."""

    def __init__(self) -> None:
        self._set: dict[Key, tuple[float, int]] = {}
        self._heap: list[tuple[float, int, Key]] = []
        self._order = itertools.count()

    def set(self, key: Key, at_s: float | None) -> None:
        """Arm, re-arm or (None) disarm."""
        before = self._set.get(key)
        if at_s is None:
            self._set.pop(key, None)
        elif before is None or before[0] != at_s:
            number = next(self._order)
            self._set[key] = (at_s, number)
            heapq.heappush(self._heap, (at_s, number, key))
            if len(self._heap) > 64 + 4 * len(self._set):
                self._heap = [(at, number, key) for key, (at, number) in self._set.items()]
                heapq.heapify(self._heap)

    def next_s(self) -> float | None:
        """The earliest time."""
        heap = self._heap
        while heap and self._set.get(heap[0][2]) != heap[0][:2]:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def due(self, now: float) -> list[Key]:
        """Every key whose time has come, disarmed, in order of time."""
        keys: list[Key] = []
        while (at_s := self.next_s()) is not None and at_s <= now:
            keys.append(heapq.heappop(self._heap)[2])
            del self._set[keys[-1]]
        return keys
