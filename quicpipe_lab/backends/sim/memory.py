"""Entries that end by themselves, as those of an nftables set with a timeout."""

from collections.abc import Iterator
from typing import Generic, TypeVar

K = TypeVar("K")

_LEAST_TO_SWEEP = 256


class Memory(Generic[K]):
    """Keys, each for ``lifetime_s`` after it was last noted."""

    def __init__(self, lifetime_s: float) -> None:
        self.lifetime_s = lifetime_s
        self._noted_s: dict[K, float] = {}
        self._sweep_at = _LEAST_TO_SWEEP

    def note(self, key: K, now_s: float) -> None:
        """From now on, for a lifetime."""
        self._noted_s[key] = now_s
        if len(self._noted_s) >= self._sweep_at:
            self._noted_s = {one: s for one, s in self._noted_s.items() if self._lives(s, now_s)}
            self._sweep_at = max(_LEAST_TO_SWEEP, 2 * len(self._noted_s))

    def has(self, key: K, now_s: float) -> bool:
        """Whether it is still there."""
        noted_s = self._noted_s.get(key)
        return noted_s is not None and now_s < noted_s + self.lifetime_s

    def living(self, now_s: float) -> Iterator[tuple[K, float]]:
        """All that are there, and when they end."""
        for key, noted_s in self._noted_s.items():
            if self._lives(noted_s, now_s):
                yield key, noted_s + self.lifetime_s

    def _lives(self, noted_s: float, now_s: float) -> bool:
        return now_s < noted_s + self.lifetime_s
