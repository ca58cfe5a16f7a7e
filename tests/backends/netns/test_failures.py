"""Exceptions on their way out of the supervisor: who catches them must know what they are."""

import json

import pytest

from quicpipe_lab.backends.netns.failures import describe, raise_described
from quicpipe_lab.errors import (
    BackendUnavailableError,
    LabEndedError,
    LocalProtocolError,
    ProgramNotStartedError,
    QuicpipeLabError,
    UnsupportedBehaviorError,
)


@pytest.mark.parametrize(
    "error",
    [
        BackendUnavailableError("no nftables", "run modprobe nf_tables"),
        ProgramNotStartedError("no such program", 127),
        LabEndedError("the lab is gone", on_purpose=True),
        UnsupportedBehaviorError("no TCP"),
        QuicpipeLabError("it is so"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_they_are_the_same_on_the_other_side(error: QuicpipeLabError) -> None:
    with pytest.raises(QuicpipeLabError) as came:
        raise_described(json.loads(json.dumps(describe(error))))
    assert type(came.value) is type(error)
    assert (str(came.value), vars(came.value)) == (str(error), vars(error))


def test_what_no_command_tells_apart_keeps_its_words() -> None:
    for error, words in (
        (LocalProtocolError("not now"), "not now"),
        (OSError(5, "I/O"), "OSError"),
    ):
        with pytest.raises(QuicpipeLabError, match=words):
            raise_described(describe(error))
