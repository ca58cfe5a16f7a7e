"""Scenarios as JSON: what a run directory says of what was run (``scenario.json``).

The inner form is that of the TOML files, so that one reader, with all its checks, serves both:
fields that have their default are left out, and the topology stands inside.
"""

import json
from dataclasses import MISSING, fields, replace
from enum import Enum
from pathlib import Path
from typing import Any

from quicpipe_lab.errors import ScenarioError
from quicpipe_lab.model import document
from quicpipe_lab.model.link import LinkBehavior
from quicpipe_lab.model.load import scenario_from_table
from quicpipe_lab.model.scenario import (
    Attack,
    Cut,
    Idle,
    Reboot,
    RestartRelay,
    Restore,
    Scenario,
    Step,
    Switch,
    Transfer,
    WaitFor,
)
from quicpipe_lab.model.topology import Firewall, Host, Link, Nat, Relay, Topology

FORMAT = 1
"""The version of the JSON form, raised with any change that an old reader would misread.

A form that only the TOML files' own fields have been added to keeps its number.
"""

STEP_NAMES: dict[type, str] = {
    Transfer: "transfer",
    WaitFor: "wait",
    Cut: "cut",
    Restore: "restore",
    Idle: "idle",
    Reboot: "reboot",
    Switch: "switch",
    RestartRelay: "restart-relay",
    Attack: "attack",
}
_NODES: dict[type, str] = {Host: "host", Relay: "relay", Nat: "nat", Firewall: "firewall"}


def scenario_to_data(scenario: Scenario) -> dict[str, Any]:
    """A plain dictionary that ``json.dumps`` takes as it is."""
    table = _not_default(scenario, leave_out=("name", "topology", "steps", "meanwhile"))
    roles = {role: table.pop(role) for role in ("dialer", "accepter", "relay")}
    if scenario.meanwhile:
        table["meanwhile"] = [
            {**_not_default(one, leave_out=("step",)), **_step(one.step)}
            for one in scenario.meanwhile
        ]
    return {
        "format": FORMAT,
        "name": scenario.name,
        "topology_name": scenario.topology.name,
        "scenario": {
            **table,
            "roles": roles,
            "topology": _topology(scenario.topology),
            "step": [_step(one) for one in scenario.steps],
        },
    }


def scenario_from_data(data: Any) -> Scenario:
    """The inverse of scenario_to_data; nodes come ordered by kind. Raises ScenarioError."""
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ScenarioError("", f"not a scenario of format {FORMAT}")
    texts = [data.get(key) for key in ("name", "topology_name")]
    table = data.get("scenario")
    if not all(isinstance(text, str) for text in texts) or not isinstance(table, dict):
        raise ScenarioError("", "not a scenario")
    name, topology_name = map(str, texts)
    scenario = scenario_from_table(table, name)
    return replace(scenario, topology=replace(scenario.topology, name=topology_name))


def load_scenario_data(path: Path) -> Scenario:
    """Read a ``scenario.json``. Raises ScenarioError, also where the file cannot be read."""
    try:
        data = json.loads(document.read(path))
    except (ValueError, RecursionError) as error:
        raise ScenarioError("", f"cannot read {path}: {error}") from None
    try:
        return scenario_from_data(data)
    except ScenarioError as error:
        raise ScenarioError("", f"{path}: {error}") from None


def dump_scenario(scenario: Scenario) -> str:
    """The text of ``scenario.json``."""
    return json.dumps(scenario_to_data(scenario), allow_nan=False) + "\n"


def _step(step: Step) -> dict[str, Any]:
    return {"do": STEP_NAMES[type(step)], **_not_default(step)}


def _topology(topology: Topology) -> dict[str, Any]:
    table: dict[str, Any] = _not_default(topology, leave_out=("name", "nodes", "links"))
    for node in topology.nodes:
        behavior = _not_default(node.behavior) if isinstance(node, Nat | Firewall) else {}
        table.setdefault(_NODES[type(node)], []).append({"name": node.name, **behavior})
    table["link"] = [_link(one) for one in topology.links]
    return table


def _link(link: Link) -> dict[str, Any]:
    table = _not_default(link, leave_out=("towards_lower", "towards_upper"))
    for side, behavior in (("down", link.towards_lower), ("up", link.towards_upper)):
        if behavior is not None:
            table[side] = _behavior(behavior)
    return table


def _behavior(behavior: LinkBehavior) -> dict[str, Any]:
    table = _not_default(behavior, leave_out=("burst_loss",))
    if behavior.burst_loss is not None:
        table["burst_loss"] = _not_default(behavior.burst_loss)
    return table


def _not_default(record: Any, leave_out: tuple[str, ...] = ()) -> dict[str, Any]:
    """The fields of a dataclass that say something, as JSON has them."""
    table = {}
    for field in fields(record):
        value = getattr(record, field.name)
        if field.name not in leave_out and (field.default is MISSING or value != field.default):
            table[field.name] = _plain(value)
    return table


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return value.value if isinstance(value, Enum) else value
