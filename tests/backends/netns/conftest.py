"""Labs for the tests of the netns backend."""

import functools
import os
from collections.abc import Iterator

import pytest

from quicpipe_lab.backends.netns.lab import Lab
from quicpipe_lab.errors import BackendUnavailableError
from quicpipe_lab.model.topology import Link, Relay, Topology
from quicpipe_lab.resources import find_topology
from tests.backends.netns.remote import Sockets, sockets_of


@functools.cache
def _why_not() -> str | None:
    """Why this machine cannot build a lab, found out by building one."""
    topology = Topology("probe", (Relay("relay"),), (Link(("core", "relay")),))
    try:
        Lab(topology).up().down()
    except BackendUnavailableError as error:
        return str(error)
    return None


@pytest.fixture(autouse=True)
def _netns_available(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("netns") is None:
        return
    problem = _why_not()
    if problem is not None:
        required = "netns" in os.environ.get("QUICPIPE_LAB_REQUIRE", "").split(",")
        (pytest.fail if required else pytest.skip)(problem)


@pytest.fixture
def two_homes() -> Iterator[Lab]:
    """The bundled topology: alice and bob behind a NAT each, and a relay."""
    with Lab(find_topology("two-homes")) as lab:
        yield lab


@pytest.fixture
def sockets(two_homes: Lab) -> Iterator[Sockets]:
    """Of ``two_homes``."""
    with sockets_of(two_homes) as made:
        yield made
