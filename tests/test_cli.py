"""The command line itself; what the commands do is tested with what they are made of."""

import os
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from quicpipe_lab import cli
from tests.small_disk import on_a_small_disk


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"quicpipe-lab {version('quicpipe-lab')}\n"


def test_a_mistyped_command_names_those_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["donw"]) == cli.BAD_INPUT
    said = capsys.readouterr().err
    assert said.startswith("quicpipe-lab: argument COMMAND: invalid choice: 'donw'")
    assert "doctor" in said
    assert "_capture" not in said
    assert "_nat-probe" not in said


@pytest.mark.netns
def test_a_full_disk_is_said_as_such(tmp_path: Path) -> None:
    """Not as a mistake of ours at a line of our code. The disk is a small one of its own."""
    command = f"{sys.executable} -m quicpipe_lab.cli scenario nat-to-nat --backend sim --run-dir"
    done = on_a_small_disk(tmp_path, "64k", f"{command} run")
    assert done.stderr.splitlines()[-1].startswith(
        "quicpipe-lab: No space left on device; make room where runs are kept"
    )
    assert done.returncode == 3


@pytest.mark.parametrize("unbuffered", ["1", ""])
@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["scenario", "--list"],
        ["ps", "--json"],
        ["nat-check", "home", "--backend", "sim"],
    ],
)
def test_output_that_a_full_disk_does_not_take_is_a_failure(
    arguments: list[str], unbuffered: str
) -> None:
    command = [sys.executable, "-m", "quicpipe_lab", *arguments]
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment
        )
        assert done.returncode == 3
        assert [line[:38] for line in done.stderr.splitlines()] == [
            "quicpipe-lab: No space left on device;"
        ]
        assert subprocess.run(command, stdout=full, stderr=full, env=environment).returncode == 3
        refused = [sys.executable, "-m", "quicpipe_lab", "scenario", "nonsense"]
        assert subprocess.run(refused, stderr=full, env=environment).returncode == 2


@pytest.mark.parametrize("unbuffered", ["1", ""])
@pytest.mark.parametrize("option", ["--help", "--version"])
def test_a_reader_that_is_gone_when_help_comes_is_no_failure(option: str, unbuffered: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "quicpipe_lab", option],
        stdout=writer,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_help_waits_for_no_imports_that_it_does_not_need() -> None:
    """dataclasses brings inspect and ast, a fifth of the whole start."""
    script = "import sys; from quicpipe_lab import cli; print(*sys.modules)"
    command = [sys.executable, "-S", "-P", "-c", f"import site; site.main(); {script}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not {"dataclasses", "inspect", "asyncio", "rich", "aioquic"} & set(done.stdout.split())


_INTERRUPTED_WHEN_IMPORTING = """\
import os, signal, sys

class Interrupt:
    def find_spec(self, name, *_):
        if name == moment:
            os.kill(os.getpid(), signal.SIGINT)

from quicpipe_lab.entry import main
moment, sys.argv[1:] = sys.argv[1], ["--help"]
sys.meta_path.insert(0, Interrupt())
sys.exit(main())
"""


@pytest.mark.parametrize("module", ["quicpipe_lab.cli", "argparse", "quicpipe_lab.nat_report"])
def test_an_interrupt_while_python_still_imports_is_quiet(module: str) -> None:
    command = [sys.executable, "-P", "-c", _INTERRUPTED_WHEN_IMPORTING, module]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


_INTERRUPTED_WHEN_LOOKING_FOR_PACKAGES = """\
import os, signal
os.kill(os.getpid(), signal.SIGINT)
"""


@pytest.mark.parametrize("ignored", [False, True])
def test_an_interrupt_while_python_looks_for_packages_is_quiet(
    ignored: bool, tmp_path: Path
) -> None:
    """As ./lab starts it; sitecustomize runs at the end of Python's own search."""
    (tmp_path / "sitecustomize.py").write_text(_INTERRUPTED_WHEN_LOOKING_FOR_PACKAGES)
    start = Path(cli.__file__).with_name("start.py")
    ignoring = ["sh", "-c", 'trap "" INT; exec "$@"', "sh"] if ignored else []
    done = subprocess.run(
        [*ignoring, sys.executable, "-S", "-P", start, "--version"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    assert done.returncode == (0 if ignored else -signal.SIGINT)


def test_an_interrupt_that_is_ignored_stays_so() -> None:
    ignoring = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", sys.executable, "-P", "-c"]
    done = subprocess.run(
        [*ignoring, _INTERRUPTED_WHEN_IMPORTING, "argparse"], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert done.stdout.startswith("usage: quicpipe-lab")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("scenario", "--list"),
        ("nat-check", "home", "--backend", "sim"),
        ("nat-check", "home", "--backend", "sim", "--json"),
        ("scenario", "nat-to-nat", "--backend", "sim", "--run-dir", "run"),
    ],
)
def test_whoever_stops_reading_does_not_change_the_outcome(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    """As behind ``| head -1``, which has what it wanted; nobody reads from the beginning here."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "quicpipe_lab", *arguments]
    with os.fdopen(writer, "wb") as closed:
        done = subprocess.run(
            command, stdout=closed, stderr=subprocess.PIPE, cwd=tmp_path, text=True
        )
        assert done.returncode == 0
        assert "Error" not in done.stderr
        # And behind ``2>&1 | head -1``, where what tells of the progress comes first.
        assert subprocess.run(command, stdout=closed, stderr=closed, cwd=tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("locale", "shown"),
    [
        ({"PYTHONIOENCODING": "ascii"}, b"/L\\xe4ufe"),
        # The locale C as it is, which Python takes for UTF-8 elsewhere.
        ({"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, "/Läufe".encode()),
    ],
    ids=["ascii", "C"],
)
def test_what_the_terminal_cannot_show_changes_no_outcome(
    locale: dict[str, str], shown: bytes, tmp_path: Path
) -> None:
    """A folder's name and the sign of microseconds, in a locale of ASCII alone."""
    command = [sys.executable, "-m", "quicpipe_lab", "scenario", "public-to-nat"]
    done = subprocess.run(
        [*command, "--backend", "sim", "--run-dir", tmp_path / "Läufe"],
        env={**os.environ, "PYTHONIOENCODING": "", **locale},
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert shown in done.stdout
    assert b"\\xb5s" in done.stdout


def test_a_runs_folder_can_be_copied_however_long_its_name_is(tmp_path: Path) -> None:
    run_dir = tmp_path / ("long-" * 30)
    command = [sys.executable, "-m", "quicpipe_lab", "scenario", "same-nat", "--backend", "sim"]
    done = subprocess.run(
        [*command, "--run-dir", run_dir], stdout=subprocess.PIPE, text=True, check=True
    )
    assert done.stdout.splitlines()[-1].endswith(f" {run_dir}")
