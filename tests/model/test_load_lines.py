"""Which line a complaint names, in documents that nobody would write by hand."""

import pytest

from quicpipe_lab.errors import ScenarioError
from quicpipe_lab.model.load import topology_from_toml

LITERAL, BASIC = "'" * 3, '"' * 3
BACKSLASH = "\\"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("\n" * 900_000, "t.toml: link: is missing"),
        ("host = [L\n'" + BACKSLASH * 201 + "\nL,\n7]", "t.toml:1: host[0]: must"),
        ("host = [{ name = L\n},L },\n7]", "t.toml:3: host[1]: must"),
        ("host = [{ name = B\n" + BACKSLASH + "'},B },\n7]", "t.toml:3: host[1]: must"),
    ],
    ids=["newlines", "backslashes", "literal", "basic"],
)
def test_to_find_a_line_takes_no_longer_than_to_read_the_file(text: str, complaint: str) -> None:
    """For the first two there was not time enough in the world."""
    text = text.replace("'", '"').replace("L", LITERAL).replace("B", BASIC)
    with pytest.raises(ScenarioError) as refused:
        topology_from_toml(text, "t", "t.toml")
    assert str(refused.value).startswith(complaint)
