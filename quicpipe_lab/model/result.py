"""What a run left behind, as data with a JSON form (``result.json`` and ``scenario --json``)."""

import dataclasses
import json
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

from quicpipe_lab.model.scenario import Outcome

FORMAT = 6
"""The version of the JSON form; raised when an old reader would misread or refuse a new file.

1 had no ``certified``, 2 no ``relayed_by``, 3 no ``search``, 4 no ``disturbed``, and up to 5 a
search's ``took_s`` was ``seconds``; all are still read.
"""
_READABLE = (1, 2, 3, 4, 5, FORMAT)


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds from the start of the run to each moment; None where it was not reached."""

    lab_up: float | None = None
    relay_ready: float | None = None
    connected: float | None = None
    direct: float | None = None
    total: float | None = None


@dataclass(frozen=True, slots=True)
class Rtts:
    """The least round-trip time of each path in seconds, as the dialer saw it; 1 ms or more."""

    relayed: float | None = None
    direct: float | None = None


@dataclass(frozen=True, slots=True)
class Bytes:
    """UDP payload bytes of the peer connection that the dialer sent and received, by path."""

    relayed: int = 0
    direct: int = 0


@dataclass(frozen=True, slots=True)
class NatDeclared:
    """The NAT nearest to a peer, in RFC 4787's short words; None where there is none."""

    mapping: str | None = None
    filtering: str | None = None


@dataclass(frozen=True, slots=True)
class Certified:
    """What a NAT was declared and measured to be before the run, by property; see nat-check."""

    ok: bool
    declared: dict[str, str | None] = field(default_factory=dict)
    measured: dict[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Clock:
    """Which clock ``t_s`` counts on, and the Unix time at which it stood at 0."""

    kind: str
    epoch_unix_s: float


@dataclass(frozen=True, slots=True)
class PortSearched:
    """The first port search of a run. ``hit``: which probe of one side found the other, from 1;
    None where none did. ``probes`` and ``opened``: datagrams of both sides, that knocked and that
    opened ports."""

    found: bool
    hit: int | None
    probes: int
    opened: int
    took_s: float

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "PortSearched":
        """Also of format 5 and before. Raises TypeError on a missing field or another one."""
        names = {"seconds": "took_s"}
        return cls(**{names.get(name, name): value for name, value in data.items()})


@dataclass(frozen=True, slots=True)
class CaptureStats:
    """What the capture took and what it missed."""

    packets: int = 0
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class Disturbance:
    """What the scenario did to the network or the relay. ``what``: cut, restored, rebooted,
    switched or relay-restarted; ``nodes``: between which, whom, or who to which router."""

    t_s: float
    what: str
    nodes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class RelayedBy:
    """How many datagrams of the peers the relay forwarded, and where; since it was started last.

    ``filter``: by its XDP filter, in the kernel, whose ``mode`` is native, generic or offload; None
    where it had none. ``userspace``: by its own process.
    """

    userspace: int = 0
    filter: int | None = None
    mode: str | None = None

    @property
    def filter_share(self) -> float:
        """Of all; 0 where nothing was forwarded."""
        filtered = self.filter or 0
        return filtered / max(1, filtered + self.userspace)


@dataclass(frozen=True, slots=True)
class RunResult:
    """One run of a scenario on one backend.

    ``failure`` is None, or one line that says why the outcome is ``failed``.
    ``punching_s`` is when both peers had begun to punch, on the same clock as ``times_s``;
    ``longest_gap_s`` is the longest time without a new echoed byte while a transfer was running.
    ``certified`` is by NAT; None where the NATs were not certified. ``relayed_by`` is None where
    the relay did not live to tell.
    """

    scenario: str
    backend: str
    outcome: Outcome
    expected: Outcome
    ok: bool
    times_s: Times = field(default_factory=Times)
    rtt_s: Rtts = field(default_factory=Rtts)
    bytes: Bytes = field(default_factory=Bytes)
    nat: dict[str, NatDeclared] = field(default_factory=dict)
    run_dir: str | None = None
    punching_s: float | None = None
    longest_gap_s: float | None = None
    transferred_bytes: int = 0
    failure: str | None = None
    clock: Clock | None = None
    capture: CaptureStats | None = None
    certified: dict[str, Certified] | None = None
    relayed_by: RelayedBy | None = None
    search: PortSearched | None = None
    disturbed: list[Disturbance] = field(default_factory=list)
    format: int = FORMAT

    def __await__(self) -> Generator[None, None, "RunResult"]:
        """Itself, at once: in a notebook ``await run(...)`` is what ``run(...)`` is. What does not
        block is ``await run_async(...)``."""
        return self
        yield

    @property
    def has_bytes(self) -> bool:
        """Whether ``bytes`` were counted: the dialer tells them at its end, which a run that fails
        does not wait for."""
        told = self.bytes.relayed or self.bytes.direct
        return self.outcome is not Outcome.FAILED or bool(told)

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary that ``json.dumps`` takes as it is."""
        return dataclasses.asdict(self)

    def dumps(self) -> str:
        """One line of JSON."""
        return json.dumps(self.to_json(), allow_nan=False)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "RunResult":
        """The inverse of to_json. Raises ValueError on another version or a missing field."""
        if not isinstance(data, dict) or data.get("format") not in _READABLE:
            raise ValueError(f"not a result of format {FORMAT}")
        try:
            return cls(
                **{
                    **data,
                    "outcome": Outcome(data["outcome"]),
                    "expected": Outcome(data["expected"]),
                    "times_s": Times(**data["times_s"]),
                    "rtt_s": Rtts(**data["rtt_s"]),
                    "bytes": Bytes(**data["bytes"]),
                    "nat": {role: NatDeclared(**seen) for role, seen in data["nat"].items()},
                    "clock": data["clock"] and Clock(**data["clock"]),
                    "capture": data["capture"] and CaptureStats(**data["capture"]),
                    "certified": _certified(data.get("certified")),
                    "relayed_by": data.get("relayed_by") and RelayedBy(**data["relayed_by"]),
                    "search": data.get("search") and PortSearched.from_json(data["search"]),
                    "disturbed": [Disturbance(**one) for one in data.get("disturbed", ())],
                    "format": FORMAT,
                }
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a result: {error}") from None


def _certified(data: dict[str, Any] | None) -> dict[str, Certified] | None:
    return None if data is None else {nat: Certified(**one) for nat, one in data.items()}
