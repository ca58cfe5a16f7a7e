"""Headers in the layouts that distributions use, and programs on a real interface."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from quicpipe_lab.backends.netns.xdp_peer import PASS
from quicpipe_lab.errors import BackendUnavailableError
from quicpipe_lab.shell.xdp import find_headers

SCENE = Path(__file__).with_name("xdp_scene.py")
RUNNING = os.uname().release


def install(modules: Path, release: str, *, build: list[str], source: list[str]) -> None:
    """An installed set of headers: the named ones, in /lib/modules/RELEASE's two folders."""
    for place, headers in (("build", build), ("source", source)):
        for header in headers:
            path = modules / release / place / "include" / header
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("BCC_KERNEL_SOURCE", raising=False)
    return tmp_path


def test_debians_two_folders_are_found(modules: Path) -> None:
    install(modules, RUNNING, build=["generated/autoconf.h"], source=["linux/kconfig.h"])
    expected = (modules / RUNNING / "source", modules / RUNNING / "build")
    assert find_headers(modules) == (RUNNING, expected)


def test_ubuntus_one_folder_is_found(modules: Path) -> None:
    install(modules, RUNNING, build=["generated/autoconf.h", "linux/kconfig.h"], source=[])
    assert find_headers(modules) == (RUNNING, (modules / RUNNING / "build",))


@pytest.mark.skipif(Path("/sys/kernel/kheaders.tar.xz").exists(), reason="the kernel has its own")
def test_the_newest_complete_ones_stand_in_for_the_running_kernels(modules: Path) -> None:
    both = ["generated/autoconf.h", "linux/kconfig.h"]
    install(modules, RUNNING, build=["generated/autoconf.h"], source=[])
    install(modules, "6.1.0-9-amd64", build=both, source=[])
    install(modules, "6.1.0-56-amd64", build=both, source=[])
    install(modules, "6.8.0-1-amd64", build=[], source=["linux/kconfig.h"])
    assert find_headers(modules).release == "6.1.0-56-amd64"


@pytest.mark.skipif(Path("/sys/kernel/kheaders.tar.xz").exists(), reason="the kernel has its own")
def test_without_any_the_package_to_install_is_named(modules: Path) -> None:
    with pytest.raises(BackendUnavailableError, match=r"no kernel headers.*linux-headers-"):
        find_headers(modules)


def test_a_users_own_choice_comes_first(modules: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BCC_KERNEL_SOURCE", "/opt/linux")
    assert find_headers(modules) == ("/opt/linux", ())


@pytest.mark.bpf
def test_a_program_is_attached_in_either_mode_and_detached() -> None:
    """The kernel itself says in which mode; ``xdp`` is pyroute2's word for native."""
    assert play("modes").stdout.split() == ["None", "xdp", "None", "xdpgeneric", "None"]


@pytest.mark.bpf
def test_a_program_that_is_there_is_not_replaced() -> None:
    assert "no generic XDP on 'probe'" in play("twice").stdout


@pytest.mark.bpf
def test_what_does_not_compile_is_one_error(tmp_path: Path) -> None:
    broken = tmp_path / "broken.c"
    broken.write_text("int f(struct xdp_md *context) { return XDP_PASS }")
    assert play("broken", str(broken)).stdout.startswith("broken.c does not compile with the head")


@pytest.mark.bpf
def test_the_lab_has_what_the_passing_program_compiles_to() -> None:
    assert play("code").stdout.split() == [PASS.hex()]


def play(scene: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCENE), scene, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
