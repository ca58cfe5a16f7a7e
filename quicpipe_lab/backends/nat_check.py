"""Which backend measures what NATs are: found lazily, for each needs libraries of its own."""

from collections.abc import Callable
from typing import NamedTuple

from quicpipe_lab import resources
from quicpipe_lab.backends.base import AUTO, NAMES, make_do, require_linux
from quicpipe_lab.errors import BackendUnavailableError, ScenarioError
from quicpipe_lab.model.check_topology import topology_of
from quicpipe_lab.model.nat_certificate import Certificate
from quicpipe_lab.model.nat_presets import PRESETS
from quicpipe_lab.model.spelling import did_you_mean
from quicpipe_lab.model.topology import Topology


class Checked(NamedTuple):
    """``backend``: never AUTO."""

    backend: str
    certificates: list[Certificate]


def nats_named(target: str) -> Topology:
    """A preset by name, or a topology by name or path. Raises ScenarioError."""
    if target in PRESETS:
        return topology_of({target: PRESETS[target]})
    topologies = resources.topology_names()
    if target in topologies or "/" in target or target.endswith((".toml", ".json")):
        return resources.find_topology(target)
    nearest = did_you_mean(target, [*PRESETS, *topologies])
    known = f"; presets are {', '.join(PRESETS)}; topologies {', '.join(topologies)}"
    raise ScenarioError("", f"there is no preset or topology {target!r}{nearest or known}")


def check_nats(
    topology: Topology,
    *,
    backend: str = AUTO,
    lifetime: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> Checked:
    """What a topology's NATs are declared and measured to be, in a network built for it.

    ``lifetime``: wait for idle mappings to end as well; in virtual time (``sim``) that takes none.
    ``tell``: see backends.base.run.
    Raises ScenarioError where there is no such backend, and what the backend's own raises.
    """
    if backend not in NAMES:
        raise ScenarioError("backend", f"{backend!r} is none of {', '.join(NAMES)}")
    if backend != "sim":
        try:
            return Checked("netns", _on_the_kernel(topology, lifetime))
        except BackendUnavailableError as problem:
            if backend != AUTO:
                raise
            make_do(problem, tell)
    return Checked("sim", _in_virtual_time(topology, lifetime))


def _on_the_kernel(topology: Topology, lifetime: bool) -> list[Certificate]:
    require_linux()
    from quicpipe_lab.backends.netns import nat_check

    return nat_check.check_nats(topology, lifetime=lifetime)


def _in_virtual_time(topology: Topology, lifetime: bool) -> list[Certificate]:
    from quicpipe_lab.backends.sim import prober

    return prober.certify(topology, lifetime=lifetime)
