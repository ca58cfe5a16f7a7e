"""Why it failed: mistrust, no way to the relay, no answer from it, or what the lab says."""

from quicpipe_lab.analysis.explain.causes import Cause, Verdict
from quicpipe_lab.analysis.explain.expired import expired
from quicpipe_lab.analysis.explain.facts import Facts, Fate, Peer
from quicpipe_lab.analysis.explain.forgotten import forgotten
from quicpipe_lab.model.scenario import Outcome
from quicpipe_lab.traffic.routers import DropCause

_CRYPTO_ERRORS = range(0x100, 0x200)
"""RFC 9001, 4.8: a TLS alert as QUIC's error code."""


def why_failed(facts: Facts) -> Verdict:
    """From the outside inwards: the NATs, the relay, the peer."""
    for reason in (
        _different_nat,
        _refused,
        _mistrust,
        _no_relay,
        _expired,
        _restarted,
        _forgotten,
    ):
        if (verdict := reason(facts)) is not None:
            return verdict
    return _failed(Cause.FAILED, problem=_problem(facts))


def _failed(cause: Cause, **details: object) -> Verdict:
    return Verdict(Outcome.FAILED, cause, {name: str(value) for name, value in details.items()})


def _problem(facts: Facts) -> str:
    result = facts.run.result
    if result is None:
        return "it has no result: it was killed, or could not be run"
    return result.failure or "the lab does not say why"


def _different_nat(facts: Facts) -> Verdict | None:
    result = facts.run.result
    if result is None or all(one.ok for one in (result.certified or {}).values()):
        return None
    return _failed(Cause.NAT_DIFFERENT, problem=_problem(facts))


def _refused(facts: Facts) -> Verdict | None:
    refused = facts.first("relay-refused")
    if refused is None:
        return None
    problem, status = str(refused.data["problem"]), refused.data["status"]
    if status:
        return _failed(Cause.RELAY_REFUSED, sender=refused.node, status=status, problem=problem)
    return _failed(Cause.RELAY_UNTRUSTED, sender=refused.node, problem=problem)


def _mistrust(facts: Facts) -> Verdict | None:
    closed = facts.first("closed", facts.dialer.name)
    if closed is None or closed.data["error_code"] not in _CRYPTO_ERRORS:
        return None
    return _failed(Cause.PEER_UNTRUSTED, a=facts.dialer.name, problem=closed.data["reason"])


def _no_relay(facts: Facts) -> Verdict | None:
    """One of the peers was never registered: the dialer comes first."""
    for peer in (facts.dialer, facts.accepter):
        if facts.first("relay-registered", peer.name) is not None:
            continue
        sent = facts.to_relay(peer.name)
        if not sent:
            continue
        arrived = [one for one in sent if one.last.frame.node == facts.run.scenario.relay]
        if arrived:
            if (verdict := _no_answer(facts, peer, arrived)) is not None:
                return verdict
            continue
        where = _last_place(sent)
        if any(one.drop and one.drop.cause is DropCause.BLOCKED for one in sent):
            return _failed(Cause.UDP_BLOCKED, sender=peer.name, nat=where, sent=len(sent))
        return _failed(Cause.RELAY_UNREACHABLE, sender=peer.name, nat=where, sent=len(sent))
    return None


def _no_answer(facts: Facts, peer: Peer, arrived: list[Fate]) -> Verdict | None:
    """None where the relay was heard: then something else kept the peer from being registered, as
    its own end."""
    told = {"sender": peer.name, "arrived": len(arrived)}
    askers = {one.source for one in arrived}
    answers = [one for one in facts.sent(facts.run.scenario.relay) if one.asked_for in askers]
    if not answers:
        return _failed(Cause.RELAY_SILENT, **told)
    if any(one.last.frame.node == peer.name for one in answers):
        return None
    return _failed(Cause.RELAY_ANSWERS_LOST, answers=len(answers), nat=_last_place(answers), **told)


def _last_place(sent: list[Fate]) -> str:
    return sent[-1].last.frame.node


def _expired(facts: Facts) -> Verdict | None:
    return expired(facts, Outcome.FAILED)


def _restarted(facts: Facts) -> Verdict | None:
    """A relay that knows nobody any more is missed once it does not answer a keepalive."""
    restarts = facts.run.named("relay-restarted")
    if not restarts:
        return None
    at_s = restarts[-1].t_s
    missing = [
        peer.name
        for peer in (facts.dialer, facts.accepter)
        if not any(one.t_s > at_s for one in facts.run.named("relay-registered", peer.name))
    ]
    if not missing:
        return None
    return _failed(
        Cause.RELAY_RESTARTED,
        at_s=f"{at_s:.3f}",
        who=" and ".join(missing),
        later_s=f"{facts.run.end_s - at_s:.1f}",
        problem=_problem(facts),
    )


def _forgotten(facts: Facts) -> Verdict | None:
    return forgotten(facts, Outcome.FAILED, f": {_problem(facts)}")
