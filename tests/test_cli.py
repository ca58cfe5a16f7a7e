"""The command line itself; what the commands do is tested with what they are made of."""

from importlib.metadata import version

import pytest

from quicpipe_lab import cli


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
