"""Standard output and error as the commands for people have them: nobody has to read them to the
end, and there is nothing that they cannot show."""

import codecs
import io
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_SHOWN = "quicpipe-lab-shown"


def tolerate_readers_that_go() -> None:
    """Behind ``2>&1 | head -1`` the rest goes nowhere: the command and its exit status stay the
    same. What the encoding has not is escaped: a folder's name is no reason to fail, either.

    Where somebody else has put another file in their place, as in a notebook, that is theirs.
    """
    codecs.register_error(_SHOWN, _show)
    for name in ("stdout", "stderr"):
        before = getattr(sys, name)
        if before is not getattr(sys, f"__{name}__") or not isinstance(before, io.TextIOWrapper):
            continue
        before.flush()
        after = io.TextIOWrapper(
            io.BufferedWriter(_Tolerant(before.fileno(), "w", closefd=False)),
            encoding=before.encoding,
            errors=_SHOWN if before.errors == "surrogateescape" else "backslashreplace",
            line_buffering=before.line_buffering,
        )
        setattr(sys, name, after)


def _show(error: UnicodeError) -> tuple[str | bytes, int]:
    """As Python has it in the locale C, bytes of a name that were no text go out as they came."""
    assert isinstance(error, UnicodeEncodeError)
    error.end = error.start + 1
    was_a_byte = "\udc80" <= error.object[error.start] <= "\udcff"
    return codecs.lookup_error("surrogateescape" if was_a_byte else "backslashreplace")(error)


def drop_what_is_not_taken() -> None:
    """At the end: on a full disk, or where a reader has gone, Python would fail once more."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class _Tolerant(io.FileIO):
    def write(self, data: "ReadableBuffer", /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            return memoryview(data).nbytes
