"""A simulated run under control of whoever watches it: on by a step, to an event, back in time.

    simulation = Simulation(scenario)
    simulation.run_until("punch-started")      # the event, and time stands still at it
    simulation.machine("alice").direct.state   # any machine, as it is now
    simulation.table("nat-a")                  # what a NAT remembers
    simulation.rewind(0.05)                    # the same run, at 50 ms
    simulation.run()                           # to its end: the RunResult

One seed gives one run, so that to rewind is to run again, up to a time.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from math import inf, isnan
from pathlib import Path
from types import TracebackType
from typing import SupportsFloat

from quicpipe_lab.backends.base import leave_result, leave_scenario
from quicpipe_lab.backends.event_names import event_names
from quicpipe_lab.backends.script import Wait
from quicpipe_lab.backends.sim.backend import SimBackend, SimRun
from quicpipe_lab.backends.sim.network import Network
from quicpipe_lab.backends.sim.table import Table
from quicpipe_lab.backends.sole_use import sole_use
from quicpipe_lab.errors import LocalProtocolError
from quicpipe_lab.model.event import Event
from quicpipe_lab.model.result import RunResult
from quicpipe_lab.model.scenario import Scenario
from quicpipe_lab.model.spelling import did_you_mean
from quicpipe_lab.protocol.accepter import Accepter
from quicpipe_lab.protocol.dialer import Dialer
from quicpipe_lab.protocol.relay import Relay
from quicpipe_lab.protocol.sources import drawn_from

Machine = Dialer | Accepter | Relay


class Simulation:
    """It begins at 0 s, with nothing done yet. With a ``run_dir`` it leaves there what a run does,
    and is alone there until it is over or closed.

    Raises UnsupportedBehaviorError where the scenario asks for what there is not.
    """

    def __init__(
        self, scenario: Scenario, *, run_dir: Path | None = None, certify: bool = False
    ) -> None:
        self.scenario = scenario
        self._run_dir = run_dir
        self._certify = certify
        self._stack = ExitStack()
        self._alone = ExitStack()
        self._wait: Wait | None = None
        self._is_complete = False
        self._begin()

    def __enter__(self) -> "Simulation":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Simulation of {self.scenario.name!r}, at {self.now:g} s>"

    # Time

    @property
    def now(self) -> float:
        """Virtual seconds since the run began."""
        return self._run.clock.now

    @property
    def is_over(self) -> bool:
        """Whether the run has come to its end, or was given up."""
        return self._wait is None

    def step(self) -> bool:
        """Let one thing happen: a packet, a timer, a step of the scenario. False at the end."""
        with drawn_from(self._run.sources):
            return self._tick(inf)

    def run_to(self, time_s: float) -> None:
        """Let everything happen up to a time. To go back, see ``rewind``.

        Raises LocalProtocolError for what is no time.
        """
        _check_time(time_s)
        with drawn_from(self._run.sources):
            while self._tick(time_s):
                pass

    def run_until(
        self, what: str | Callable[["Simulation"], bool], *, node: str | None = None
    ) -> Event | None:
        """Until an event of this name is reported from now on, by ``node`` if given: that event.
        Or until a condition holds, asked after each thing that happens: the last event.

        None where the run ends before. Raises LocalProtocolError for a name that no event has, or
        none of this node's, and for a node that reports nothing.
        """
        if isinstance(what, str):
            self._check_name(what, node)
        elif not callable(what):
            raise LocalProtocolError(f"{what!r} is neither an event's name nor a condition")
        events, known = self.events, len(self.events)
        with drawn_from(self._run.sources):
            while True:
                if isinstance(what, str):
                    for event in events[known:]:
                        if event.name == what and node in (None, event.node):
                            return event
                    known = len(events)
                elif what(self):
                    return events[-1] if events else None
                if not self._tick(inf):
                    return None

    def run(self) -> RunResult:
        """To the end. Raises LocalProtocolError where it was given up before."""
        self.run_to(inf)
        if not self._is_complete:
            raise LocalProtocolError(
                f"this simulation was given up at {self.now:g} s; rewind(0) begins it anew"
            )
        return self._run.result()

    def rewind(self, time_s: float) -> None:
        """Begin anew, and let everything happen up to a time. Machines that were asked for before
        belong to the other run. Raises LocalProtocolError for what is no time."""
        _check_time(time_s)
        self.close()
        self._begin()
        self.run_to(time_s)

    def close(self) -> None:
        """Give the run up; it can still be looked at. Twice is fine."""
        self._story.close()
        self._wait = None
        self._stack.close()
        self._alone.close()

    # What there is to see

    @property
    def events(self) -> list[Event]:
        """All so far."""
        return self._run.record.events

    @property
    def network(self) -> Network:
        """Hosts, routers, links: what else happens can be arranged with its clock."""
        return self._run.network

    def machine(self, node: str) -> Machine:
        """Dialer, accepter or relay, by its node. Raises LocalProtocolError before there is one."""
        run, scenario = self._run, self.scenario
        actors = {
            scenario.dialer: run.dialer,
            scenario.accepter: run.accepter,
            scenario.relay: run.relay,
        }
        actor = actors.get(node)
        if actor is None:
            raise LocalProtocolError(f"no machine runs at {node!r} at {self.now:g} s")
        return actor.machine

    def table(self, router: str, version: int = 4) -> Table:
        """What a NAT or firewall remembers now. Raises LocalProtocolError where there is none."""
        return self.network.router(router).table(self.now, version)

    def tables(
        self, router: str, times_s: Iterable[float], version: int = 4
    ) -> Iterator[tuple[float, Table]]:
        """The same at each of these times, in order, of a run of its own."""
        with Simulation(self.scenario) as other:
            for time_s in sorted(times_s):
                other.run_to(time_s)
                yield time_s, other.table(router, version)

    # Parts

    def _check_name(self, name: str, node: str | None) -> None:
        by_node = event_names(self.scenario)
        if node is not None and node not in by_node:
            which = did_you_mean(node, by_node) or f": {', '.join(by_node)} do"
            raise LocalProtocolError(f"no node {node!r} reports events{which}")
        known = {one: names for one, names in by_node.items() if node in (None, one)}
        names = sorted({name for names in known.values() for name in names})
        if name not in names:
            of = "" if node is None else f" of {node!r}"
            nearest = did_you_mean(name, names)
            which = nearest or f"; there are {', '.join(names)}"
            raise LocalProtocolError(f"no event{of} is called {name!r}{which}")

    def _begin(self) -> None:
        try:
            self._begin_alone()
        except BaseException:
            self._stack.close()
            self._alone.close()
            raise

    def _begin_alone(self) -> None:
        if self._run_dir is not None:
            self._alone.enter_context(sole_use(self._run_dir))
            leave_scenario(self.scenario, self._run_dir)
        self._run = SimRun(
            SimBackend(capture=self._run_dir is not None, qlog=self._run_dir is not None),
            self.scenario,
            self._run_dir,
            lambda _: None,
            self._stack,
            certify=self._certify,
        )
        self._story = self._run.story()
        self._is_complete = False
        with drawn_from(self._run.sources):
            self._wait = next(self._story)

    def _tick(self, end_s: float) -> bool:
        """Let one thing happen, at ``end_s`` at the latest; False where nothing does until then."""
        wait, clock = self._wait, self._run.clock
        if wait is None:
            return False
        if self._run.has_changed() and wait.holds():
            self._tell(True)
        elif self._next_s <= min(end_s, wait.end_s):
            try:
                clock.step()
            except Exception as error:
                self._go_on(partial(self._story.throw, error))
        elif wait.end_s <= end_s:
            clock.run(wait.end_s)
            self._tell(False)
        else:
            clock.run(end_s)
            return False
        return True

    @property
    def _next_s(self) -> float:
        next_s = self._run.clock.next_s
        return inf if next_s is None else next_s

    def _tell(self, met: bool) -> None:
        self._go_on(partial(self._story.send, met))
        self._run.stir()  # the next condition is a new one

    def _go_on(self, resume: Callable[[], Wait]) -> None:
        self._wait = None  # for good, where the story is over or fails
        try:
            self._wait = resume()
        except StopIteration:
            self._is_complete = True
            if self._run_dir is not None:
                leave_result(self._run.result(), self._run_dir)
        finally:
            if self._wait is None:
                self._alone.close()


def _check_time(time_s: float) -> None:
    if not isinstance(time_s, SupportsFloat) or isnan(time_s):
        raise LocalProtocolError(f"{time_s!r} is no time to run to")
