"""What becomes of what a probe raises."""

import errno
import os
from typing import Any

import pytest

from quicpipe_lab.backends.netns.probes import PROBES, Probe, outcome
from quicpipe_lab.errors import BackendUnavailableError, QuicpipeLabError

REFUSED = os.strerror(errno.EPERM)


@pytest.mark.parametrize(
    ("raised", "answer"),
    [
        (
            BackendUnavailableError("no bcc", "apt-get it"),
            {"ok": False, "detail": "no bcc", "remedy": "apt-get it"},
        ),
        (
            QuicpipeLabError("does not compile"),
            {"ok": False, "detail": "does not compile", "remedy": "modprobe it"},
        ),
        (
            PermissionError(errno.EPERM, REFUSED),
            {"ok": False, "detail": REFUSED, "remedy": "modprobe it"},
        ),
        # Not {"ok": False}: tests would be skipped for it.
        (NameError("how?"), {"mistake": "NameError: how?"}),
    ],
)
def test_an_exception_is_an_answer(raised: Exception, answer: dict[str, Any]) -> None:
    def attempt() -> str:
        raise raised

    assert outcome(Probe("somehow", attempt, lambda: "modprobe it")) == answer


def test_what_works_has_no_remedy() -> None:
    works = Probe("somehow", lambda: "it does", lambda: "modprobe it")
    assert outcome(works) == {"ok": True, "detail": "it does", "remedy": None}


def test_every_probe_says_how_it_tries() -> None:
    assert all(probe.tried for probe in PROBES.values())
