"""The main job from exec to exit: what a person waits for."""

import json
import subprocess
import time

from quicpipe_lab.model.result import RunResult
from tests.bench import SCRIPTS, Row, median
from tests.folders import vanishing_folder

TITLE = "quicpipe-lab scenario nat-to-nat, links without delay (wall clock, median of 7)"

_ROUNDS = 7
_AIM_S = 2.5
_CERTIFY_S = 0.3


def run() -> list[Row]:
    results, times_s, trusting = [], [], []
    for round_ in range(-1, _ROUNDS):
        result, took_s = _run_once()
        without, _ = _run_once("--no-certify")
        if round_ >= 0:
            results.append(result)
            times_s.append(took_s)
            trusting.append(without)
    rows = [Row("exec to exit", median(times_s), "s", limit=_AIM_S)]
    parts = ("lab_up", "relay_ready", "connected", "direct", "total")
    for part in parts:
        moments = [getattr(result.times_s, part) for result in results]
        rows.append(Row(f"  until {part}", median(moments), "s"))
    ready_s, trusting_s = (
        median([one.times_s.relay_ready for one in runs])  # type: ignore[misc]
        for runs in (results, trusting)
    )
    rows.append(Row("certifying two NATs", ready_s - trusting_s, "s", limit=_CERTIFY_S))
    punching = [one.times_s.direct - one.punching_s for one in results]  # type: ignore[operator]
    rows.append(Row("first punch to direct", median(punching), "s"))
    failed = sum(not result.ok for result in results)
    rows.append(Row("runs that ended otherwise than expected", failed, limit=0))
    return rows


def _run_once(*options: str) -> tuple[RunResult, float]:
    with vanishing_folder() as folder:
        argv = [str(SCRIPTS / "quicpipe-lab"), "scenario", "nat-to-nat", "--json", *options]
        started = time.perf_counter()
        done = subprocess.run([*argv, "--run-dir", folder], capture_output=True, check=False)
        took_s = time.perf_counter() - started
        return RunResult.from_json(json.loads(done.stdout)), took_s
