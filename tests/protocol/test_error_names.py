"""Error codes as people read them."""

import pytest

from quicpipe_lab.protocol.error_names import transport_error
from quicpipe_lab.protocol.events import Closed


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (0x0, "NO_ERROR"),
        (0xB, "INVALID_TOKEN"),
        (0xC, "APPLICATION_ERROR"),
        (0x128, "CRYPTO_ERROR (handshake_failure)"),
        (0x1FE, "CRYPTO_ERROR (alert 254)"),
        (0x7000, "error 0x7000"),
    ],
)
def test_names(code: int, name: str) -> None:
    assert transport_error(code) == name
    assert Closed(code, "").describe().endswith(f": {name}")
    assert Closed(code, "its own words").describe().endswith(": its own words")
