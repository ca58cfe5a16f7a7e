"""What a NAT or firewall remembers, as data: for plots, explanations and tests."""

from dataclasses import dataclass

from quicpipe_lab.model.address import TransportAddress

Remote = TransportAddress | str | None
"""An endpoint, any port of an address, or anybody."""


@dataclass(frozen=True, slots=True)
class MappingSeen:
    """``remote``: whom the mapping is for. It is gone at ``expires_s``, if nothing refreshes it."""

    inside: TransportAddress
    external: TransportAddress
    remote: Remote
    born_s: float
    refreshed_s: float
    expires_s: float


@dataclass(frozen=True, slots=True)
class FilterSeen:
    """``remote`` may send to ``local``, an inside or an external endpoint, until ``expires_s``."""

    local: TransportAddress
    remote: Remote
    expires_s: float


@dataclass(frozen=True, slots=True)
class Table:
    """Of one router at one moment, in the order in which it was learnt."""

    mappings: tuple[MappingSeen, ...] = ()
    filters: tuple[FilterSeen, ...] = ()
