"""The page about a run: what it says, that it needs nothing else, and that a browser shows it."""

import html
import json
import re
import shlex
import shutil
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.image import imread

from quicpipe_lab import resources
from quicpipe_lab.analysis.explain import why
from quicpipe_lab.analysis.plots import style
from quicpipe_lab.cli import main
from quicpipe_lab.evidence import open_run
from quicpipe_lab.model.scenario_data import dump_scenario
from quicpipe_lab.pictures import PICTURES
from quicpipe_lab.report import page
from quicpipe_lab.report.svg import css_variables
from quicpipe_lab.report.tables import tables
from tests.real_runs import Runs
from tests.report.browser import visit


@pytest.fixture(scope="module")
def nat_to_nat_page(real_run: Runs) -> str:
    return page.run_page(real_run("nat-to-nat"))


@pytest.mark.netns
def test_a_run_with_all_that_is_known_of_it(nat_to_nat_page: str, real_run: Runs) -> None:
    evidence = real_run("nat-to-nat")
    text = nat_to_nat_page
    assert text.count("<svg") == len(PICTURES)
    for said in (
        "direct, as expected",
        evidence.run.scenario.summary,
        "least round trip",
        "port assignment",  # declared and measured
        "cut the way between core and relay",  # an event
        why(evidence.run, evidence.frames, evidence.epoch_unix_s).sentence,
        f"quicpipe-lab scenario {evidence.run.directory}/scenario.json",
    ):
        assert html.escape(said, quote=False) in text.replace("&#39;", "'"), said


@pytest.mark.netns
def test_pictures_do_not_share_names_and_follow_the_colours(nat_to_nat_page: str) -> None:
    text = nat_to_nat_page
    names = re.findall(r'\bid="([^"]+)"', text)
    assert len(names) == len(set(names))
    referred = re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', text)
    assert {one or other for one, other in referred} <= set(names)
    for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ElementTree.fromstring(svg)
        colours = set(re.findall(r"(?:fill|stroke): ?([^;\"]+)", svg))
        patterns = {value for value in colours if value.startswith("url(#")}  # hatches
        assert colours - patterns <= {"none", *(f"var({name})" for name in _variables())}


def _variables() -> list[str]:
    return re.findall(r"(--[\w-]+):", css_variables(style.LIGHT))


@pytest.mark.netns
def test_a_run_that_was_killed_shows_what_there_is(real_run: Runs, tmp_path: Path) -> None:
    whole = real_run("nat-to-nat").run.directory
    run_dir = tmp_path / "killed"
    run_dir.mkdir()
    shutil.copy(whole / "scenario.json", run_dir)
    lines = (whole / "events.jsonl").read_text().splitlines()
    (run_dir / "events.jsonl").write_text("\n".join(lines[:12]) + '\n{"t_s": 0.5, "no')
    text = page.write(run_dir, None).read_text()
    assert "broken off" in text
    assert "Not shown: this run was not captured." in text
    assert text.count("<svg") == 2
    (run_dir / "events.jsonl").unlink()
    text = page.write(run_dir, tmp_path / "other.html").read_text()
    assert "Not shown: nothing happened in this run." in text
    assert "the run has no events" in text


