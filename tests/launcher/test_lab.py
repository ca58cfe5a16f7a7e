"""The launcher ``lab`` in small checkouts of its own, with the real venv and pip.

The programs that it may use are listed, so that it neither comes to need more nor meets apt-get,
which would change the machine.
"""

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ["cmp", "cp", "env", "grep", "id", "mkdir", "mv", "readlink", "rm", "setsid", "sh"]
PROGRAMS += ["sleep", "tail", "touch", "uname"]
DEADLINE_S = 60.0

PYPROJECT = """\
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "quicpipe-lab"
version = "1"
optional-dependencies = { lab = [], dev = [] }
"""


class Checkout:
    """A checkout that holds the launcher and a package that installs in no time."""

    def __init__(self, root: Path, programs: Path) -> None:
        self.root = root
        self.venv = root / ".venv"
        self._env = {"PATH": str(programs), "HOME": str(root), "PIP_NO_INDEX": "1"}
        (root / "tests").mkdir(parents=True)
        (root / "quicpipe_lab").mkdir()
        shutil.copy(ROOT / "lab", root / "lab")
        shutil.copy(ROOT / "quicpipe_lab" / "start.py", root / "quicpipe_lab")
        shutil.copy(Path(__file__).with_name("backend.py"), root / "backend.py")
        (root / "pyproject.toml").write_text(PYPROJECT)
        (root / "tests" / "run.py").write_text("import sys; print('tests', *sys.argv[1:])\n")

    def start(
        self, *arguments: str, argv0: tuple[str, ...] = (), cwd: Path | None = None
    ) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [*(argv0 or (str(self.root / "lab"),)), *arguments],
            cwd=cwd or self.root,
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, **settings: object) -> "subprocess.CompletedProcess[str]":
        process = self.start(*arguments, **settings)  # type: ignore[arg-type]
        out, err = process.communicate(timeout=DEADLINE_S)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def builds(self) -> int:
        """How often the package was built."""
        with contextlib.suppress(FileNotFoundError):
            return len((self.root / "builds").read_text().splitlines())
        return 0

    def is_believed_in(self) -> bool:
        return (self.venv / "lab-ready").exists()


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("programs")
    for name in PROGRAMS:
        if found := shutil.which(name):
            (folder / name).symlink_to(found)
    python = Path(sys.executable).resolve()
    (folder / "python3").symlink_to(python)
    return folder


@pytest.fixture
def checkout(tmp_path: Path, programs: Path) -> Checkout:
    """A clean one."""
    return Checkout(tmp_path / "a checkout", programs)


@pytest.fixture(scope="module")
def first_start(tmp_path_factory: pytest.TempPathFactory, programs: Path) -> Checkout:
    checkout = Checkout(tmp_path_factory.mktemp("installed") / "root", programs)
    first = checkout.run("first")
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout)["arguments"] == ["first"]  # and nothing else on stdout
    assert all(line.startswith("lab: ") for line in first.stderr.splitlines())
    shutil.copytree(checkout.root, checkout.root.with_name("kept"), symlinks=True)
    return checkout


@pytest.fixture
def installed(first_start: Checkout) -> Checkout:
    """One that was started before: put back as it was, in its place, for an environment has one."""
    root = first_start.root
    if root.exists():
        shutil.rmtree(root)
    shutil.copytree(root.with_name("kept"), root, symlinks=True)
    return first_start


def _said(done: "subprocess.CompletedProcess[str]") -> object:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_later_start_says_nothing_and_passes_everything_on(installed: Checkout) -> None:
    arguments = ["scenario", "", "two words", "*", "'", '"', "--exit=7", "--", "-x"]
    done = installed.run(*arguments)
    assert (done.returncode, done.stderr) == (7, "")
    assert json.loads(done.stdout)["arguments"] == arguments


def test_it_leaves_the_user_where_they_are(installed: Checkout, tmp_path: Path) -> None:
    link = tmp_path / "link to lab"
    link.symlink_to(os.path.relpath(installed.root / "lab", tmp_path))
    root, here = str(installed.root), str(tmp_path)
    for argv0, cwd in [
        ((f"{root}/lab",), here),
        (("./link to lab",), here),
        (("./lab",), root),
        (("sh", "lab"), root),
        (("sh", "../root/lab"), root),
    ]:
        done = installed.run("x", argv0=argv0, cwd=Path(cwd))
        assert _said(done) == {"arguments": ["x"], "cwd": cwd}
        assert done.stderr == ""


