"""Markers for what not every machine can do. The reason for a skip is the doctor's own."""

import os

import pytest

from quicpipe_lab.backends.netns.doctor import capability

NEEDS = {
    "netns": ("network-namespaces", "nftables", "af-packet"),
    "nat64": ("network-namespaces", "nftables", "nat64"),
    "bpf": ("network-namespaces", "bcc", "kernel-headers", "xdp-native", "xdp-generic"),
}
"""Marker to capabilities."""

REQUIRED = {name for name in os.environ.get("QUICPIPE_LAB_REQUIRE", "").split(",") if name}
"""Markers whose tests fail where they would be skipped."""


def pytest_configure() -> None:
    if unknown := REQUIRED - set(NEEDS):
        raise pytest.UsageError(f"QUICPIPE_LAB_REQUIRE: no such marker: {', '.join(unknown)}")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker, names in NEEDS.items():
        if item.get_closest_marker(marker) is None:
            continue
        missing = [str(found) for found in map(capability, names) if not found.ok]
        if missing and marker in REQUIRED:
            pytest.fail(f"{marker} is required here, but {' | '.join(missing)}", pytrace=False)
        if missing:
            pytest.skip(" | ".join(missing))


@pytest.fixture
def user_namespaces() -> None:
    """For a test that makes one also where root would not need it."""
    if not (found := capability("user-namespaces")).ok:
        pytest.skip(str(found))
