"""Why a run ended as it did: facts from its files, a cause, a sentence, a timeline.

``facts.py`` gathers, ``verdict.py``, ``direct.py`` and ``failed.py`` decide, ``causes.py`` holds
the causes and their sentences, ``timeline.py`` tells everything in order.
"""

from collections.abc import Iterable
from typing import NamedTuple

from quicpipe_lab.analysis.explain.causes import Verdict
from quicpipe_lab.analysis.explain.facts import Facts
from quicpipe_lab.analysis.explain.timeline import Happening, timeline
from quicpipe_lab.analysis.explain.verdict import judge
from quicpipe_lab.analysis.run_files import Run
from quicpipe_lab.traffic.frame import CapturedFrame


class Explanation(NamedTuple):
    """The verdict, and what led to it."""

    verdict: Verdict
    timeline: list[Happening]


def why(run: Run, frames: Iterable[CapturedFrame] = (), epoch_unix_s: float = 0.0) -> Verdict:
    """The verdict alone. ``frames``: the run's capture; without it the peers' own words have to
    do. ``epoch_unix_s``: the Unix time at which the run's clock stood at 0."""
    return judge(Facts(run, frames, epoch_unix_s))


def explain(
    run: Run, frames: Iterable[CapturedFrame] = (), epoch_unix_s: float = 0.0
) -> Explanation:
    """Everything."""
    facts = Facts(run, frames, epoch_unix_s)
    return Explanation(judge(facts), timeline(facts))
