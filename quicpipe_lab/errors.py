"""The exceptions of the project. Imports nothing of it, so that every layer may raise them."""

from typing import Any


class QuicpipeLabError(Exception):
    """Base of all: its text is one line, fit to be shown to a person as it is."""

    def __reduce__(self) -> tuple[Any, ...]:
        # From another process. Exception's own would call __init__ with the whole text, which many
        # of us take in parts.
        return _as_it_was, (type(self), self.args), self.__dict__


def _as_it_was(kind: type[QuicpipeLabError], args: tuple[Any, ...]) -> QuicpipeLabError:
    """All but its attributes."""
    return kind.__new__(kind, *args)


class ScenarioError(QuicpipeLabError):
    """A scenario or topology that says something wrong.

    ``path`` is the field's path in the document, for example ``link[2].between[0]``.
    """

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}" if path else problem)
        self.path = path
        self.problem = problem


class BackendUnavailableError(QuicpipeLabError):
    """This machine cannot do what was asked; ``remedy`` says what to do about it."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}; {remedy}")
        self.problem = problem
        self.remedy = remedy


class ProgramNotStartedError(QuicpipeLabError):
    """A program in a lab; ``exit_status`` is what a shell would say: 127 not found, else 126."""

    def __init__(self, problem: str, exit_status: int) -> None:
        super().__init__(problem)
        self.problem = problem
        self.exit_status = exit_status


class LabEndedError(QuicpipeLabError):
    """The lab is gone, and not by the doing of whoever holds it."""

    def __init__(self, problem: str, on_purpose: bool = False) -> None:
        super().__init__(problem)
        self.problem = problem
        self.on_purpose = on_purpose


class UnsupportedBehaviorError(QuicpipeLabError):
    """A backend was asked for a behaviour that it cannot express exactly."""


class LocalProtocolError(QuicpipeLabError):
    """The caller broke a rule of the protocol or of this API."""


class RemoteProtocolError(QuicpipeLabError):
    """The peer or the relay broke a rule; ``reference`` names it (an RFC section)."""

    def __init__(self, problem: str, reference: str = "") -> None:
        super().__init__(f"{problem} ({reference})" if reference else problem)
        self.problem = problem
        self.reference = reference
