"""Python's search for cycles of objects, left out where there are many objects and no cycles."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_cycle_search() -> Iterator[None]:
    """It looks at all objects again and again. A capture has tuples by the hundred thousand, and
    reading it would take longer to search than everything else together; a simulation of 1,000
    pairs lost a fifth of its time. What is searched for comes to 1 MB in hours of either."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