@pytest.mark.netns
def test_commands(real_run: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_dir = str(real_run("nat-to-nat").run.directory)
    out = tmp_path / "t.png"
    assert main(["plot", run_dir, "timeline", "-o", str(out), "--dark"]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    red, green, blue = style.DARK.paper[1:3], style.DARK.paper[3:5], style.DARK.paper[5:7]
    corner = [round(255 * value) for value in imread(out)[0, 0, :3]]
    assert corner == [int(one, 16) for one in (red, green, blue)]
    assert main(["report", run_dir, "-o", str(tmp_path / "r.html"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"file": str(tmp_path / "r.html")}


def test_what_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "scenario.json").write_text('{"format": 99}')
    (other / "result.json").write_text("{}")
    for arguments, says in (
        (["report", str(tmp_path / "nothing")], "is no directory"),
        (["report", str(tmp_path)], "has no scenario.json"),
        (["report", str(other)], "not a scenario of format"),
        (["plot", str(other), "topolgy"], "did you mean 'topology'"),
        (["plot", str(other), "topology", "-o", "x.gif"], "ends in .png"),
        (["plot", str(other), "topology"], "not a scenario of format"),
    ):
        assert main(arguments) == 2
        complaint = capsys.readouterr().err
        assert complaint.count("\n") == 1
        assert says in complaint


def test_without_matplotlib_it_is_said_what_to_install(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = resources.find_scenario("nat-to-nat")
    (tmp_path / "scenario.json").write_text(dump_scenario(scenario))
    for name in [one for one in sys.modules if one.startswith("quicpipe_lab.analysis.plots")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for command in (["plot", str(tmp_path), "topology"], ["report", str(tmp_path)]):
        assert main(command) == 3
        assert "pip install 'quicpipe-lab[plot]'" in capsys.readouterr().err


def test_a_matrix_has_a_page_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [
        {"row": "home", "column": "home", "outcome": "direct", "direct_s": 0.02},
        {"row": "home", "column": "symmetric", "outcome": "direct", "direct_s": 0.04},
    ]
    lines = [
        json.dumps({"trial": 0, "expected": expected, "failure": None, **run})
        for run, expected in zip(runs, ("direct", "relayed"), strict=True)
    ]
    (tmp_path / "cells.jsonl").write_text("\n".join(lines) + "\n")
    assert main(["report", str(tmp_path)]) == 0
    text = (tmp_path / "report.html").read_text()
    assert text.count("<svg") == 2
    assert "1 of 2 as expected" in text
    assert "Not as expected" in text
    assert main(["plot", str(tmp_path), "times"]) == 0
    assert main(["plot", str(tmp_path), "topology"]) == 2
    assert "there are matrix, times" in capsys.readouterr().err


@pytest.mark.netns
@pytest.mark.browser
def test_a_browser_shows_it_and_asks_nobody_for_anything(real_run: Runs, tmp_path: Path) -> None:
    file = page.write(real_run("direct-dies").run.directory, tmp_path / "report.html")
    pictures = []
    for dark in (False, True):
        seen = visit(file, tmp_path / f"dark-{dark}", dark=dark)
        assert seen.console == []
        assert seen.requests == set()
        pictures.append(imread(seen.screenshot))
    light, night = pictures
    assert np.asarray(light)[:, :, :3].mean() > 0.8 > 0.4 > np.asarray(night)[:, :, :3].mean()


@pytest.mark.browser
def test_a_page_that_does_ask_would_be_found_out(tmp_path: Path) -> None:
    file = tmp_path / "bad.html"
    file.write_text('<img src="http://127.0.0.1:9/x.png"><script>undefined.x</script>')
    seen = visit(file, tmp_path / "bad", size="300,300")
    assert "http://127.0.0.1:9/x.png" in seen.requests
    assert any("TypeError" in line for line in seen.console)


def test_what_is_to_be_typed_can_be_typed_whatever_the_directory_is_called(tmp_path: Path) -> None:
    run_dir = tmp_path / "it's a <b>run; true"
    run_dir.mkdir()
    scenario = resources.find_scenario("nat-to-nat")
    (run_dir / "scenario.json").write_text(dump_scenario(scenario))
    text = page.write(run_dir, None).read_text()
    assert "<b>" not in text
    commands = [html.unescape(one) for one in re.findall("<code>(.*?)</code>", text)]
    (again,) = (one for one in commands if one.endswith("scenario.json"))
    assert shlex.split(again) == ["quicpipe-lab", "scenario", f"{run_dir}/scenario.json"]
    (why_so,) = (one for one in commands if one.startswith("quicpipe-lab explain"))
    assert shlex.split(why_so) == ["quicpipe-lab", "explain", str(run_dir)]


def test_the_table_of_links_has_those_that_stand_by(tmp_path: Path) -> None:
    scenario = resources.find_scenario("handover")
    (tmp_path / "scenario.json").write_text(dump_scenario(scenario))
    run = open_run(tmp_path).run
    (links,) = (one for one in tables(run, []) if one.title == "Links")
    assert {"nat-a to alice", "carrier to alice"} <= {row[0] for row in links.rows}


def test_so_can_what_goes_on_with_a_matrix(tmp_path: Path) -> None:
    run_dir = tmp_path / "it's a <b>matrix; true"
    run_dir.mkdir()
    told = {"row": "a", "column": "b", "trial": 0, "outcome": "direct", "expected": None}
    cell = {**told, "direct_s": 0.5, "failure": None, "search": None}
    (run_dir / "cells.jsonl").write_text(json.dumps(cell) + "\n")
    text = page.write(run_dir, None).read_text()
    (again,) = (html.unescape(one) for one in re.findall("<code>(.*?)</code>", text))
    assert shlex.split(again) == ["quicpipe-lab", "matrix", "--run-dir", str(run_dir)]
