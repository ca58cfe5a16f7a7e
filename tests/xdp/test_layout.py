"""Numbers and layouts in xdp/quicpipe_shared.h and in shell/xdp_layout.py are the same."""

import ctypes
import subprocess
from pathlib import Path

import pytest

from quicpipe_lab.resources import folder
from quicpipe_lab.shell import xdp_layout
from quicpipe_lab.shell.xdp_layout import FilterReason, Layer2
from tests.xdp.parser import compiler

pytestmark = pytest.mark.skipif(compiler() is None, reason="no C compiler is installed")

STRUCTURES = {
    name.lower(): value
    for name, value in vars(xdp_layout).items()
    if isinstance(value, type) and issubclass(value, ctypes.Structure)
}


def evaluate(directory: Path, expressions: list[str]) -> dict[str, int]:
    """What C makes of them."""
    source, program = directory / "evaluate.c", directory / "evaluate"
    lines = [f'printf("%lld\\n", (long long)({one}));' for one in expressions]
    source.write_text(
        "#include <stddef.h>\n#include <stdio.h>\n"
        f'#include "quicpipe_shared.h"\nint main(void) {{ {" ".join(lines)} return 0; }}\n'
    )
    include = f"-I{folder('xdp')}"
    subprocess.run([compiler() or "cc", include, "-o", program, source], check=True)
    said = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    return dict(zip(expressions, map(int, said.split()), strict=True))


def test_reasons_and_modes(tmp_path: Path) -> None:
    expected = {f"QUICPIPE_{one.name}": one.value for one in (*FilterReason, *Layer2)}
    expected["QUICPIPE_REASONS"] = len(FilterReason)
    expected["QUICPIPE_HOSTS"] = xdp_layout.HOSTS
    assert evaluate(tmp_path, list(expected)) == expected


def test_structures(tmp_path: Path) -> None:
    assert STRUCTURES.keys() >= {"binding", "flow", "sender", "config"}
    expected = {}
    for name, structure in STRUCTURES.items():
        expected[f"sizeof(struct quicpipe_{name})"] = ctypes.sizeof(structure)
        for field, *_ in structure._fields_:
            offset = getattr(structure, field).offset
            expected[f"offsetof(struct quicpipe_{name}, {field})"] = offset
    assert evaluate(tmp_path, list(expected)) == expected


def test_records_fill_cache_lines() -> None:
    for one in (xdp_layout.Binding, xdp_layout.Flow, xdp_layout.Sender):
        assert ctypes.sizeof(one) == 64
