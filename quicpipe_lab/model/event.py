"""The one form in which everything that happens in a run is written: a line of ``events.jsonl``."""

import json
from dataclasses import dataclass, field
from typing import Any

_OWN_KEYS = ("t_s", "node", "event")


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
        except (KeyError, AttributeError, TypeError) as error:
            raise ValueError(f"not an event: {error}") from None
        if isinstance(t_s, bool) or not isinstance(t_s, int | float):
            raise ValueError(f"not an event: t_s is {t_s!r}")
        if not isinstance(node, str) or not isinstance(name, str):
            raise ValueError("not an event: node and event are strings")
        return cls(t_s, node, name, data)
