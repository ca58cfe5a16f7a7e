"""Scenarios played in virtual time, and why they ended as they did."""

from quicpipe_lab.analysis.explain import why
from quicpipe_lab.analysis.explain.causes import Verdict
from quicpipe_lab.backends import base
from quicpipe_lab.backends.sim.backend import SimBackend
from quicpipe_lab.evidence import Evidence, open_run
from quicpipe_lab.model.scenario import Scenario
from tests.folders import vanishing_folder


def play(
    scenario: Scenario, *, capture: bool = True, backend: base.Backend | None = None
) -> Evidence:
    """Run it, in virtual time if nothing else is said, and read back what it left."""
    with vanishing_folder() as folder:
        backend = backend or SimBackend(capture=capture, qlog=False)
        base.run_in(backend, scenario, folder, lambda _: None, certify=False)
        return open_run(folder)


def verdict_on(evidence: Evidence) -> Verdict:
    return why(evidence.run, evidence.frames, evidence.epoch_unix_s)
