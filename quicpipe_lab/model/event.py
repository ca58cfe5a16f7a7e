"""The one form in which everything that happens in a run is written: a line of ``events.jsonl``."""

import json
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Event:
    """``t_s`` on the run's clock (or the program's own, CLOCK_MONOTONIC, before it is merged)."""

    t_s: float
    node: str
    name: str
    data: dict[str, Any] = field(default_factory=dict)

    def dumps(self) -> str:
        """One line of JSON without its newline."""
        return json.dumps(
            {"t_s": round(self.t_s, 6), "node": self.node, "event": self.name, **self.data}
        )

    @classmethod
    def loads(cls, line: str) -> "Event":
        """The inverse of dumps. Raises ValueError."""
        try:
            data = json.loads(line)
            return cls(data.pop("t_s"), data.pop("node"), data.pop("event"), data)
        except (KeyError, AttributeError) as error:
            raise ValueError(f"not an event: {error}") from None
