"""What must come of punching between two NATs: RFC 4787's behaviours against each other.

One socket a peer, the relay at a third address, random external ports, both sides sending for
several round trips, candidates signalled through the relay. Source: NAT-TRAVERSAL study of this
project, after Ford, Srisuresh and Kegel, "Peer-to-Peer Communication Across Network Address
Translators" (2005), and RFC 5128, 3.4; verified cell by cell by the tests.
"""

from quicpipe_lab.model.nat import FilteringBehavior, MappingBehavior, NatBehavior

_APDF = FilteringBehavior.ADDRESS_AND_PORT_DEPENDENT
_EIM = MappingBehavior.ENDPOINT_INDEPENDENT
_APDM = MappingBehavior.ADDRESS_AND_PORT_DEPENDENT


def can_go_direct(one: NatBehavior, other: NatBehavior) -> bool:
    """Whether peers behind these two NATs can move to a direct path that both use alike.

    An APDF filter must face an EIM mapping: only then does its owner know the port to open it
    for. Two APDM mappings make both sides' ports depend on each other's, so that the address each
    sends to is never the one it hears from; such cells need an asymmetric path, which QUIC's
    migration does not give. A filter's state is kept per internal endpoint (RFC 4787, 5).
    """
    return (
        (one.filtering is not _APDF or other.mapping is _EIM)
        and (other.filtering is not _APDF or one.mapping is _EIM)
        and not (one.mapping is _APDM and other.mapping is _APDM)
    )
