"""The search for what breaks a scenario, for programs and notebooks. It blocks."""

import os
from pathlib import Path

from quicpipe_lab.api.runs import as_scenario
from quicpipe_lab.backends import explore as backend
from quicpipe_lab.backends.explore import Exploration
from quicpipe_lab.model.scenario import Scenario


def explore(
    scenario: Scenario | str | os.PathLike[str],
    *,
    seeds: int = 100,
    first_seed: int | None = None,
    jobs: int | None = 1,
    file: str | os.PathLike[str] | None = None,
) -> Exploration:
    """Vary a scenario, also by its name or path, until an invariant breaks: see
    backends.explore. The answer has ``ok``, ``counts``, ``trials`` and, where something was broken,
    ``found``; rich shows it as a table.

    ``first_seed``: the first of them, by default the scenario's own.

    ``jobs``: by default all happens in this process; None is as many processes as cores.
    """
    file = None if file is None else Path(file)
    return backend.explore(
        as_scenario(scenario), seeds=seeds, first_seed=first_seed, jobs=jobs, file=file
    )
