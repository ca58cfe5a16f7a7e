"""Who may read what is left for Wireshark."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from quicpipe_lab.backends import base
from quicpipe_lab.errors import QuicpipeLabError
from quicpipe_lab.resources import find_scenario
from quicpipe_lab.shell.trace_files import keylog_file


@pytest.fixture(autouse=True)
def common_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_secrets_are_their_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    for line in ("one", "two"):
        with keylog_file(path) as file:
            assert file is not None
            file.write(f"{line}\n")
            assert path.read_text().endswith(f"{line}\n")  # at once
    assert path.read_text() == "one\ntwo\n"
    assert mode_of(path) == 0o600


def test_a_file_that_is_there_stays_as_it_was_shared(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.touch(0o640)
    with keylog_file(path):
        assert mode_of(path) == 0o640


def test_where_there_can_be_none_it_is_said(tmp_path: Path) -> None:
    with pytest.raises(QuicpipeLabError, match=r"keylog .*: Is a directory"), keylog_file(tmp_path):
        pass
    with keylog_file(None) as file:
        assert file is None


@pytest.mark.parametrize("backend", ["sim", pytest.param("netns", marks=pytest.mark.netns)])
def test_a_runs_are_there_to_be_looked_at(backend: str, tmp_path: Path) -> None:
    scenario = find_scenario("public-to-nat")
    assert base.run(scenario, backend=backend, run_dir=tmp_path / "run", certify=False).ok
    for name in ("keys.log", "capture.pcapng"):
        assert mode_of(tmp_path / "run" / name) == 0o644
