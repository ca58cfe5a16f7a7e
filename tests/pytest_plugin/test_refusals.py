"""What the plugin says where it cannot, and that it costs nothing where nobody uses it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
WITHOUT_NAMESPACES = (sys.executable, str(TESTS / "without_namespaces.py"))
REASON = "network-namespaces: no network namespace can be made (unshare: No space left on device)"
USES_A_LAB = """
def test_lab(lab): ...
def test_asyncio(async_lab): ...
def test_run(run_scenario): run_scenario("nat-to-nat")
@pytest.mark.nat_pair("home")
def test_simulated(run_scenario, nat_pair): assert run_scenario(backend="sim").ok
"""
MISTAKES = {
    '@pytest.mark.lab("two-hoems")\ndef test(lab): ...': (
        "lab: there is no topology 'two-hoems'; did you mean 'two-homes'?"
    ),
    '@pytest.mark.lab(scenario="nat-to-nta")\ndef test(lab): ...': (
        "lab: there is no scenario 'nat-to-nta'; did you mean 'nat-to-nat'?"
    ),
    '@pytest.mark.lab("./mine.toml")\ndef test(lab): ...': "mine.toml: No such file or directory",
    '@pytest.mark.lab("a", "b")\ndef test(lab): ...': 'lab: write lab("two-homes") or lab(',
    "@pytest.mark.lab(topo=1)\ndef test(lab): ...": 'lab: write lab("two-homes") or lab(',
    "@pytest.mark.lab(7)\ndef test(async_lab): ...": "lab: 7 is neither a name nor a path",
    '@pytest.mark.nat_pair("EIM/APFD")\ndef test(nat_pair): ...': (
        "nat_pair: 'EIM/APFD' is no cell (as EIM/APDF) and no preset; did you mean 'EIM/APDF'?"
    ),
    "@pytest.mark.nat_pair(9)\ndef test(nat_pair): ...": "nat_pair: write nat_pair(",
    "def test(run_scenario): run_scenario()": "run_scenario: which one? There is no marker",
    'def test(run_scenario): run_scenario("relaid")': "did you mean 'relayed'?",
    'def test(run_scenario): run_scenario("relayed", backend="simm")': (
        "run_scenario: backend: 'simm' is none of auto, netns, sim"
    ),
}


def run_pytest(
    folder: Path, source: str, *arguments: str, wrapper: tuple[str, ...] = (), require: str = ""
) -> subprocess.CompletedProcess[str]:
    (folder / "test_it.py").write_text(f"import pytest\n{source}", encoding="utf-8")
    options = ["-p", "no:cacheprovider", "--color=no", "-rsE", f"--basetemp={folder}/tmp"]
    return subprocess.run(
        [*wrapper, sys.executable, "-m", "pytest", *options, *arguments, "test_it.py"],
        cwd=folder,
        # Wide enough that pytest does not cut the reasons short.
        env={**os.environ, "QUICPIPE_LAB_REQUIRE": require, "COLUMNS": "500"},
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_mistakes_are_told_in_a_line(tmp_path: Path) -> None:
    """Each in a file of its own, as some end its collection."""
    for number, source in enumerate(MISTAKES):
        (tmp_path / f"test_{number:02}.py").write_text(f"import pytest\n{source}\n", "utf-8")
    options = ["-p", "no:cacheprovider", "--color=no", "--continue-on-collection-errors"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "--tb=short", f"--basetemp={tmp_path}/tmp"],
        cwd=tmp_path,
        env={**os.environ, "COLUMNS": "500"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    for said in MISTAKES.values():
        assert said in done.stdout
    assert "passed" not in done.stdout
    for trace in ("Traceback", "During handling", "quicpipe_lab/"):
        assert trace not in done.stdout


@pytest.mark.netns
@pytest.mark.usefixtures("user_namespaces")
@pytest.mark.parametrize(
    ("arguments", "require"), [([], ""), (["-k", "lab", "--lab-require"], ""), (["-k", "run"], "1")]
)
def test_where_there_can_be_no_lab(tmp_path: Path, arguments: list[str], require: str) -> None:
    done = run_pytest(tmp_path, USES_A_LAB, *arguments, wrapper=WITHOUT_NAMESPACES, require=require)
    if arguments:
        assert done.returncode == pytest.ExitCode.TESTS_FAILED
        assert f"a lab is required here, but {REASON}" in done.stdout
    else:
        assert "1 passed, 3 skipped" in done.stdout  # the one that passes is simulated
        assert REASON in done.stdout
        assert "sudo sysctl -w user.max_net_namespaces=" in done.stdout


def test_it_explains_itself(tmp_path: Path) -> None:
    markers = run_pytest(tmp_path, "", "--markers").stdout
    assert "@pytest.mark.lab(topology)" in markers
    assert "@pytest.mark.nat_pair(dialers, accepters=dialers)" in markers
    fixtures = run_pytest(tmp_path, "", "--fixtures").stdout
    for name in ("lab", "async_lab", "nat_pair", "run_scenario"):
        assert f"{name} -- " in fixtures
    assert "--lab-require" in run_pytest(tmp_path, "", "--help").stdout


def test_who_does_not_use_it_does_not_pay_for_it(tmp_path: Path) -> None:
    """Every pytest in the environment loads it."""
    source = "import sys\ndef test(): print('loaded', *(n for n in sys.modules if 'quicpipe' in n))"
    done = run_pytest(tmp_path, source, "-s")
    assert "loaded quicpipe_lab quicpipe_lab.pytest_plugin\n" in done.stdout
