"""One simulated run whose end alone matters: what became of it, and whether an invariant broke."""

import traceback
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from quicpipe_lab.backends.script import drive
from quicpipe_lab.backends.sim.backend import SimBackend, SimRun
from quicpipe_lab.errors import UnsupportedBehaviorError
from quicpipe_lab.model.scenario import Scenario
from quicpipe_lab.protocol.sources import drawn_from

CRASH = "crash"
"""A machine, or the simulator itself, raised what it must not."""
QUIET = SimBackend(capture=False, qlog=False)


@dataclass(frozen=True, slots=True)
class Trial:
    """``outcome`` is a scenario's. ``broken``: the invariant's name, or None. ``failure``: why the
    run did not go through; without ``broken`` there was no path."""

    seed: int
    outcome: str
    broken: str | None
    failure: str | None
    simulated_s: float


def try_out(scenario: Scenario, backend: SimBackend = QUIET) -> Trial:
    """Run it. Raises UnsupportedBehaviorError."""
    with ExitStack() as stack:
        run = SimRun(backend, scenario, None, lambda _: None, stack)
        try:
            with drawn_from(run.sources):
                drive(run.story(), run.run_until)
            outcome = str(run.result().outcome)
        except UnsupportedBehaviorError:
            raise
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(frame.filename).name}:{frame.lineno}"
            failure = f"{type(error).__name__} at {where}: {error}"
            return Trial(scenario.seed, "failed", CRASH, failure, run.now)
        record = run.record
        return Trial(scenario.seed, outcome, record.broken, record.failure, run.now)
