"""How a program's end is told of."""

import signal

import pytest

from quicpipe_lab.backends.ending import ending


@pytest.mark.parametrize(
    ("exit_code", "said", "words"),
    [
        (1, "first\nquicpipe-lab: no relay\n", "with status 1: no relay"),
        (126, " \n", "with status 126, and did not say why"),
        (-signal.SIGKILL, "", "by SIGKILL"),
        (-signal.SIGABRT, "assertion failed\n", "by SIGABRT, and had said: assertion failed"),
        (-40, "", "by signal 40"),
    ],
)
def test_status_or_signal_and_the_last_line(exit_code: int, said: str, words: str) -> None:
    assert ending(exit_code, said) == words
