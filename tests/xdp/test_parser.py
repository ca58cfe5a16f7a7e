"""The parser in C, compiled for this host, against the one in Python: the same for every input."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from quicpipe_lab.shell.xdp_layout import FilterReason
from tests.xdp.fuzz import fuzz
from tests.xdp.packets import CORPUS
from tests.xdp.parser import Report, compiled, compiler, fuzzing_compiler, in_python

pytestmark = pytest.mark.skipif(compiler() is None, reason="no C compiler is installed")

FRAMES = [case.data for case in CORPUS.values()]
AFTER_THE_PARSER = {
    FilterReason.OTHER_PORT,
    FilterReason.OTHER_HOST,
    FilterReason.HALF_CHECKSUM,
    FilterReason.UNBOUND,
    FilterReason.SOURCE_NOT_BOUND,
    FilterReason.LOOP,
    FilterReason.OTHER_FAMILY,
    FilterReason.TOO_BIG,
}
"""What depends on more than the frame."""


@pytest.fixture(scope="module")
def in_c(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bytes], Report]:
    return compiled(tmp_path_factory.mktemp("parser"))


@pytest.mark.parametrize("name", CORPUS)
def test_the_corpus(in_c: Callable[[bytes], Report], name: str) -> None:
    frame, expected = CORPUS[name]
    report = in_c(frame)
    assert report == in_python(frame)
    if expected in AFTER_THE_PARSER:
        assert report.reason == FilterReason.FORWARDED
    else:
        assert report.reason == expected


def test_every_length_of_everything(in_c: Callable[[bytes], Report]) -> None:
    for frame in FRAMES:
        for size in range(len(frame)):
            assert in_c(frame[:size]) == in_python(frame[:size]), frame[:size].hex()


@given(frame=st.binary(max_size=120))
@example(frame=b"")
def test_anything(in_c: Callable[[bytes], Report], frame: bytes) -> None:
    assert in_c(frame) == in_python(frame)


@settings(max_examples=1000)
@given(
    frame=st.sampled_from(FRAMES),
    changes=st.lists(st.tuples(st.integers(0, 120), st.integers(0, 255)), max_size=4),
    size=st.integers(0, 200),
)
def test_packets_with_other_bytes(
    in_c: Callable[[bytes], Report], frame: bytes, changes: list[tuple[int, int]], size: int
) -> None:
    changed = bytearray(frame)
    for at, byte in changes:
        if at < len(changed):
            changed[at] = byte
    one = bytes(changed[:size] if size < 120 else changed)
    assert in_c(one) == in_python(one)


def test_each_byte_of_each_packet(in_c: Callable[[bytes], Report]) -> None:
    """Every byte of the headers, in all sorts of values; and mixtures of two packets."""
    chance = random.Random(4433)
    seen: set[int] = set()
    for frame in FRAMES:
        for at in range(min(len(frame), 90)):
            for byte in (0, 1, 0xFF, frame[at] ^ 0x80, frame[at] ^ 0x40, chance.randrange(256)):
                one = frame[:at] + bytes([byte]) + frame[at + 1 :]
                report = in_c(one)
                assert report == in_python(one), one.hex()
                seen.add(report.reason)
            other = chance.choice(FRAMES)
            assert in_c(frame[:at] + other[at:]) == in_python(frame[:at] + other[at:])
    assert seen == {reason for reason in FilterReason if reason <= 2 or 10 <= reason <= 19} - {
        FilterReason.OTHER_PORT,
        FilterReason.OTHER_HOST,
    }


@pytest.mark.skipif(fuzzing_compiler() is None, reason="no clang with libFuzzer is installed")
def test_a_coverage_guided_fuzzer_finds_no_difference(tmp_path: Path) -> None:
    reasons = fuzz(50_000, tmp_path)
    assert reasons.total() >= 50_000
    assert reasons[FilterReason.FORWARDED] > 100
