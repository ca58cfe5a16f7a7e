"""What a topology is made of: hosts, a relay, NATs, firewalls, and the links between them."""

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import NamedTuple

from quicpipe_lab.model.firewall import FirewallBehavior
from quicpipe_lab.model.link import LinkBehavior
from quicpipe_lab.model.nat import NatBehavior

CORE = "core"
"""The name of the router that every topology has: the internet."""


@dataclass(frozen=True, slots=True)
class Host:
    """An end host."""

    name: str


@dataclass(frozen=True, slots=True)
class Relay(Host):
    """The host that the relay program runs on."""


@dataclass(frozen=True, slots=True)
class Nat:
    """A router that translates between what hangs below it and its uplink."""

    name: str
    behavior: NatBehavior = field(default_factory=NatBehavior)


@dataclass(frozen=True, slots=True)
class Firewall:
    """A router that lets in what was asked for, and translates nothing.

    What is below it has addresses of the same realm as what is above.
    """

    name: str
    behavior: FirewallBehavior = field(default_factory=FirewallBehavior)


Node = Host | Nat | Firewall


@dataclass(frozen=True, slots=True)
class Link:
    """A routed point-to-point link between two nodes.

    ``towards_lower`` is what it does to packets on their way from the end that is nearer to the
    core, ``towards_upper`` to those in the other direction. A link with neither is a plain cable:
    no delay, no loss, no limit. One that is to get a behaviour only later has an empty one,
    ``LinkBehavior()``, from the start.

    ``lower_address`` is the address, in CIDR form, of the end that is farther from the core;
    the other end gets the other address of the same /30 or /31.
    """

    between: tuple[str, str]
    towards_lower: LinkBehavior | None = None
    towards_upper: LinkBehavior | None = None
    lower_address: str | None = None

    @classmethod
    def both_ways(
        cls, between: tuple[str, str], behavior: LinkBehavior, lower_address: str | None = None
    ) -> "Link":
        """The same behaviour in both directions."""
        return cls(between, behavior, behavior, lower_address)

    @property
    def is_plain(self) -> bool:
        """Whether it has no behaviour at all."""
        return self.towards_lower is None and self.towards_upper is None


@dataclass(frozen=True, slots=True)
class Uplink:
    """A link as seen from its lower end, with the addresses in use.

    ``name``: its lower node's, and of a link that stands by the upper one's too. What a link draws
    depends on it.
    """

    lower: str
    upper: str
    link: Link
    lower_address: IPv4Address
    upper_address: IPv4Address
    network: IPv4Network
    name: str


class Edge(NamedTuple):
    """A link before it has addresses, by its index."""

    lower: str
    upper: str
    link_index: int
