"""Finds the data files of ``netns/`` and ``xdp/``, in a wheel or in a checkout."""

import os
from pathlib import Path

from quicpipe_lab.errors import ScenarioError
from quicpipe_lab.model.load import load_scenario, load_topology
from quicpipe_lab.model.scenario import Scenario
from quicpipe_lab.model.scenario_data import load_scenario_data
from quicpipe_lab.model.spelling import did_you_mean
from quicpipe_lab.model.topology import Topology

_PACKAGE = Path(__file__).resolve().parent


def folder(name: str) -> Path:
    """The folder ``netns`` or ``xdp``: inside the package in a wheel, beside it in a checkout.

    ``QUICPIPE_LAB_XDP`` and ``QUICPIPE_LAB_NETNS`` name others: for an XDP filter that was changed,
    say, without changing what is installed.
    """
    own = os.environ.get(f"QUICPIPE_LAB_{name.upper()}")
    if own:
        if not Path(own).is_dir():
            raise ScenarioError("", f"QUICPIPE_LAB_{name.upper()}: there is no folder {own}")
        return Path(own)
    for candidate in (_PACKAGE / "_data" / name, _PACKAGE.parent / name):
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(f"the installation lacks its folder {name!r}")


def scenario_names() -> list[str]:
    """The bundled scenarios, by name."""
    return sorted(path.stem for path in (folder("netns") / "scenarios").glob("*.toml"))


def topology_names() -> list[str]:
    """The bundled topologies, by name."""
    return sorted(path.stem for path in (folder("netns") / "topologies").glob("*.toml"))


def find_scenario(name: str) -> Scenario:
    """A bundled scenario by name, or the user's own by path (anything with a slash or ``.toml``),
    or that of a run: its ``scenario.json``.

    Raises ScenarioError.
    """
    path = _path_of(name, "scenarios", scenario_names())
    if path.suffix == ".json":
        return load_scenario_data(path)
    return load_scenario(path, lambda topology: find_topology(topology, beside=path.parent))


def find_topology(name: str, beside: Path = Path()) -> Topology:
    """A bundled topology by name, or the user's own by path, relative to ``beside``."""
    return load_topology(beside / _path_of(name, "topologies", topology_names()))


def _path_of(name: str, kind: str, bundled: list[str]) -> Path:
    if "/" in name or name.endswith((".toml", ".json")):
        return Path(name)
    if name in bundled:
        return folder("netns") / kind / f"{name}.toml"
    singular = {"scenarios": "scenario", "topologies": "topology"}[kind]
    known = f"; there are {', '.join(bundled)}"
    raise ScenarioError(
        "", f"there is no {singular} {name!r}{did_you_mean(name, bundled) or known}"
    )
