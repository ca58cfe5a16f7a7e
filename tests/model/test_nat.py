"""NATs as data: what contradicts itself is refused with the RFC's words."""

from typing import Any

import pytest

from quicpipe_lab.errors import ScenarioError
from quicpipe_lab.model.nat import (
    AddressPooling,
    FilteringBehavior,
    FilterScope,
    Hairpinning,
    MappingBehavior,
    MappingRefresh,
    NatBehavior,
    PortAssignment,
    UnsolicitedReaction,
)
from quicpipe_lab.model.nat_presets import PRESETS

SEQUENTIAL, BLOCK = PortAssignment.SEQUENTIAL, PortAssignment.BLOCK
OVERLOADING = PortAssignment.PRESERVING_OVERLOADING
CONNTRACK = {
    "port_assignment": OVERLOADING,
    "refresh": MappingRefresh.BOTH,
    "filter_scope": FilterScope.MAPPING,
    "unsolicited": UnsolicitedReaction.CONNTRACK,
}

CONTRADICTIONS: list[tuple[str, dict[str, Any]]] = [
    ("mapping_lifetime_s", {"mapping_lifetime_s": 0.0}),
    ("mapping_lifetime_s", {"mapping_lifetime_s": -1.0}),
    ("mapping_lifetime_s", {"mapping_lifetime_s": float("inf")}),
    ("mapping_lifetime_s", {"mapping_lifetime_s": float("nan")}),
    ("mapping_lifetime_s", {"mapping_lifetime_s": 1e12}),
    ("answered_lifetime_s", {"answered_lifetime_s": 0.0}),
    ("answered_lifetime_s", {"answered_lifetime_s": 1e20}),
    ("mappings_per_subscriber", {"mappings_per_subscriber": 0}),
    ("mappings_per_subscriber", {"mappings_per_subscriber": 10**11}),
    ("external_addresses", {"external_addresses": 0}),
    ("external_addresses", {"external_addresses": 1000}),
    ("port_range", {"port_range": (2000, 1999)}),
    ("port_range", {"port_range": (0, 1999)}),
    ("port_range", {"port_range": (1024, 65536)}),
    ("port_step", {"port_step": 2}),
    ("port_step", {"port_step": 0, "port_assignment": SEQUENTIAL}),
    ("port_step", {"port_step": 3, "port_range": (2000, 2001), "port_assignment": SEQUENTIAL}),
    ("port_block_size", {"port_block_size": 64}),
    ("port_block_size", {"port_assignment": BLOCK}),
    ("port_block_size", {"port_assignment": BLOCK, "port_block_size": 0}),
    ("port_parity", {"port_parity": True, "port_assignment": SEQUENTIAL}),
    ("port_parity", {"port_parity": True, "port_range": (2000, 2000)}),
    ("mapping", {"port_assignment": OVERLOADING, "mapping": MappingBehavior.ADDRESS_DEPENDENT}),
    (
        "filtering",
        {"port_assignment": OVERLOADING, "filtering": FilteringBehavior.ADDRESS_DEPENDENT},
    ),
    ("hairpinning", {"port_assignment": OVERLOADING, "hairpinning": Hairpinning.EXTERNAL_SOURCE}),
    ("port_assignment", {"unsolicited": UnsolicitedReaction.CONNTRACK}),
    ("refresh", CONNTRACK | {"refresh": MappingRefresh.OUTBOUND}),
    ("filter_scope", CONNTRACK | {"filter_scope": FilterScope.ENDPOINT}),
    ("external_addresses", CONNTRACK | {"external_addresses": 2}),
]


@pytest.mark.parametrize(("field", "fields"), CONTRADICTIONS)
def test_contradictions(field: str, fields: dict[str, Any]) -> None:
    with pytest.raises(ScenarioError) as caught:
        NatBehavior(**fields)
    assert caught.value.path == field


def test_defaults_are_the_home_preset() -> None:
    """What a NAT does of which nothing is said: nothing that needs saying."""
    nat = NatBehavior()
    assert nat == PRESETS["home"]
    assert nat.filter_scope is FilterScope.ENDPOINT
    assert nat.refresh is MappingRefresh.OUTBOUND
    assert nat.hairpinning is Hairpinning.NONE
    assert nat.unsolicited is UnsolicitedReaction.DROP
    assert nat.pooling is AddressPooling.PAIRED
    assert NatBehavior(**CONNTRACK).mapping is MappingBehavior.ENDPOINT_INDEPENDENT  # type: ignore[arg-type]
