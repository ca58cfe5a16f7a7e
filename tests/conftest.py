"""Markers for what not every machine can do. The reason for a skip is the doctor's own."""

import os
import shutil

import pytest

from quicpipe_lab.backends.netns.doctor import capability
from tests.real_runs import real_run  # noqa: F401 # a fixture for all

NEEDS = {
    "netns": ("network-namespaces", "nftables", "af-packet"),
    "nat64": ("network-namespaces", "nftables", "nat64"),
    "bpf": ("network-namespaces", "bcc", "kernel-headers", "xdp-native", "xdp-generic"),
}
"""Marker to capabilities."""

PROGRAMS = {
    "browser": ("chromium", "chromium"),
    "coturn": ("turnserver", "coturn"),
    "nft": ("nft", "nftables"),
    "ping": ("ping", "iputils-ping"),
    "tshark": ("tshark", "tshark"),
}
"""Marker to a program, and the Debian package that brings it."""

REQUIRED = {name for name in os.environ.get("QUICPIPE_LAB_REQUIRE", "").split(",") if name}
"""Markers whose tests fail where they would be skipped."""


def pytest_configure() -> None:
    if unknown := REQUIRED - NEEDS.keys() - PROGRAMS.keys():
        raise pytest.UsageError(f"QUICPIPE_LAB_REQUIRE: no such marker: {', '.join(unknown)}")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in (*NEEDS, *PROGRAMS):
        if item.get_closest_marker(marker) is None:
            continue
        missing = _missing(marker)
        if missing and marker in REQUIRED:
            pytest.fail(f"{marker} is required here, but {' | '.join(missing)}", pytrace=False)
        if missing:
            pytest.skip(" | ".join(missing))


def _missing(marker: str) -> list[str]:
    """Why tests with this marker cannot run here."""
    if marker in PROGRAMS:
        program, package = PROGRAMS[marker]
        return [] if shutil.which(program) else [f"{program} is missing; apt-get install {package}"]
    return [str(found) for found in map(capability, NEEDS[marker]) if not found.ok]


@pytest.fixture
def user_namespaces() -> None:
    """For a test that makes one also where root would not need it."""
    if not (found := capability("user-namespaces")).ok:
        pytest.skip(str(found))
