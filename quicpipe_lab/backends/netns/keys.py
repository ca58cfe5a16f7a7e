"""What a NAT's sets are asked with, on the way out and on the way in.

RFC 4787's behaviours are nothing but these keys.
"""

from quicpipe_lab.model.nat import (
    FilteringBehavior,
    FilterScope,
    MappingBehavior,
    MappingRefresh,
    NatBehavior,
)

_TYPES = {
    "ip saddr": "ipv4_addr",
    "ip daddr": "ipv4_addr",
    "ip6 saddr": "ipv6_addr",
    "ip6 daddr": "ipv6_addr",
    "udp sport": "inet_service",
    "udp dport": "inet_service",
    "ct original ip saddr": "ipv4_addr",
    "ct original proto-src": "inet_service",
}

# The inside endpoint of an outbound packet, before and after its source was translated.
_INSIDE = ["ip saddr", "udp sport"]
_INSIDE_RECORDED = ["ct original ip saddr", "ct original proto-src"]

_MAPPED_BY = {
    MappingBehavior.ENDPOINT_INDEPENDENT: [],
    MappingBehavior.ADDRESS_DEPENDENT: ["ip daddr"],
    MappingBehavior.ADDRESS_AND_PORT_DEPENDENT: ["ip daddr", "udp dport"],
}
FILTERED_BY = {
    FilteringBehavior.ENDPOINT_INDEPENDENT: [],
    FilteringBehavior.ADDRESS_DEPENDENT: ["ip daddr"],
    FilteringBehavior.ADDRESS_AND_PORT_DEPENDENT: ["ip daddr", "udp dport"],
}
REVERSED = {"ip daddr": "ip saddr", "udp dport": "udp sport"}
_REMEMBERED = {"ip daddr": "remote_address", "udp dport": "remote_port"}


class Keys:
    """Lists of selectors of statements.py.

    ``external_out``, ``external_in``: the external endpoint, in packets of either direction; its
    port alone where the NAT has one address.
    ``mapping``, ``mapping_recorded``: what a mapping is found by, before and after translation.
    ``mapping_in``: the same of the mapping that an inbound packet comes through.
    ``translated``: the external endpoint with its address.
    ``contact_out``, ``contact_in``: what the filter's state is kept under; empty without filter.
    ``remembered_remote``: maps that are needed to find a mapping from outside, and what they hold.
    ``rewriting``: statements that give an inbound packet its inside destination.
    """

    def __init__(self, behavior: NatBehavior) -> None:
        several = behavior.external_addresses > 1
        mapped_by = _MAPPED_BY[behavior.mapping]
        filtered_by = FILTERED_BY[behavior.filtering]
        self.external_out = ["ip saddr", "udp sport"] if several else ["udp sport"]
        self.external_in = ["ip daddr", "udp dport"] if several else ["udp dport"]
        self.mapping = _INSIDE + mapped_by
        self.mapping_recorded = _INSIDE_RECORDED + mapped_by
        self.translated = _INSIDE

        external = concatenate(self.external_in)
        inside = [f"({external} map @inside_address)", f"({external} map @inside_port)"]
        remotes = [_REMEMBERED[selector] for selector in mapped_by]
        self.mapping_in = inside + [f"({external} map @{name})" for name in remotes]
        self.remembered_remote = (
            dict(zip(remotes, mapped_by, strict=True))
            if behavior.refresh is MappingRefresh.BOTH
            else {}
        )

        # An endpoint with one mapping: the shorter way to say the same.
        by_mapping = behavior.filter_scope is FilterScope.MAPPING or not mapped_by
        filtered_in = [REVERSED[selector] for selector in filtered_by]
        self.contact_out = (
            [*(self.external_out if by_mapping else _INSIDE_RECORDED), *filtered_by]
            if filtered_by
            else []
        )
        self.contact_in = (
            [*(self.external_in if by_mapping else inside), *filtered_in] if filtered_by else []
        )

        self.rewriting_at_once = f"ip daddr . udp dport set {concatenate(inside)}"
        self.rewriting = (
            [self.rewriting_at_once]
            if several
            # As nft's own grammar has it. The address first: the port is the key of both maps.
            else [
                "ip daddr set udp dport map @inside_address",
                "udp dport set udp dport map @inside_port",
            ]
        )


def concatenate(selectors: list[str]) -> str:
    """As one key."""
    return " . ".join(selectors)


def types_of(selectors: list[str]) -> list[str]:
    """nft's types."""
    return [_TYPES[selector] for selector in selectors]
