"""Compare the parser in C with the one in Python on the inputs of a coverage-guided fuzzer.

``python -m tests.xdp.fuzz COUNT`` runs libFuzzer over the C parser, with address and undefined
behaviour sanitizers; it looks for inputs that reach new code, and Python is asked for its opinion
of every single one. Needs clang and its runtime (Debian: clang-14 and libclang-rt-14-dev).
"""

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import BinaryIO

from quicpipe_lab.shell.xdp_layout import FilterReason
from tests.folders import vanishing_folder
from tests.xdp.packets import CORPUS
from tests.xdp.parser import REPORT_BYTES, fuzzing_compiler, in_python, run_compiler, unpack

_MAX_BYTES = 192
_BUFFER_BYTES = 1 << 20


class DifferenceError(Exception):
    """The two do not agree, or the one in C failed."""


def fuzz(count: int, directory: Path, seed: int = 1) -> Counter[int]:
    """How often each reason was given, by both. Raises DifferenceError."""
    target, corpus, said = (directory / name for name in ("parser-fuzz", "corpus", "said"))
    run_compiler(
        fuzzing_compiler() or "clang", target, "-DFUZZ", "-fsanitize=fuzzer,address,undefined"
    )
    corpus.mkdir()
    for number, case in enumerate(CORPUS.values()):
        (corpus / str(number)).write_bytes(case.data)
    reading, writing = os.pipe()
    options = [f"-runs={count}", f"-seed={seed}", f"-max_len={_MAX_BYTES}", "-verbosity=0"]
    with (
        os.fdopen(reading, "rb", buffering=_BUFFER_BYTES) as inputs,
        said.open("wb") as errors,
        subprocess.Popen(
            [target, *options, corpus],
            pass_fds=(writing,),
            env={**os.environ, "QUICPIPE_FUZZ_FD": str(writing)},
            stderr=errors,
        ) as process,
    ):
        os.close(writing)
        try:
            reasons = _compare(inputs)
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        raise DifferenceError(f"the parser in C failed: {said.read_text()[-4000:]}")
    return reasons


def _compare(inputs: BinaryIO) -> Counter[int]:
    reasons: Counter[int] = Counter()
    while raw := inputs.read(REPORT_BYTES):
        size, in_c = unpack(raw)
        frame = inputs.read(size)
        if (expected := in_python(frame)) != in_c:
            raise DifferenceError(f"{frame.hex()}: in C {in_c}, in Python {expected}")
        reasons[in_c.reason] += 1
    return reasons


def main() -> None:
    started = time.monotonic()
    with vanishing_folder() as directory:
        reasons = fuzz(int(sys.argv[1]), directory)
    took_s = time.monotonic() - started
    print(f"{reasons.total():,} inputs in {took_s:.0f} s, the same answer to each:")
    for reason, count in sorted(reasons.items()):
        print(f"{count:12,}  {FilterReason(reason).name}")


if __name__ == "__main__":
    main()
