"""From facts to the cause: pure decisions, one function for each way to end."""

from collections import Counter

from quicpipe_lab.analysis.explain.causes import Cause, Verdict
from quicpipe_lab.analysis.explain.direct import both_mappings, why_direct
from quicpipe_lab.analysis.explain.expired import expired
from quicpipe_lab.analysis.explain.facts import Facts, Peer
from quicpipe_lab.analysis.explain.failed import why_failed
from quicpipe_lab.analysis.explain.forgotten import forgotten
from quicpipe_lab.analysis.run_files import LAB
from quicpipe_lab.model.nat import (
    FilteringBehavior,
    FilterScope,
    MappingBehavior,
)
from quicpipe_lab.model.prediction import predict
from quicpipe_lab.model.scenario import Outcome, in_use
from quicpipe_lab.model.topology import Firewall
from quicpipe_lab.traffic.routers import DropCause

_APDF = FilteringBehavior.ADDRESS_AND_PORT_DEPENDENT
_EIF = FilteringBehavior.ENDPOINT_INDEPENDENT
_EIM = MappingBehavior.ENDPOINT_INDEPENDENT
_FILTERED = (DropCause.FILTERED, DropCause.NO_MAPPING, DropCause.UNSOLICITED)


def judge(facts: Facts) -> Verdict:
    """Why the run ended as it did."""
    result = facts.run.result
    outcome = Outcome.FAILED if result is None else result.outcome
    if outcome is Outcome.FAILED:
        verdict = why_failed(facts)
        return _why_not_direct(facts, verdict) if verdict.cause is Cause.FAILED else verdict
    return why_direct(facts) if outcome is Outcome.DIRECT else _why_relayed(facts)


def _why_relayed(facts: Facts) -> Verdict:
    for reason in (_not_tried, _died, _blocked, _no_hairpin, _expired, _early, _depends, _lost):
        if (verdict := reason(facts)) is not None:
            return verdict
    return _relayed(Cause.RELAYED, why=_theory(facts))


def _why_not_direct(facts: Facts, verdict: Verdict) -> Verdict:
    """A run that waited for the direct path in vain was relayed, and has the cause of that."""
    problem = verdict.details["problem"]
    if in_use(Outcome.DIRECT) not in problem:
        return verdict
    relayed = _why_relayed(facts)
    return Verdict(Outcome.FAILED, relayed.cause, relayed.details, in_vain=problem)


def _theory(facts: Facts) -> str:
    """Where the capture does not tell, what these NATs lead to (model/prediction.py)."""
    scenario = facts.run.scenario
    reason = predict(scenario.topology, scenario.dialer, scenario.accepter, scenario.family).reason
    seen = "the capture does not tell why" if facts.is_captured else "nothing was captured"
    return f"{seen}; by what they are said to be, {reason}"


def _relayed(cause: Cause, **details: object) -> Verdict:
    return Verdict(Outcome.RELAYED, cause, {name: str(value) for name, value in details.items()})


def _not_tried(facts: Facts) -> Verdict | None:
    if facts.first("punch-started") is not None:
        return None
    if facts.first("candidates-exchanged") is not None:
        return _relayed(Cause.NOT_TRIED, why="neither side had begun to punch when the run ended")
    after = facts.run.scenario.direct_after_bytes
    result = facts.run.result
    if result is None or not result.has_bytes:
        why = f"it was to begin after {after} bytes" if after else ""
    elif (moved := result.bytes.relayed) < after:
        why = f"it was to begin after {after} bytes, and {moved} were moved"
    else:
        why = ""
    return _relayed(Cause.NOT_TRIED, why=why or "the peers did not exchange candidates")


_BREAKING = ("cut", "rebooted", "switched")
"""What the lab does that a direct path may die of."""


def _died(facts: Facts) -> Verdict | None:
    """It was direct once, or became so when nobody looked any more: see ``backends/summary.py``."""
    changes = facts.run.named("path-changed", facts.dialer.name)
    moved = next((event.t_s for event in changes if event.data["direct"]), None)
    if moved is None:
        return None
    last = facts.first("steps-done", LAB)
    if last is not None:
        changes = [event for event in changes if event.t_s <= last.t_s]
        if last.t_s < moved:
            return _relayed(Cause.FOUND_TOO_LATE, late_s=f"{moved - last.t_s:.3f}")
    silent = facts.run.named("direct-silent")
    at_s = changes[-1].t_s
    expired = _expired(facts)
    if expired is not None:
        return expired
    done = [one for one in facts.run.events if one.t_s <= at_s and one.name in _BREAKING]
    why = ""
    if done and done[-1].name == "cut":
        why = f", after the way between {' and '.join(done[-1].data['between'])} was cut"
    elif done and done[-1].name == "switched":
        why = ", after {host} switched to {to}".format_map(done[-1].data)
    elif done:
        end = ": the direct path fell silent, and none was found again"
        if (verdict := forgotten(facts, Outcome.RELAYED, end)) is not None:
            return verdict
        why = f", after {done[-1].data['router']} was rebooted"
    silence_s = f"{silent[-1].data['silence_s']:.2f}" if silent else "some"
    return _relayed(Cause.DIRECT_PATH_DIED, silence_s=silence_s, at_s=f"{at_s:.3f}", why=why)


