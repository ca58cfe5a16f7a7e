"""What was seen, in words: tables."""

import itertools

import pytest

from quicpipe_lab.model import nat_measurement as words
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.model.nat_measurement import POINTS, Seen, ServerPoint


def seen(*ports: int, host: str = "198.18.0.6") -> Seen:
    """External ports towards the four points, in their order."""
    return {point: TransportAddress(host, port) for point, port in zip(POINTS, ports, strict=True)}


@pytest.mark.parametrize(
    ("ports", "word"),
    [
        ((7, 7, 7, 7), "EIM"),
        ((7, 7, 8, 8), "ADM"),
        ((7, 8, 9, 10), "APDM"),
        ((7, 8, 7, 8), "inconsistent"),  # by port alone
        ((7, 7, 7, 8), "inconsistent"),
        ((7, 7, 8, 9), "inconsistent"),
        ((7, 8, 9, 7), "inconsistent"),
    ],
)
def test_mapping(ports: tuple[int, int, int, int], word: str) -> None:
    assert words.mapping_behavior(seen(*ports)) == word


@pytest.mark.parametrize("word", ["EIM", "ADM", "APDM"])
def test_mapping_from_the_three_points_of_the_rfc(word: str) -> None:
    ports = {"EIM": (7, 7, 7, 7), "ADM": (7, 7, 8, 8), "APDM": (7, 8, 9, 10)}[word]
    three = {point: one for point, one in seen(*ports).items() if point != (0, 1)}
    assert words.mapping_behavior(three) == word


@pytest.mark.parametrize("points", [POINTS[:1], POINTS[:2], POINTS[::2]])
def test_mapping_cannot_be_told_from_less(points: tuple[ServerPoint, ...]) -> None:
    with pytest.raises(ValueError, match="two addresses and two ports"):
        words.mapping_behavior({point: TransportAddress("a", 1) for point in points})


def test_one_port_at_two_external_addresses_is_two_mappings() -> None:
    both = dict(seen(7, 7, 7, 7)) | {
        point: TransportAddress("198.18.0.7", 7) for point in POINTS if point.address
    }
    assert words.mapping_behavior(both) == "ADM"


@pytest.mark.parametrize("came", list(itertools.product([False, True], repeat=3)))
def test_filtering(came: tuple[bool, bool, bool]) -> None:
    let_in = dict(zip(POINTS[1:], came, strict=True))
    expected = {
        (True, True, True): "EIF",
        (True, False, False): "ADF",
        (False, False, False): "APDF",
    }
    assert words.filtering_behavior(let_in) == expected.get(came, "inconsistent")


@pytest.mark.parametrize(
    ("mapping", "filtering", "came", "word"),
    [
        ("APDM", "ADF", True, "endpoint"),
        ("ADM", "APDF", False, "mapping"),
        ("EIM", "APDF", True, None),
        ("APDM", "EIF", True, None),
        ("inconsistent", "APDF", False, None),
    ],
)
def test_filter_scope(mapping: str, filtering: str, came: bool, word: str | None) -> None:
    assert words.filter_scope(mapping, filtering, came) == word


@pytest.mark.parametrize(
    ("inside", "external", "word"),
    [
        ([50, 61, 43, 77, 92, 31], [50, 61, 43, 77, 92, 31], "preserving"),
        ([50, 61, 43, 77, 92, 31], [50, 61, 43, 900, 92, 31], "preserving"),  # one was taken
        ([50, 61, 43, 77, 92, 31], [500, 501, 502, 503, 504, 505], "sequential, step 1"),
        ([50, 61, 43, 77, 92, 31], [500, 502, 504, 506, 510, 512], "sequential, step 2"),
        ([50, 61, 43, 77, 92, 31], [505, 504, 503, 502, 501, 500], "sequential, step -1"),
        ([50, 61, 43, 77, 92, 31], [50123, 7341, 29876, 1099, 44210, 31], "random"),
        ([50, 61, 43, 77, 92, 31], [50, 61, 43, 7000, 9200, 3100], "inconsistent"),
        ([50, 51, 52, 53, 54, 55], [50, 51, 52, 53, 54, 55], "preserving"),  # and not sequential
    ],
)
def test_port_assignment(inside: list[int], external: list[int], word: str) -> None:
    assert words.port_assignment(list(zip(inside, external, strict=True))) == word


@pytest.mark.parametrize(
    ("first", "second", "word"),
    [
        ((7, 7, 7, 7), (8, 8, 8, 8), "distinct ports, EIM"),
        ((7, 7, 7, 7), (7, 7, 7, 7), "shared port"),
        ((7, 7, 7, 7), (8, 9, 10, 7), "shared port"),
        ((7, 7, 7, 7), (8, 9, 10, 11), "distinct ports, EIM and APDM"),
    ],
)
def test_same_port(
    first: tuple[int, int, int, int], second: tuple[int, int, int, int], word: str
) -> None:
    assert words.same_port(seen(*first), seen(*second)) == word


@pytest.mark.parametrize(
    ("source", "word"),
    [
        (None, "none"),
        (TransportAddress("198.18.0.6", 9), "external-source"),
        (TransportAddress("192.168.0.6", 9), "internal-source"),
        (TransportAddress("192.168.0.5", 9), "from 192.168.0.5:9"),
    ],
)
def test_hairpinning(source: TransportAddress | None, word: str) -> None:
    external = TransportAddress("198.18.0.6", 8)
    assert words.hairpinning(source, external, "192.168.0.6") == word


@pytest.mark.parametrize(
    ("errors", "word"),
    [
        ([], "none"),
        ([(3, 3)], "ICMP port unreachable"),
        ([(3, 13)], "ICMP admin prohibited"),
        ([(11, 0), (3, 3)], "ICMP port unreachable and ICMP 11/0"),
    ],
)
def test_rejection(errors: list[tuple[int, int]], word: str) -> None:
    assert words.rejection(errors) == word


def test_refresh() -> None:
    said = {words.refresh(*each) for each in itertools.product([False, True], repeat=2)}
    assert said == {"outbound", "inbound", "both", "neither direction"}


@pytest.mark.parametrize(
    ("idle", "bracket"),
    [
        ([(1.0, 1.1, True), (1.9, 2.0, True), (2.1, 2.2, False)], (1.9, 2.2)),
        ([(1.0, 1.1, True)], (1.0, None)),
        ([(1.0, 1.1, False), (0.5, 0.6, False)], (0.0, 0.6)),
        # The second check came late, and says less than it was to: still no contradiction.
        ([(1.9, 2.4, True), (2.1, 2.2, False)], (1.9, 2.2)),
    ],
)
def test_lifetime_bracket(
    idle: list[tuple[float, float, bool]], bracket: tuple[float, float | None]
) -> None:
    assert words.lifetime_bracket(idle) == bracket


def test_lifetimes_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match=r"alive after 3\.000 s, and gone after 2\.000 s"):
        words.lifetime_bracket([(3.0, 3.1, True), (1.9, 2.0, False)])
