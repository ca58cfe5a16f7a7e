"""What a person waits for before the program has done anything."""

import sys

from tests.bench import ROOT, SCRIPTS, Row, alternate, median, time_program_s

TITLE = "Start of the command line (wall clock, median of 15)"

_HELP_LIMIT_S = 0.25
_LAUNCHER_LIMIT_S = 0.1
_ROUNDS = 15


def run() -> list[Row]:
    programs = {
        "python": [sys.executable, "-c", "pass"],
        "command": [str(SCRIPTS / "quicpipe-lab"), "--help"],
        "launcher": [str(ROOT / "lab"), "--help"],
    }
    times_s = alternate(
        _ROUNDS,
        python=lambda: time_program_s(programs["python"]),
        command=lambda: time_program_s(programs["command"]),
        launcher=lambda: time_program_s(programs["launcher"]),
    )
    python_s, command_s = median(times_s["python"]), median(times_s["command"])
    # Round by round, so that a slow spell of the machine falls on both.
    launcher_costs_s = median(
        [
            ours - theirs
            for ours, theirs in zip(times_s["launcher"], times_s["command"], strict=True)
        ]
    )
    return [
        Row("python -c pass", python_s, "s"),
        Row("quicpipe-lab --help", command_s, "s", limit=_HELP_LIMIT_S),
        Row(
            "quicpipe-lab --help, against python",
            command_s,
            "s",
            ratio=command_s / python_s,
            against="python -c pass",
        ),
        Row("what ./lab adds to it", launcher_costs_s, "s", limit=_LAUNCHER_LIMIT_S),
    ]
