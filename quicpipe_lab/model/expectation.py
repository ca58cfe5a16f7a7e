"""What must come of punching between two NATs: RFC 4787's behaviours against each other.

One socket a peer, the relay at a third address, random external ports, both sides sending for
several round trips, candidates signalled through the relay. Source: NAT-TRAVERSAL study of this
project, after Ford, Srisuresh and Kegel, "Peer-to-Peer Communication Across Network Address
Translators" (2005), and RFC 5128, 3.4; verified cell by cell by the tests.
"""

from quicpipe_lab.model.nat import (
    FilteringBehavior,
    FilterScope,
    MappingBehavior,
    NatBehavior,
    UnsolicitedReaction,
)

_APDF = FilteringBehavior.ADDRESS_AND_PORT_DEPENDENT
_EIF = FilteringBehavior.ENDPOINT_INDEPENDENT
_ADM = MappingBehavior.ADDRESS_DEPENDENT
_APDM = MappingBehavior.ADDRESS_AND_PORT_DEPENDENT
_EIM = MappingBehavior.ENDPOINT_INDEPENDENT


def can_go_direct(one: NatBehavior, other: NatBehavior, *, search: bool = False) -> bool:
    """Whether peers behind these two NATs can move to a direct path.

    ``search``: by a port search too, see ``_search_finds``.

    An APDF filter must face an EIM mapping: only then does its owner know the port to open it
    for. 49 of the 81 cells. In four of them both mappings are APDM: both sides' ports depend on
    each other's, and one side hears from another address than it sends to (DirectPath.canonical).

    With the filter's state kept for each mapping, {ADM,APDM}/ADF against {ADM,APDM}/ADF fails too,
    four cells. What each sends to is the
    port of the other's mapping towards the relay, the only one that is known, and this mapping has
    never been used towards the peer. One of the two must let the other in there, to learn the port
    of the mapping that has; the filter of an endpoint does, and one side's is enough.
    """
    if _must_guess(one, other) or _must_guess(other, one):
        return search and _search_finds(one, other)
    if _knows_only_the_relay(one) and _knows_only_the_relay(other):
        return search and _search_finds(one, other)
    return True


def _search_finds(one: NatBehavior, other: NatBehavior) -> bool:
    """Whether a port search (protocol/port_search.py) finds what punching does not; by chance, but
    but for one in thousands it does.

    One side's filter may have to be opened for a port that nobody knows: that side knocks, and
    opens it so. Its own port must stay the same for the answer to what hits, or the other's must:
    not both mappings may be APDM. 24 of the 32 cells that punching leaves (NAT-TRAVERSAL study,
    section 2; Ford et al. 2005, 5.1; D. Anderson, "How NAT traversal works", 2020).

    Where both filters have to be opened, or both mappings are APDM, both sides would have to guess
    at once: some 54,000 probes a side for 50 %, and few in a hundred go direct by ours. With one
    exception, found by our tests. An ADM/APDF NAT that keeps its filter for each endpoint lets in,
    at the mapping towards the relay, what comes from any port that was knocked at; and as each of
    256 ports is opened by a datagram to there, some do come. Each side thus learns one of the
    other's ports, and opens all of its own for it; and they meet.
    """
    if one.mapping is other.mapping is _APDM:
        return False
    if _must_guess(one, other) and _must_guess(other, one):
        return _hears_at_the_relays_mapping(one) and _hears_at_the_relays_mapping(other)
    return True


def _hears_at_the_relays_mapping(nat: NatBehavior) -> bool:
    return nat.mapping is _ADM and nat.filter_scope is FilterScope.ENDPOINT


def _must_guess(nat: NatBehavior, other: NatBehavior) -> bool:
    """Whether a filter can be opened only for a port that nobody knows."""
    return nat.filtering is _APDF and other.mapping is not _EIM


def is_a_race(one: NatBehavior, other: NatBehavior, *, search: bool = False) -> bool:
    """Whether a pair that can go direct may miss: by chance, as nothing but arrival times decide.

    ``search``: with a port search, where it is the only hope.

    Where a punch arrives at plain conntrack before its owner's own has left, the entry that it
    leaves there occupies the port, and the owner's goes out by another (UnsolicitedReaction). The
    peer hears from it all the same, and answers there, unless its filter looks at ports.
    """
    if not can_go_direct(one, other):
        # What opens the hard side's ports comes to the other NAT unsolicited. And where both ports
        # have to be guessed, two thousand probes of each side guess right now and then.
        plain = UnsolicitedReaction.CONNTRACK in (one.unsolicited, other.unsolicited)
        return search and (plain or not can_go_direct(one, other, search=True))
    lossy = (
        nat.unsolicited is UnsolicitedReaction.CONNTRACK and peer.filtering is _APDF
        for nat, peer in ((one, other), (other, one))
    )
    return any(lossy)


def _knows_only_the_relay(nat: NatBehavior) -> bool:
    """Whether the mapping towards the relay stays shut to peers, whatever is sent to them."""
    return (
        nat.mapping is not _EIM
        and nat.filtering is not _EIF
        and nat.filter_scope is FilterScope.MAPPING
    )
