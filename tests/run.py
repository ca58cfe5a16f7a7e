"""``./lab test``: every gate, one after the other, and a table of how each ended.

Without arguments all gates run, also after one has failed; with arguments pytest alone runs, with
these arguments. Standard library only, and it imports nothing of the project: a package that does
not even import must still give a table.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = Path(sys.executable).parent

_CHECK_LIMIT_S = 600.0
_TESTS_LIMIT_S = 3600.0
"""Above pytest's own limit for each test: the last resort against a hang that it cannot end."""
_GRACE_S = 10.0
_SIDE_BY_SIDE = ("--numprocesses=auto", "--maxprocesses=4", "--dist=worksteal")
"""One after the other, tests keep about one core busy. Four on however many cores, for a test may
have four labs of its own."""
_SLOWEST = ("--durations=20", "--durations-min=5")


@dataclass(frozen=True, slots=True)
class Gate:
    """One program that must end with 0. ``quiet`` ones show what they said only if they fail."""

    name: str
    argv: Sequence[str]
    quiet: bool = True
    limit_s: float = _CHECK_LIMIT_S


@dataclass(frozen=True, slots=True)
class Verdict:
    name: str
    result: str
    seconds: float


def gates() -> list[Gate]:
    return [
        Gate("ruff format", [_script("ruff"), "format", "--check", "."]),
        Gate("ruff check", [_script("ruff"), "check", "."]),
        Gate("mypy --strict", [_script("mypy")]),
        Gate("import-linter", [_script("lint-imports"), "--no-logo"]),
        Gate(
            "pytest",
            pytest_argv([*_SIDE_BY_SIDE, *_SLOWEST, "--cov", "--cov-report=term"]),
            quiet=False,
            limit_s=_TESTS_LIMIT_S,
        ),
    ]


def pytest_argv(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-P", "-m", "pytest", *arguments]


def main(arguments: Sequence[str]) -> int:
    plain = bool(os.environ.get("CI"))
    if plain:
        os.environ["NO_COLOR"] = "1"
        os.environ.pop("FORCE_COLOR", None)
    if arguments:
        argv = pytest_argv([_from_root(one) for one in arguments])
        os.chdir(ROOT)
        os.execv(argv[0], argv)

    os.chdir(ROOT)
    verdicts = [_run(gate) for gate in gates()]
    _print_table(verdicts)
    return 0 if all(verdict.result == "passed" for verdict in verdicts) else 1


def _run(gate: Gate) -> Verdict:
    print(f"--- {gate.name}", flush=True)
    started = time.monotonic()
    # A session of its own: whatever the gate has started can be ended with it.
    process = subprocess.Popen(
        gate.argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if gate.quiet else None,
        stderr=subprocess.STDOUT if gate.quiet else None,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=gate.limit_s)
        result = "passed" if process.returncode == 0 else "FAILED"
    except subprocess.TimeoutExpired:
        said = _end(process)
        result = f"FAILED: not done after {gate.limit_s:.0f} s"
    except KeyboardInterrupt:
        _end(process)
        raise
    if said and result != "passed":
        sys.stdout.buffer.write(said)
        sys.stdout.flush()
    return Verdict(gate.name, result, time.monotonic() - started)


def _end(process: subprocess.Popen[bytes]) -> bytes:
    """Like Ctrl-C, so that pytest cleans up after its tests; then by force."""
    for number in (signal.SIGINT, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=_GRACE_S)[0] or b""
    return b""


def _print_table(verdicts: Sequence[Verdict]) -> None:
    print(f"\n{'gate':<16}{'seconds':>8}  result")
    for verdict in verdicts:
        print(f"{verdict.name:<16}{verdict.seconds:>8.1f}  {verdict.result}")


def _script(name: str) -> str:
    return str(SCRIPTS / name)


def _from_root(argument: str) -> str:
    """A path given relative to where the user stands, for a pytest that runs in ROOT."""
    path, separator, rest = argument.partition("::")
    if argument.startswith("-") or not Path(path).exists():
        return argument
    return f"{Path(path).resolve()}{separator}{rest}"


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
