"""The one notion of an address that every layer shares."""

import ipaddress
import re
from enum import StrEnum
from typing import NamedTuple

from quicpipe_lab.errors import QuicpipeLabError


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


def split_host_port(text: str, default_port: int | None = None) -> tuple[str, int]:
    """``HOST:PORT``, ``[IPV6]:PORT``, or without the port where there is a default. Raises
    QuicpipeLabError."""
    match = re.fullmatch(r"(?:\[([^\[\]]+)\]|([^:\[\]]+))(?::([0-9]{1,5}))?", text, re.ASCII)
    if match is None and _is_address(text):
        match = re.fullmatch(r"(.+)()()", text)  # IPv6 without brackets can have no port
    port = None if match is None else int(match[3]) if match[3] else default_port
    if match is None or port is None or port > 65535:
        raise QuicpipeLabError(f"{text!r} is not HOST:PORT")
    return match[1] or match[2], port


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
