"""The command ``explore``: progress, what was found, what repeats it."""

import argparse
import json
from pathlib import Path
from typing import Any

from quicpipe_lab.program_commands import positive
from quicpipe_lab.progress import Progress


def add(commands: Any) -> None:
    """The command, for the parser."""
    parser = commands.add_parser(
        "explore", help="vary a scenario in virtual time until an invariant breaks"
    )
    parser.add_argument("name", help="a bundled scenario, or the path of a TOML file")
    parser.add_argument(
        "--seeds", type=positive, default=1000, metavar="N", help="how many (default: 1000)"
    )
    parser.add_argument(
        "--first-seed", type=int, metavar="N", help="of these, the first (default: the scenario's)"
    )
    parser.add_argument("--jobs", type=positive, metavar="N", help="default: as many as cores")
    parser.add_argument(
        "-o", dest="out", type=Path, metavar="FILE", help="default NAME-seed-SEED.toml"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.set_defaults(run=_explore)


def _explore(arguments: argparse.Namespace) -> int:
    from quicpipe_lab import resources
    from quicpipe_lab.backends.explore import explore

    scenario = resources.find_scenario(arguments.name)
    with Progress(arguments.seeds, quiet=arguments.json) as progress:
        done = explore(
            scenario,
            seeds=arguments.seeds,
            first_seed=arguments.first_seed,
            jobs=arguments.jobs,
            file=arguments.out,
            observe=progress.take,
        )
    print(json.dumps(done.to_data()) if arguments.json else done)
    return 0 if done.ok else 1
