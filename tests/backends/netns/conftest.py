"""Labs for the tests of the netns backend."""

from collections.abc import Iterator

import pytest

from quicpipe_lab.backends.netns.lab import Lab
from quicpipe_lab.resources import find_topology
from tests.backends.netns.remote import Sockets, sockets_of


@pytest.fixture
def two_homes() -> Iterator[Lab]:
    """The bundled topology: alice and bob behind a NAT each, and a relay."""
    with Lab(find_topology("two-homes")) as lab:
        yield lab


@pytest.fixture(scope="module")
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Of the test module's ``TOPOLOGY``; its tests share it."""
    with Lab(request.module.TOPOLOGY) as lab:
        yield lab


@pytest.fixture
def sockets(lab: Lab) -> Iterator[Sockets]:
    """On the nodes of ``lab``."""
    with sockets_of(lab) as made:
        yield made
