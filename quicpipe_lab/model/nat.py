"""NATs as data, in the words of RFC 4787.

A NAT is two behaviours and the numbers that go with them; how a backend brings them about is
its own affair. Presets are data too, and name their source.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class MappingBehavior(StrEnum):
    """When may two flows of one inside endpoint share an external port? (RFC 4787, 4.1)"""

    ENDPOINT_INDEPENDENT = "EIM"
    ADDRESS_DEPENDENT = "ADM"
    ADDRESS_AND_PORT_DEPENDENT = "APDM"


class FilteringBehavior(StrEnum):
    """Whose packets may come in through a mapping? (RFC 4787, 5)"""

    ENDPOINT_INDEPENDENT = "EIF"
    ADDRESS_DEPENDENT = "ADF"
    ADDRESS_AND_PORT_DEPENDENT = "APDF"


class PortAssignment(StrEnum):
    """How an external port is chosen for a new mapping (RFC 4787, 4.2)."""

    PRESERVING = "preserving"
    RANDOM = "random"


@dataclass(frozen=True, slots=True)
class NatBehavior:
    """What a NAT does to UDP.

    ``mapping_lifetime_s``: seconds without outbound packets after which a mapping is gone; RFC
    4787 REQ-5 asks for 120 or more.
    """

    mapping: MappingBehavior = MappingBehavior.ENDPOINT_INDEPENDENT
    filtering: FilteringBehavior = FilteringBehavior.ADDRESS_AND_PORT_DEPENDENT
    port_assignment: PortAssignment = PortAssignment.RANDOM
    mapping_lifetime_s: float = 300.0

    def __str__(self) -> str:
        return f"{self.mapping}/{self.filtering}"


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
