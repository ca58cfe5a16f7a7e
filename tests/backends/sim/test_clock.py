"""Virtual time: order, cancelling, and how far it runs."""

import gc
import weakref
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quicpipe_lab.backends.sim.clock import Clock


@given(st.lists(st.floats(0, 10, allow_nan=False)))
def test_in_order_of_time_and_then_of_asking(times_s: list[float]) -> None:
    clock, happened = Clock(), []
    for number, time_s in enumerate(times_s):
        clock.at(time_s, lambda n=number: happened.append((clock.now, n)))
    clock.run(inf)
    assert happened == sorted((time_s, number) for number, time_s in enumerate(times_s))


@given(st.lists(st.tuples(st.floats(0, 10), st.booleans()), min_size=1, max_size=300))
def test_what_is_cancelled_does_not_happen(wanted: list[tuple[float, bool]]) -> None:
    """However many are."""
    clock, happened = Clock(), list[int]()
    entries = [
        clock.at(time_s, happened.append, number) for number, (time_s, _) in enumerate(wanted)
    ]
    for entry, (_, stays) in zip(entries, wanted, strict=True):
        if not stays:
            entry.cancel()
            entry.cancel()
    clock.run(inf)
    assert sorted(happened) == [number for number, (_, stays) in enumerate(wanted) if stays]
    assert clock.next_s is None
    for entry in entries:
        entry.cancel()  # too late is fine


def test_runs_until_the_predicate_holds_or_the_time_is_over() -> None:
    clock, happened = Clock(100.0), list[str]()
    clock.at(101.0, happened.append, "one")
    clock.at(102.0, happened.append, "two")
    assert clock.run_until(lambda: "one" in happened, 110.0)
    assert (clock.now, happened) == (101.0, ["one"])
    assert not clock.run_until(lambda: len(happened) == 3, 102.0)
    assert (clock.now, happened) == (102.0, ["one", "two"])
    assert not clock.run_until(lambda: False, 105.0)
    assert clock.now == 105.0
    assert not clock.run_until(lambda: False, inf)
    assert clock.now == 105.0
    assert not clock.step()


def test_the_past_is_now_and_what_happens_may_ask_for_more() -> None:
    clock, happened = Clock(5.0), list[float]()

    def again() -> None:
        happened.append(clock.now)
        if len(happened) < 3:
            clock.after(0.5, again)

    clock.at(1.0, again)
    clock.run(6.0)
    assert happened == [5.0, 5.5, 6.0]


def test_timers_that_are_moved_again_and_again_leave_nothing_behind() -> None:
    class Timer:
        def fire(self) -> None:
            raise AssertionError

    clock, timers = Clock(), list[weakref.ref[Timer]]()
    entry = clock.at(1e6, lambda: None)
    for _ in range(10_000):
        timer = Timer()
        timers.append(weakref.ref(timer))
        entry.cancel()
        entry = clock.at(1e6, timer.fire)
    del timer
    gc.collect()
    assert sum(one() is not None for one in timers) < 200


def test_cycles_are_searched_for_again_when_time_stands_still() -> None:
    clock = Clock()
    searched: list[bool] = []
    clock.at(1.0, lambda: searched.append(gc.isenabled()))
    clock.run(2.0)
    clock.at(3.0, _fail)
    with pytest.raises(ZeroDivisionError):
        clock.run(4.0)
    assert searched == [False]
    assert gc.isenabled()


def _fail() -> None:
    raise ZeroDivisionError
