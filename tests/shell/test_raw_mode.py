"""A terminal in raw mode whose program is killed with -9."""

import os
import select
import subprocess
import sys
import termios

import pytest

DEADLINE_S = 60.0
ENTER = """
import signal
from quicpipe_lab.shell.raw_mode import RawMode
RawMode(0).enter()
print("raw", flush=True)
signal.pause()
"""
OUTPUT, LOCAL = 1, 3
"""Where attributes have their flags."""
COOKED = termios.ICANON | termios.ECHO | termios.ISIG


def _wait_for_the_end_of_all(master: int) -> None:
    """Of those that have the terminal open."""
    while True:
        assert select.select([master], [], [], DEADLINE_S)[0]
        try:
            os.read(master, 1000)
        except OSError:
            return


@pytest.mark.parametrize("is_a_shells_by_then", [False, True])
def test_it_is_restored_unless_a_shell_has_it(is_a_shells_by_then: bool) -> None:
    """Who edits lines itself has signals and output, and neither echo nor whole lines."""
    master, slave = os.openpty()
    try:
        before = termios.tcgetattr(slave)
        assert before[LOCAL] & COOKED == COOKED
        with subprocess.Popen(
            [sys.executable, "-c", ENTER], stdin=slave, stdout=subprocess.PIPE
        ) as program:
            assert program.stdout is not None
            assert program.stdout.readline() == b"raw\n"
            raw = termios.tcgetattr(slave)
            assert not raw[LOCAL] & COOKED
            expected = before
            if is_a_shells_by_then:
                expected = [*raw]
                expected[OUTPUT] |= termios.OPOST
                expected[LOCAL] |= termios.ISIG
                termios.tcsetattr(slave, termios.TCSANOW, expected)
            os.close(slave)
            program.kill()
        _wait_for_the_end_of_all(master)
        assert termios.tcgetattr(master) == expected
    finally:
        os.close(master)
