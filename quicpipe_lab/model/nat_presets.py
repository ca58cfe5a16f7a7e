"""Named NATs, each with the source of its behaviours."""

from collections.abc import Mapping
from types import MappingProxyType

from quicpipe_lab.model.nat import FilteringBehavior, MappingBehavior, NatBehavior

PRESETS: Mapping[str, NatBehavior] = MappingProxyType(
    {
        # The common home router: Linux conntrack without port collisions (NAT-TRAVERSAL.md 2).
        "home": NatBehavior(),
        # RFC 3489's "full cone".
        "full-cone": NatBehavior(filtering=FilteringBehavior.ENDPOINT_INDEPENDENT),
        # RFC 3489's "restricted cone".
        "restricted-cone": NatBehavior(filtering=FilteringBehavior.ADDRESS_DEPENDENT),
        # RFC 3489's "symmetric": a new external port for every destination.
        "symmetric": NatBehavior(mapping=MappingBehavior.ADDRESS_AND_PORT_DEPENDENT),
    }
)
