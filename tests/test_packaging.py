"""A built wheel carries its data and works without a checkout; the source archive builds the same.

Built with the installed hatchling and installed with pip without dependencies, so no network.
"""

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from quicpipe_lab import resources

ROOT = Path(__file__).resolve().parents[1]


def _run(argv: Sequence[str | Path], cwd: Path, path: Path | None = None) -> str:
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    if path is not None:
        env["PYTHONPATH"] = str(path)
    done = subprocess.run(argv, cwd=cwd, env=env, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _build(source: Path, target: str, folder: Path) -> Path:
    _run([sys.executable, "-m", "hatchling", "build", "-t", target, "-d", folder], source)
    (built,) = folder.glob("*.whl" if target == "wheel" else "*.tar.gz")
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _build(ROOT, "wheel", tmp_path_factory.mktemp("wheel"))


def _contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_an_installed_wheel_finds_its_own_data(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    _run([*pip, "--target", site, wheel], tmp_path)

    ask = (
        "import json; from quicpipe_lab import resources as r;"
        "print(json.dumps([str(r.folder('netns')), str(r.folder('xdp')), r.scenario_names()]))"
    )
    # The site's folder comes before the checkout on the path, as it would be alone elsewhere.
    netns, xdp, names = json.loads(_run([sys.executable, "-P", "-c", ask], tmp_path, site))
    assert Path(netns) == site / "quicpipe_lab/_data/netns"
    assert Path(xdp) == site / "quicpipe_lab/_data/xdp"
    assert names == resources.scenario_names()
    for kind in ("netns", "xdp"):
        assert _files(site / "quicpipe_lab/_data" / kind) == _files(ROOT / kind)

    program = site / "bin/quicpipe-lab"
    listed = json.loads(_run([program, "scenario", "--list", "--json"], tmp_path, site))
    assert [one["name"] for one in listed["scenarios"]] == names


def _files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = _contents(wheel).keys()
    tops = {name.split("/", 1)[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"quicpipe_lab"}
    assert "quicpipe_lab/py.typed" in names


def test_the_source_archive_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    archive = _build(ROOT, "sdist", tmp_path)
    _run(["tar", "--extract", "--file", archive], tmp_path)
    (source,) = (path for path in tmp_path.iterdir() if path.is_dir())
    assert (source / "lab").stat().st_mode & 0o111, "the launcher can be run"
    assert _contents(_build(source, "wheel", tmp_path / "again")) == _contents(wheel)
