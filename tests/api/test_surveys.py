"""The matrix and measured NATs for programs: what is misspelt is answered in one line."""

from pathlib import Path

import pytest

from quicpipe_lab.api import Matrix, check_nats, picture
from quicpipe_lab.errors import QuicpipeLabError, ScenarioError


def test_a_backend_that_there_is_not_measures_nothing() -> None:
    """Not on the kernel in its place."""
    with pytest.raises(ScenarioError, match="backend: 'simm' is none of auto, netns, sim"):
        check_nats("home", backend="simm")


def test_pictures_that_there_are_not(tmp_path: Path) -> None:
    with pytest.raises(QuicpipeLabError, match=r"no picture 'time'; .*did you mean 'times'"):
        Matrix((), tmp_path, "sim").picture("time")
    with pytest.raises(QuicpipeLabError, match=r"no picture 'topolgy'; .*did you mean 'topology'"):
        picture(tmp_path, "topolgy")
