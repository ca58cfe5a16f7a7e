"""Exceptions on their way from the supervisor to its caller: data in between."""

from quicpipe_lab.backends.netns.channel import Message
from quicpipe_lab.errors import (
    BackendUnavailableError,
    LabEndedError,
    ProgramNotStartedError,
    QuicpipeLabError,
    UnsupportedBehaviorError,
)


def describe(error: Exception) -> Message:
    """An exception as an answer."""
    if isinstance(error, BackendUnavailableError):
        return {"error": error.problem, "remedy": error.remedy}
    if isinstance(error, ProgramNotStartedError):
        return {"error": error.problem, "exit_status": error.exit_status}
    if isinstance(error, LabEndedError):
        return {"error": error.problem, "on_purpose": error.on_purpose}
    if isinstance(error, UnsupportedBehaviorError):
        return {"error": str(error), "unsupported": True}
    if isinstance(error, QuicpipeLabError):
        return {"error": str(error)}
    return {"error": f"{type(error).__name__}: {error}"}


def raise_described(answer: Message) -> None:
    """Raise what the answer describes, if it does. Raises QuicpipeLabError."""
    if "remedy" in answer:
        raise BackendUnavailableError(answer["error"], answer["remedy"])
    if "exit_status" in answer:
        raise ProgramNotStartedError(answer["error"], answer["exit_status"])
    if "on_purpose" in answer:
        raise LabEndedError(answer["error"], answer["on_purpose"])
    if "unsupported" in answer:
        raise UnsupportedBehaviorError(answer["error"])
    if "error" in answer:
        raise QuicpipeLabError(answer["error"])
