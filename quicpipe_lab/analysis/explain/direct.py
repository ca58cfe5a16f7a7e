"""Why it went direct: by which mechanism of hole punching."""

from quicpipe_lab.analysis.explain.causes import Cause, Verdict
from quicpipe_lab.analysis.explain.facts import Facts, Peer, parse_address
from quicpipe_lab.model.event import Event
from quicpipe_lab.model.nat import MappingBehavior
from quicpipe_lab.model.scenario import Outcome
from quicpipe_lab.model.topology import CORE


def why_direct(facts: Facts) -> Verdict:
    """From what the peers said of the answers to their punches."""
    search = facts.run.result and facts.run.result.search
    if search and search.found:
        return _direct(
            Cause.PORT_SEARCH, probes=f"{search.probes:,}", seconds=f"{search.took_s:.2f}"
        )
    answers = _answers(facts)
    crooked = next((one for one in answers if one.data.get("heard_from")), None)
    if crooked is not None:
        return _direct(
            Cause.CROOKED,
            name=crooked.node,
            sent_to=crooked.data["address"],
            heard_from=crooked.data["heard_from"],
            mappings=both_mappings(facts),
        )
    for reason in (_own_addresses, _open_ends, _hairpin, _reflexive, _firewalls):
        if (verdict := reason(facts, answers)) is not None:
            return verdict
    a, b = facts.dialer, facts.accepter
    if a.observed is not None and b.observed is not None:
        return _direct(Cause.SIMULTANEOUS_OPEN, address_a=a.observed, address_b=b.observed)
    return _direct(Cause.DIRECT, address=_path_address(facts))


def both_mappings(facts: Facts) -> str:
    """As ``APDM`` or ``ADM and APDM``."""
    words = [str(peer.behavior.mapping) for peer in (facts.dialer, facts.accepter)]
    return words[0] if words[0] == words[1] else " and ".join(words)


def _direct(cause: Cause, **details: object) -> Verdict:
    return Verdict(Outcome.DIRECT, cause, {name: str(value) for name, value in details.items()})


def _answers(facts: Facts) -> list[Event]:
    """To the punches of the round that led to the path in use."""
    moved = [
        one for one in facts.run.named("path-changed", facts.dialer.name) if one.data["direct"]
    ]
    end_s = moved[-1].t_s if moved else facts.run.end_s
    rounds = [
        one.t_s for one in facts.run.named("punch-started", facts.dialer.name) if one.t_s <= end_s
    ]
    # The other side may have begun a little earlier.
    start_s = rounds[-1] - 1.0 if len(rounds) > 1 else 0.0
    return [one for one in facts.run.named("punch-answered") if one.t_s >= start_s]


def _path_address(facts: Facts) -> str:
    moved = [
        one for one in facts.run.named("path-changed", facts.dialer.name) if one.data["direct"]
    ]
    return str(moved[-1].data["address"]) if moved else "an address that it did not say"


def _own_addresses(facts: Facts, _: list[Event]) -> Verdict | None:
    """Both in one network that is not the internet."""
    a, b = facts.dialer, facts.accepter
    network = _network(a)
    if network != _network(b) or network == CORE:
        return None
    address = parse_address(_path_address(facts))
    if address is None or (b.observed is not None and address.host == b.observed.host):
        return None
    return _direct(Cause.SAME_NETWORK, a=a.name, b=b.name, network=network)


def _network(peer: Peer) -> str:
    """The nearest router that translates for it, behind which its own address means something."""
    return peer.translators[0] if peer.translators else CORE


def _open_ends(facts: Facts, _: list[Event]) -> Verdict | None:
    peers = [facts.dialer, facts.accepter]
    closed = [peer for peer in peers if not peer.is_open]
    if not closed:
        return _direct(Cause.NO_ROUTERS, a=peers[0].name, b=peers[1].name)
    if len(closed) == 2:
        return None
    names = {"closed": closed[0].name, "open": facts.other(closed[0]).name}
    return _direct(Cause.ONE_IS_OPEN, router=closed[0].filterer, **names)


def _hairpin(facts: Facts, _: list[Event]) -> Verdict | None:
    a, b = facts.dialer, facts.accepter
    if a.translators[-1:] != b.translators[-1:] or not a.translators:
        return None
    return _direct(
        Cause.HAIRPIN, nat=a.translators[-1], a=a.name, b=b.name, address_b=_path_address(facts)
    )


def _reflexive(facts: Facts, answers: list[Event]) -> Verdict | None:
    """One side learnt the other's port from its punches."""
    for answer in answers:
        address = parse_address(str(answer.data["address"]))
        if not answer.data.get("peer_reflexive") or address is None:
            continue
        learner = facts.dialer if answer.node == facts.dialer.name else facts.accepter
        mover = facts.other(learner)
        if mover.observed is None or address == mover.observed:
            continue
        return _direct(
            Cause.PEER_REFLEXIVE,
            mover=mover.name,
            reason=_why_moved(facts, mover),
            other=learner.name,
            filterer=learner.filterer,
            port=address.port,
            relay_port=mover.observed.port,
        )
    return None


def _why_moved(facts: Facts, mover: Peer) -> str:
    if mover.behavior.mapping is MappingBehavior.ENDPOINT_INDEPENDENT:
        masquerades = facts.masquerading(mover)
        if masquerades:
            return f"an early packet had taken it at {masquerades}, plain Linux masquerading"
        return f"{mover.mapper} had given it away"
    return f"{mover.mapper} maps per destination, {mover.behavior.mapping}"


def _firewalls(facts: Facts, _: list[Event]) -> Verdict | None:
    a, b = facts.dialer, facts.accepter
    if a.translators or b.translators:
        return None
    return _direct(Cause.FIREWALLS, address_a=a.observed, address_b=b.observed)
