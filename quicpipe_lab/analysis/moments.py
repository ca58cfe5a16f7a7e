"""The moments of a run that a person wants to find in a picture."""

from typing import NamedTuple

from quicpipe_lab.analysis.run_files import LAB, Run
from quicpipe_lab.model.event import Event


class Moment(NamedTuple):
    """``who`` did ``what``, in a few words. ``bad``: somebody did not want it."""

    t_s: float
    who: str
    what: str
    bad: bool = False

    @property
    def text(self) -> str:
        """For a label."""
        return f"{self.who} {self.what}".strip()


def moments(run: Run, together_s: float = 0.0) -> list[Moment]:
    """In order of time. What both peers do within ``together_s`` is one moment, of the second."""
    peers = {run.scenario.dialer, run.scenario.accepter}
    found: list[Moment] = []
    for moment in (_moment(event) for event in run.events):
        if moment is None:
            continue
        for index, other in enumerate(found):
            if (
                other.what == moment.what
                and {other.who, moment.who} == peers
                and moment.t_s - other.t_s <= together_s
            ):
                del found[index]
                moment = moment._replace(who="both")
                break
        found.append(moment)
    return found if any(one.what == "connected" for one in found) else [*_ready(run), *found]


def _ready(run: Run) -> list[Moment]:
    """Of interest where nothing better came of it."""
    return [Moment(event.t_s, event.node, "ready") for event in run.named("ready")]


def _moment(event: Event) -> Moment | None:
    who, data = "" if event.node == LAB else event.node, event.data
    what, bad = "", False
    match event.name:
        case "relay-registered":
            what = "registered"
        case "relay-lost" | "relay-refused":
            what, bad = event.name.replace("relay-", "relay "), True
        case "connected":
            what = "connected"
        case "punch-started":
            number = data.get("round", 1)
            what = "punching" if number == 1 else f"punching again ({number})"
        case "punch-failed":
            what, bad = "no hole", True
        case "direct-silent":
            what, bad = "silence", True
        case "path-changed":
            what = "direct" if data["direct"] else "back to the relay"
        case "failed":
            what, bad = "failed", True
        case _:
            what, bad = _done(event)
    return Moment(event.t_s, who, what, bad) if what else None


def _done(event: Event) -> tuple[str, bool]:
    """What the lab did to the network or to the relay."""
    data = event.data
    match event.name:
        case "cut" | "restored":
            return f"{event.name} {' to '.join(data['between'])}", event.name == "cut"
        case "rebooted":
            return f"rebooted {data['router']}", True
        case "switched":
            return f"switched {data['host']} to {data['to']}", True
        case "relay-restarted":
            return "restarted the relay", True
    return "", False
