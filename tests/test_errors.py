"""What an error says is what a person reads: one line, and what to do where that is known."""

import copy
import pickle
from collections.abc import Callable

import pytest

from quicpipe_lab import errors
from quicpipe_lab.errors import (
    BackendUnavailableError,
    LabEndedError,
    LocalProtocolError,
    ProgramNotStartedError,
    QuicpipeLabError,
    RemoteProtocolError,
    ScenarioError,
    UnsupportedBehaviorError,
)


def test_what_they_say() -> None:
    assert str(ScenarioError("link[2].loss", "is odd")) == "link[2].loss: is odd"
    assert str(ScenarioError("", "cannot read it")) == "cannot read it"
    assert str(BackendUnavailableError("no nftables", "run modprobe nf_tables")) == (
        "no nftables; run modprobe nf_tables"
    )
    assert str(RemoteProtocolError("a short ID", "RFC 9000 7.2")) == "a short ID (RFC 9000 7.2)"
    assert str(RemoteProtocolError("a short ID")) == "a short ID"


def test_one_except_clause_catches_all_of_ours() -> None:
    for error in (
        ScenarioError("", ""),
        BackendUnavailableError("", ""),
        UnsupportedBehaviorError(),
        LocalProtocolError(),
        RemoteProtocolError(""),
    ):
        assert isinstance(error, QuicpipeLabError)


ONE_OF_EACH = (
    QuicpipeLabError("it is so"),
    ScenarioError("link[2].loss", "is odd"),
    BackendUnavailableError("no nftables", "run modprobe nf_tables"),
    ProgramNotStartedError("no such program", 127),
    LabEndedError("the lab is gone", on_purpose=True),
    UnsupportedBehaviorError("no TCP"),
    LocalProtocolError("not now"),
    RemoteProtocolError("a short ID", "RFC 9000 7.2"),
)


@pytest.mark.parametrize("error", ONE_OF_EACH, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("way", [copy.copy, lambda one: pickle.loads(pickle.dumps(one))])
def test_they_come_whole_out_of_another_process(
    error: QuicpipeLabError, way: Callable[[QuicpipeLabError], QuicpipeLabError]
) -> None:
    came = way(error)
    assert (type(came), str(came), vars(came)) == (type(error), str(error), vars(error))


def test_none_is_forgotten_here() -> None:
    kinds = {one for one in vars(errors).values() if isinstance(one, type)}
    assert {type(one) for one in ONE_OF_EACH} == {
        one for one in kinds if issubclass(one, QuicpipeLabError)
    }
