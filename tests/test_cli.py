"""The command line itself; what the commands do is tested with what they are made of."""

import pytest

from quicpipe_lab import cli


def test_a_mistyped_command_names_those_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["donw"]) == cli.BAD_INPUT
    said = capsys.readouterr().err
    assert said.startswith("quicpipe-lab: argument COMMAND: invalid choice: 'donw'")
    assert "doctor" in said
    assert "_capture" not in said
    assert "_nat-probe" not in said
