"""What somebody may have meant who wrote a name that does not exist."""

from collections.abc import Iterable


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """The end of a sentence that says that there is no such name; may be empty."""
    import difflib  # 5 ms that nobody needs who writes names as they are

    nearest = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {nearest[0]!r}?" if nearest else ""
