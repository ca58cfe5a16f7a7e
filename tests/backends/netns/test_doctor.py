"""The doctor's report on this machine as it is, and where the kernel allows no namespaces."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from quicpipe_lab.backends.netns.doctor import capability, probe_all, run

NAMES = [
    "network-namespaces",
    "user-namespaces",
    "nftables",
    "netem",
    "af-packet",
    "ipv6",
    "nat64",
    "bcc",
    "kernel-headers",
    "xdp-native",
    "xdp-generic",
]
WITHOUT_NAMESPACES = Path(__file__).parents[2] / "without_namespaces.py"
REPORT = "from quicpipe_lab.backends.netns import doctor; doctor.run(json={})"


def namespaces() -> list[str]:
    return [str(Path(f"/proc/self/ns/{kind}").readlink()) for kind in ("net", "user", "mnt")]


def report_without_namespaces(*, as_json: bool) -> str:
    report = [sys.executable, "-c", REPORT.format(as_json)]
    done = subprocess.run(
        [sys.executable, str(WITHOUT_NAMESPACES), *report],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout


def test_the_json_report_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    before = namespaces()
    assert run(json=True) == 0
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert namespaces() == before, "the caller was moved"
    assert report["kernel"] == os.uname().release
    assert [one["name"] for one in report["capabilities"]] == NAMES
    for one in report["capabilities"]:
        assert set(one) == {"name", "ok", "tried", "detail", "remedy"}
        assert one["tried"]
        assert one["detail"]
        assert one["remedy"] is None or not one["ok"]


def test_the_report_for_people_has_a_line_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(json=False) == 0
    lines = capsys.readouterr().out.splitlines()
    verdicts = [line for line in lines if not line.startswith(" ")]
    assert [line[5:].partition(":")[0] for line in verdicts] == NAMES


@pytest.mark.netns
@pytest.mark.usefixtures("user_namespaces")
def test_what_a_machine_without_namespaces_lacks_and_what_enables_it() -> None:
    report = json.loads(report_without_namespaces(as_json=True))
    found = {one["name"]: one for one in report["capabilities"]}
    others = {"bcc", "kernel-headers", "user-namespaces"}
    if shutil.which("tayga") is None:
        others.add("nat64")  # lacks more than namespaces
    for name in set(NAMES) - others:
        assert not found[name]["ok"]
        assert "No space left on device" in found[name]["detail"]
        assert found[name]["remedy"] == "sudo sysctl -w user.max_net_namespaces=15000"
    assert not found["user-namespaces"]["ok"]
    assert found["user-namespaces"]["remedy"] == "sudo sysctl -w user.max_user_namespaces=15000"
    assert "\n     to enable it: sudo sysctl -w user.max_" in report_without_namespaces(
        as_json=False
    )


def test_a_capability_is_tried_once_and_agrees_with_the_report() -> None:
    assert capability("ipv6") is capability("ipv6")
    assert capability("ipv6") in probe_all()
