"""The one notion of an address that every layer shares."""

from enum import StrEnum
from typing import NamedTuple


class Family(StrEnum):
    """Which addresses programs speak to each other with.

    ``ANY``: each what it has, IPv6 before IPv4; the relay has both.
    """

    IPV4 = "ipv4"
    IPV6 = "ipv6"
    ANY = "any"


class TransportAddress(NamedTuple):
    """An IP address in text form and a port (RFC 8489's word); equal to the plain tuple."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
