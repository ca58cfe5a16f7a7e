"""TOML files to plain values. What cannot be read is refused at once, by one line."""

import stat
import tomllib
from pathlib import Path
from typing import Any

from quicpipe_lab.errors import ScenarioError

_MAX_CHARACTERS = 1_000_000
"""Far above any topology; a capture given by mistake would fill the memory."""


def read(path: Path) -> str:
    """A regular file's text, without the mark that some editors begin UTF-8 with (RFC 3629, 6).

    Raises ScenarioError.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():
            # A FIFO would keep us waiting, and a device never end.
            raise ScenarioError("", f"cannot read {path}: it is not a regular file")
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(_MAX_CHARACTERS + 1)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ScenarioError("", f"cannot read {path}: {reason}") from None
    if len(text) > _MAX_CHARACTERS:
        reason = f"it has more than {_MAX_CHARACTERS} characters"
        raise ScenarioError("", f"cannot read {path}: {reason}")
    return text


def parse(text: str) -> dict[str, Any]:
    """Raises ScenarioError."""
    try:
        return tomllib.loads(text)
    except ValueError as error:  # TOMLDecodeError, and int()'s for thousands of digits
        problem = "a number has too many digits" if "digits" in str(error) else error
        raise ScenarioError("", f"not TOML: {problem}") from None
    except RecursionError:
        raise ScenarioError("", "not TOML: it is nested too deeply") from None
