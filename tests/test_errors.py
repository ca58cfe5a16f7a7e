"""What an error says is what a person reads: one line, and what to do where that is known."""

from quicpipe_lab.errors import (
    BackendUnavailableError,
    LocalProtocolError,
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
