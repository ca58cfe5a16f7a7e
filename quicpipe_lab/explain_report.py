"""``quicpipe-lab explain``: a run's timeline and the sentence that names its cause, as text."""

import json
import sys
from pathlib import Path

from quicpipe_lab.analysis.explain import explain, why
from quicpipe_lab.cycle_search import no_cycle_search
from quicpipe_lab.evidence import open_run
from quicpipe_lab.model.result import RunResult


def report(run_dir: Path, wants_json: bool) -> int:
    """Print everything that led to the end of a run."""
    evidence = open_run(run_dir)
    for warning in evidence.warnings:
        print(f"quicpipe-lab: {warning}", file=sys.stderr)
    with no_cycle_search():
        verdict, happenings = explain(evidence.run, evidence.frames, evidence.epoch_unix_s)
    if wants_json:
        told = {"outcome": verdict.outcome, "cause": verdict.cause, "details": {**verdict.details}}
        rows = [one._asdict() for one in happenings]
        print(json.dumps({**told, "sentence": verdict.sentence, "timeline": rows}))
        return 0
    width = max((len(one.node) for one in happenings), default=0)
    for one in happenings:
        print(f"{one.t_s:9.6f} s  {one.node:{width}}  {one.text}")
    print(verdict.sentence)
    return 0


def sentence_for(result: RunResult) -> str:
    """Why a run ended as it did."""
    evidence = open_run(result)
    with no_cycle_search():
        verdict = why(evidence.run, evidence.frames, evidence.epoch_unix_s)
    return verdict.sentence
