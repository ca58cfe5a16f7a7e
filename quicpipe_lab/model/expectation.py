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
_EIM = MappingBehavior.ENDPOINT_INDEPENDENT


def can_go_direct(one: NatBehavior, other: NatBehavior) -> bool:
    """Whether peers behind these two NATs can move to a direct path.

    An APDF filter must face an EIM mapping: only then does its owner know the port to open it
    for. 49 of the 81 cells. In four of them both mappings are APDM: both sides' ports depend on
    each other's, and one side hears from another address than it sends to (DirectPath.canonical).

    With the filter's state kept for each mapping, {ADM,APDM}/ADF against {ADM,APDM}/ADF fails too,
    four cells. What each sends to is the
    port of the other's mapping towards the relay, the only one that is known, and this mapping has
    never been used towards the peer. One of the two must let the other in there, to learn the port
    of the mapping that has; the filter of an endpoint does, and one side's is enough.
    """
    return (
        (one.filtering is not _APDF or other.mapping is _EIM)
        and (other.filtering is not _APDF or one.mapping is _EIM)
        and not (_knows_only_the_relay(one) and _knows_only_the_relay(other))
    )


def is_a_race(one: NatBehavior, other: NatBehavior) -> bool:
    """Whether a pair that can go direct may miss: by chance, as nothing but arrival times decide.

    Where a punch arrives at plain conntrack before its owner's own has left, the entry that it
    leaves there occupies the port, and the owner's goes out by another (UnsolicitedReaction). The
    peer hears from it all the same, and answers there, unless its filter looks at ports.
    """
    lossy = (
        nat.unsolicited is UnsolicitedReaction.CONNTRACK and peer.filtering is _APDF
        for nat, peer in ((one, other), (other, one))
    )
    return can_go_direct(one, other) and any(lossy)


def _knows_only_the_relay(nat: NatBehavior) -> bool:
    """Whether the mapping towards the relay stays shut to peers, whatever is sent to them."""
    return (
        nat.mapping is not _EIM
        and nat.filtering is not _EIF
        and nat.filter_scope is FilterScope.MAPPING
    )