def _blocked(facts: Facts) -> Verdict | None:
    for sender in (facts.dialer, facts.accepter):
        for fate in facts.punches(sender):
            firewall = fate.drop and facts.topology.by_name.get(fate.drop.node)
            if (
                fate.drop
                and isinstance(firewall, Firewall)
                and fate.drop.cause is DropCause.BLOCKED
            ):
                other = facts.other(sender).name
                return _relayed(
                    Cause.PORTS_BLOCKED,
                    nat=fate.drop.node,
                    sender=sender.name,
                    other=other,
                    address=fate.asked_for,
                )
    return None


def _no_hairpin(facts: Facts) -> Verdict | None:
    for sender in (facts.dialer, facts.accepter):
        for fate in facts.punches(sender):
            if fate.drop is not None and fate.drop.cause is DropCause.NO_HAIRPIN:
                return _relayed(
                    Cause.NO_HAIRPIN, nat=fate.drop.node, sender=sender.name, address=fate.asked_for
                )
    return None


def _expired(facts: Facts) -> Verdict | None:
    return expired(facts, Outcome.RELAYED)


def _early(facts: Facts) -> Verdict | None:
    """Plain conntrack gave a mapping's port away to a punch that came too early."""
    for mover in (facts.dialer, facts.accepter):
        other = facts.other(mover)
        port = facts.port_towards_peer(mover)
        if (
            mover.behavior.mapping is _EIM
            and facts.masquerading(mover)
            and mover.observed is not None
            and port not in (None, mover.observed.port)
        ):
            return _relayed(
                Cause.EARLY_PACKET,
                mover=mover.name,
                other=other.name,
                nat=facts.masquerading(mover),
                relay_port=mover.observed.port,
                port=port,
                filterer=other.filterer or other.name,
            )
    return None


def _depends(facts: Facts) -> Verdict | None:
    """A port that depends on the destination, which the other side cannot know.

    By what the NATs are it is known whose mapping matters; the capture must show that its port
    did differ, and that something was kept out.
    """
    movers = _movers(facts)
    filtered = any(
        fate.drop is not None and fate.drop.cause in _FILTERED
        for peer in (facts.dialer, facts.accepter)
        for fate in facts.punches(peer)
    )
    ports = {peer.name: facts.port_towards_peer(peer) for peer in movers}
    if not movers or (facts.is_captured and not filtered):
        return None
    for peer in movers:
        if peer.observed is None or ports[peer.name] in (None, peer.observed.port):
            return None
    a = movers[0]
    b = facts.other(a)
    assert a.observed is not None
    told = {"relay_port": a.observed.port, "port": ports[a.name], "mapper": a.mapper}
    if len(movers) == 2:
        assert b.observed is not None
        return _relayed(
            Cause.BOTH_MAPPINGS_DEPEND,
            a=a.name,
            b=b.name,
            mappings=both_mappings(facts),
            other_relay_port=b.observed.port,
            other_port=ports[b.name],
            **told,
        )
    return _relayed(
        Cause.ONE_MAPPING_DEPENDS,
        mover=a.name,
        other=b.name,
        mapping=a.behavior.mapping,
        filterer=b.filterer,
        **told,
    )


def _movers(facts: Facts) -> list[Peer]:
    """Whose mapping keeps the two apart: one that faces a filter which wants to know the port, or
    both, where each filter has state for each mapping (see model/expectation.py)."""
    peers = [facts.dialer, facts.accepter]
    found = [
        peer
        for peer in peers
        if peer.behavior.mapping is not _EIM and facts.other(peer).behavior.filtering is _APDF
    ]
    if not found and all(
        peer.behavior.mapping is not _EIM
        and peer.behavior.filtering is not _EIF
        and peer.behavior.filter_scope is FilterScope.MAPPING
        for peer in peers
    ):
        return peers
    return found


def _lost(facts: Facts) -> Verdict | None:
    """On the way, and not at a router that kept them out."""
    sent = [*facts.punches(facts.dialer), *facts.punches(facts.accepter)]
    places = Counter(
        fate.drop.node
        for fate in sent
        if fate.drop and fate.drop.cause in (DropCause.LOST, DropCause.NOT_PASSED_ON)
    )
    if not places:
        return None
    where = ", ".join(
        f"{count} were not seen any more after {node}" for node, count in places.items()
    )
    arrived = sum(fate.arrived for fate in sent)
    return _relayed(Cause.PUNCHES_LOST, sent=len(sent), arrived=arrived, where=where)