def test_only_another_pyproject_is_a_reason_to_install_again(installed: Checkout) -> None:
    assert installed.builds() == 1
    pyproject = installed.root / "pyproject.toml"
    later = time.time() + 10
    os.utime(pyproject, (later, later))  # as git checkout does
    assert installed.run("same").stderr == ""
    assert installed.run("same").stderr == ""
    assert installed.builds() == 1

    pyproject.write_text(PYPROJECT + "dependencies = []\n")
    os.utime(pyproject, (later + 1, later + 1))
    assert "installing" in installed.run("other").stderr
    assert installed.run("other").stderr == ""
    assert installed.builds() == 2


def test_test_installs_the_extra_once_and_it_is_remembered(installed: Checkout) -> None:
    done = installed.run("test", "-k", "one or two")
    assert (done.returncode, done.stdout) == (0, "tests -k one or two\n")
    assert "quicpipe-lab[lab,dev]" in done.stderr
    assert installed.run("test").stderr == ""
    assert installed.run("scenario").stderr == ""
    assert installed.builds() == 2


def test_a_checkout_that_was_moved_is_installed_anew(installed: Checkout) -> None:
    moved = installed.root.with_name("moved")
    installed.root.rename(moved)
    done = installed.run("x", argv0=(f"{moved}/lab",), cwd=moved)
    assert _said(done) == {"arguments": ["x"], "cwd": str(moved)}
    assert "making" in done.stderr


def test_a_failed_installation_is_not_believed_in(checkout: Checkout) -> None:
    broken = checkout.root / "broken"
    broken.touch()
    done = checkout.run("x")
    assert (done.returncode, done.stdout) == (3, "")
    assert "this checkout is broken" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("lab: pip failed")
    assert not checkout.is_believed_in()

    broken.unlink()
    assert checkout.run("test").stdout == "tests\n"
    assert checkout.run("x").stderr == ""  # what tests need includes what all else needs


def test_an_addition_that_fails_leaves_what_was_there(installed: Checkout) -> None:
    (installed.root / "broken").touch()
    assert installed.run("test").returncode == 3
    done = installed.run("x")
    _said(done)
    assert done.stderr == ""


@pytest.fixture
def held(checkout: Checkout) -> Iterator[Callable[[], int]]:
    """Waits for a build and holds it up; closing the answer lets it go on, and later ones pass."""
    fifo = checkout.root / "hold"
    os.mkfifo(fifo)
    writers: list[int] = []

    def hold() -> int:
        writers.append(os.open(fifo, os.O_WRONLY))  # until the build opens its end
        fifo.unlink()
        return writers[-1]

    yield hold
    for writer in writers:
        with contextlib.suppress(OSError):
            os.close(writer)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_ends_its_children_and_is_not_believed_in(
    checkout: Checkout, held: Callable[[], int], number: signal.Signals
) -> None:
    process = checkout.start("x")
    writer = held()
    process.send_signal(number)
    out, err = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, out) == (128 + number, "")
    assert err.splitlines()[-1] == "lab: stopping"
    assert not checkout.is_believed_in()
    gone = select.poll()
    gone.register(writer, 0)  # only POLLERR: no reader any more; pip's child ends after pip
    assert gone.poll(DEADLINE_S * 1000)
    left = {path.name for path in checkout.venv.glob("lab-*")}
    assert left == {"lab-install.log", "lab-installing", "lab-pyproject.new"}


def test_after_kill_9_the_next_start_waits_for_the_orphan_and_begins_anew(
    checkout: Checkout, held: Callable[[], int]
) -> None:
    first = checkout.start("x")
    writer = held()
    first.kill()
    first.communicate(timeout=DEADLINE_S)
    assert not checkout.is_believed_in()

    second = checkout.start("y")
    assert second.stderr is not None
    assert "waiting for another start" in second.stderr.readline()
    os.close(writer)
    out, err = second.communicate(timeout=DEADLINE_S)
    assert json.loads(out)["arguments"] == ["y"]
    assert "making" in err


def test_starts_at_the_same_time_install_once(checkout: Checkout, held: Callable[[], int]) -> None:
    processes = [checkout.start(str(number)) for number in range(3)]
    writer = held()
    os.close(writer)
    for number, process in enumerate(processes):
        out, err = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 0, err
        assert json.loads(out)["arguments"] == [str(number)]
    assert checkout.builds() == 1
