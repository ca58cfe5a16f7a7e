"""The plugin for pytest: labs, pairs of NATs and scenarios as fixtures.

pytest loads this in every project of an environment that has the package, so nothing but pytest is
imported before a test asks for a fixture.
"""

import os
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from quicpipe_lab.api import BlockingLab, Lab
    from quicpipe_lab.backends.matrix import Cell
    from quicpipe_lab.model.result import RunResult
    from quicpipe_lab.pytest_plugin.kept import Kept

_MARKERS = (
    "lab(topology): the topology of the fixtures lab and async_lab: a bundled one's name, the path"
    " of a TOML file (relative to the test's), or a quicpipe_lab.model.topology.Topology."
    " lab(scenario=...): the same of a scenario, which is also what run_scenario() runs.",
    "nat_pair(dialers, accepters=dialers): which NATs the fixture nat_pair goes through, as"
    ' "EIM/APDF,symmetric" or "presets"; without arguments all nine cells of RFC 4787 with all.',
)

KEPT: "pytest.StashKey[Kept]" = pytest.StashKey()
"""What a test's labs and runs left."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("quicpipe-lab")
    group.addoption(
        "--lab-require",
        action="store_true",
        default=bool(os.environ.get("QUICPIPE_LAB_REQUIRE")),
        help="tests that need a lab fail where they would be skipped because this machine cannot"
        " have one (also by setting QUICPIPE_LAB_REQUIRE to anything)",
    )
    group.addoption(
        "--lab-keep",
        action="store_true",
        help="keep the run directories of tests that pass, too",
    )


def pytest_configure(config: pytest.Config) -> None:
    for marker in _MARKERS:
        config.addinivalue_line("markers", marker)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "nat_pair" in metafunc.fixturenames:
        from quicpipe_lab.pytest_plugin import asked_for

        pairs = asked_for.nat_pairs(metafunc.definition)
        metafunc.parametrize("nat_pair", pairs.values(), ids=pairs.keys(), indirect=True)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    kept = item.stash.get(KEPT, None)
    if kept is not None and report.failed and report.when != "teardown":
        kept.tell(report)
    return report


@pytest.fixture
def lab(request: pytest.FixtureRequest) -> "Iterator[BlockingLab]":
    """A running lab, captured, whose calls block: quicpipe_lab.api.BlockingLab.

    Its topology is what the marker ``lab`` says; else, where the test has ``nat_pair``, alice
    behind the one NAT and bob behind the other; else two-homes. Its run directory is kept where the
    test fails. Skipped where this machine cannot have labs.
    """
    from quicpipe_lab.pytest_plugin import given

    yield from given.blocking_lab(request)


@pytest.fixture
def async_lab(request: pytest.FixtureRequest) -> "Iterator[Lab]":
    """The same for asyncio, and not up yet: quicpipe_lab.Lab, for ``async with async_lab as lab:``.

    It needs no plugin for asyncio, and goes with any.
    """
    from quicpipe_lab.pytest_plugin import given

    yield from given.asyncio_lab(request)


@pytest.fixture
def nat_pair(request: pytest.FixtureRequest) -> "Cell":
    """Two NATs that meet: quicpipe_lab.backends.matrix.Cell. The test runs once for each pair.

    ``row`` and ``column`` are the names of the dialer's and of the accepter's, ``row_nat`` and
    ``column_nat`` their behaviours, ``expected`` is what theory says comes of hole punching (None
    where chance decides). The marker ``nat_pair`` chooses them.
    """
    pair: Cell = request.param
    return pair


@pytest.fixture
def run_scenario(request: pytest.FixtureRequest) -> "Callable[..., RunResult]":
    """Runs a scenario, also by its name or path, and returns its RunResult.

    ``run_scenario()`` runs that of the marker ``lab``, or that of ``nat_pair``; ``backend="sim"``
    in virtual time, on any machine; other options are those of quicpipe_lab.backends.base.run.
    Where the test fails, its report says why each run ended as it did.
    """
    from quicpipe_lab.pytest_plugin import given

    def run(scenario: Any = None, *, backend: str = "netns", **options: Any) -> "RunResult":
        __tracebackhide__ = True
        return given.run(request, scenario, backend, options)

    return run
