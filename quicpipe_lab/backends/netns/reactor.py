"""Waits for descriptors, moments and conditions: the heart of a run, in one thread."""

import os
import selectors
import time
from collections.abc import Callable
from contextlib import suppress


class Reactor:
    """Calls back when a watched descriptor is ready or an alarm is due, while someone waits."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._alarms: list[tuple[float, Callable[[], None]]] = []
        self._owned: set[int] = set()

    def own(self, *descriptors: int) -> None:
        """Close these at the end, unless ``close`` has done so before."""
        self._owned.update(descriptors)

    def watch_reading(self, descriptor: int, ready: Callable[[], None]) -> None:
        """Call ``ready`` whenever there is something to read, or the end."""
        self._selector.register(descriptor, selectors.EVENT_READ, ready)

    def watch_writing(self, descriptor: int, ready: Callable[[], None]) -> None:
        """Call ``ready`` whenever there is room."""
        self._selector.register(descriptor, selectors.EVENT_WRITE, ready)

    def unwatch(self, descriptor: int) -> None:
        """No more calls for a descriptor; fine where there were none."""
        with suppress(KeyError, ValueError):
            self._selector.unregister(descriptor)

    def alarm(self, delay_s: float, action: Callable[[], None]) -> None:
        """Call once, ``delay_s`` from now."""
        self._alarms.append((time.monotonic() + delay_s, action))

    def run_until(self, holds: Callable[[], bool], end_s: float) -> bool:
        """Let things happen until a condition holds: True; or until monotonic ``end_s``: False."""
        while not holds():
            now = time.monotonic()
            if now >= end_s:
                return False
            for alarm in [one for one in self._alarms if one[0] <= now]:
                self._alarms.remove(alarm)
                alarm[1]()
            due = min([end_s, *(at for at, _ in self._alarms)])
            for key, _ in self._selector.select(max(0.0, due - time.monotonic())):
                key.data()
        return True

    def close(self, descriptor: int | None = None) -> None:
        """Close one descriptor, or everything that is owned."""
        doomed = self._owned.copy() if descriptor is None else {descriptor}
        for one in doomed:
            self.unwatch(one)
            with suppress(OSError):
                os.close(one)
        self._owned -= doomed
        if descriptor is None:
            self._selector.close()
