"""Whether a mapping had ended when somebody still sent to it."""

from quicpipe_lab.analysis.explain.causes import Cause, Verdict
from quicpipe_lab.analysis.explain.facts import Facts
from quicpipe_lab.model.scenario import Outcome
from quicpipe_lab.traffic.routers import DropCause


def expired(facts: Facts, outcome: Outcome) -> Verdict | None:
    """None where none had."""
    late = [drop for drop in facts.drops if drop.cause is DropCause.EXPIRED and drop.mapping]
    if not late or late[0].mapping is None:
        return None
    return Verdict(
        outcome,
        Cause.MAPPING_EXPIRED,
        {
            "nat": late[0].node,
            "port": str(late[0].destination.port),
            "inside": str(late[0].mapping.inside),
            "idle_s": f"{late[0].idle_s or 0.0:.1f}",
            "dropped": str(len(late)),
        },
    )
