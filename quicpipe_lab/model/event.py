"""The one form in which everything that happens in a run is written: a line of ``events.jsonl``."""

import dataclasses
import json
import re
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from quicpipe_lab.model.address import TransportAddress

_OWN_KEYS = ("t_s", "node", "event")

PEER_EVENTS = (
    "ready",
    "statistics",
    "relay-registered",
    "relay-refused",
    "relay-lost",
    "mailbox-answered",
    "initial-ready",
    "connected",
    "stream-broken",
    "stream-refused",
    "candidates-exchanged",
    "punch-started",
    "punch-answered",
    "punch-failed",
    "port-search-started",
    "port-search-ended",
    "direct-silent",
    "path-changed",
    "closed",
)
"""The names of all that the programs of dialer and accepter report; what each says is in
protocol/events.py. They stand here so that a scenario that waits for one can be checked."""


@dataclass(frozen=True, slots=True)
class Event:
    """``t_s`` on the run's clock (or the program's own, CLOCK_MONOTONIC, before it is merged)."""

    t_s: float
    node: str
    name: str
    data: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.data.keys().isdisjoint(_OWN_KEYS):
            raise ValueError(f"an event's data may not have the keys {', '.join(_OWN_KEYS)}")

    def dumps(self) -> str:
        """One line of JSON without its newline. Raises ValueError on NaN and infinity."""
        return json.dumps(
            {"t_s": round(self.t_s, 6), "node": self.node, "event": self.name, **self.data},
            allow_nan=False,
        )

    @classmethod
    def loads(cls, line: str) -> "Event":
        """The inverse of dumps. Raises ValueError."""
        try:
            data = json.loads(line)
            t_s, node, name = (data.pop(key) for key in _OWN_KEYS)
        except (KeyError, AttributeError, TypeError, RecursionError) as error:
            raise ValueError(f"not an event: {error}") from None
        if isinstance(t_s, bool) or not isinstance(t_s, int | float):
            raise ValueError(f"not an event: t_s is {t_s!r}")
        if not isinstance(node, str) or not isinstance(name, str):
            raise ValueError("not an event: node and event are strings")
        return cls(t_s, node, name, data)


def describe(machine_event: Any) -> tuple[str, dict[str, Any]]:
    """Name and data for a machine's event, a dataclass: ``RelayLost(retry_s=1)`` is
    ``relay-lost`` with ``{"retry_s": 1}``."""
    kind: type = type(machine_event)
    return name_of(kind), as_json(machine_event)


def as_json(value: Any) -> Any:
    """What JSON can say of a value: addresses as text, bytes as hex, dataclasses as objects."""
    if isinstance(value, TransportAddress):
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, tuple | list):
        return [as_json(one) for one in value]
    if isinstance(value, dict):
        return {key: as_json(one) for key, one in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {one.name: as_json(getattr(value, one.name)) for one in dataclasses.fields(value)}
    return value


@cache
def name_of(kind: type) -> str:
    """Of a machine's event: ``relay-lost`` for ``RelayLost``."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", kind.__name__).lower()
