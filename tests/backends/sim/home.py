"""A home in virtual time: a NAT with two hosts behind it, and two servers outside."""

from quicpipe_lab.backends.sim.clock import Clock
from quicpipe_lab.backends.sim.network import Network
from quicpipe_lab.backends.sim.packet import IcmpError
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.model.link import LinkBehavior
from quicpipe_lab.model.nat import NatBehavior
from quicpipe_lab.model.topology import Host, Link, Nat, Topology
from tests.backends.nat_script import NOBODY_LISTENS


class Socket:
    """Keeps what comes."""

    def __init__(
        self,
        network: Network,
        node: str,
        port: int = 0,
        host: str | None = None,
        through_nat64: bool = False,
    ) -> None:
        self.came: list[tuple[bytes, TransportAddress]] = []
        self.errors: list[IcmpError] = []
        self._sock = network.host(node).bind(
            port,
            host,
            on_receive=lambda data, source: self.came.append((data, source)),
            on_error=self.errors.append,
            through_nat64=through_nat64,
        )
        self.address = self._sock.address
        self.send = self._sock.send
        self.close = self._sock.close


def home_of(behavior: NatBehavior, wan: LinkBehavior | None = None) -> Topology:
    """NAT ``nat`` with ``a`` and ``b`` behind it; ``one`` and ``two`` outside."""
    return Topology(
        "home",
        (Host("one"), Host("two"), Nat("nat", behavior), Host("a"), Host("b")),
        tuple(
            Link(ends, *(wan, wan) if ends == ("core", "nat") else (None, None))
            for ends in (
                ("core", "one"),
                ("core", "two"),
                ("core", "nat"),
                ("nat", "a"),
                ("nat", "b"),
            )
        ),
    )


class Home:
    """``points``: two ports of ``one``, and two of ``two``."""

    def __init__(
        self, behavior: NatBehavior, seed: int = 1, wan: LinkBehavior | None = None
    ) -> None:
        self.topology = home_of(behavior, wan)
        self.clock = Clock()
        self.network = Network(self.topology, self.clock, seed=seed)
        self.nat = self.network.nat("nat")
        self.addresses = list(map(str, self.topology.external_addresses["nat"]))
        self.wan = self.addresses[0]
        self.points = [Socket(self.network, name) for name in ("one", "one", "two", "two")]

    def a(self, port: int = 0) -> Socket:
        """A fresh socket on the first host."""
        return Socket(self.network, "a", port)

    def b(self, port: int = 0) -> Socket:
        """A fresh socket on the second host."""
        return Socket(self.network, "b", port)

    def outside(self, port: int) -> TransportAddress:
        """A port of the NAT's first address."""
        return TransportAddress(self.wan, port)

    def settle(self) -> None:
        """Let all that was sent arrive: nothing here takes time."""
        self.clock.run(self.clock.now)

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.run(self.clock.now + seconds)

    def seen(self, inside: Socket, server: Socket) -> TransportAddress | None:
        """The external endpoint of a datagram as the server sees it; None where it was dropped."""
        before = len(server.came)
        inside.send(b"out", server.address)
        self.settle()
        return server.came[before][1] if len(server.came) > before else None

    def external(self, inside: Socket, server: Socket) -> TransportAddress:
        """The same where it must arrive."""
        endpoint = self.seen(inside, server)
        assert endpoint is not None
        return endpoint

    def arrives(self, sender: Socket, inside: Socket, to: TransportAddress) -> bool:
        """Whether a datagram comes in."""
        before = len(inside.came)
        sender.send(b"in", to)
        self.settle()
        return len(inside.came) > before


class SimScene(Home):
    """As a script wants it."""

    def open(self, host: str, port: int) -> Socket:
        """On ``a`` or ``b``."""
        return Socket(self.network, host, port)

    def address(self, inside: Socket) -> TransportAddress:
        """Its own."""
        return inside.address

    def sees(self, inside: Socket, server: int, _: bool) -> TransportAddress | None:
        """The external endpoint; None where nothing arrived."""
        return self.seen(inside, self.points[server])

    def comes_in(self, server: int, inside: Socket, to: TransportAddress, _: bool) -> bool:
        """Whether it does."""
        return self.arrives(self.points[server], inside, to)

    def turned(
        self, sender: Socket, target: Socket, to: TransportAddress, _: bool
    ) -> TransportAddress | None:
        """The source of a hairpinned datagram; None where it did not come."""
        before = len(target.came)
        sender.send(b"hairpin", to)
        self.settle()
        return target.came[before][1] if len(target.came) > before else None

    def is_refused(self, sender: Socket) -> bool:
        """Whether an ICMP error comes back."""
        before = len(sender.errors)
        to = TransportAddress(self.points[0].address.host, NOBODY_LISTENS)
        sender.send(b"anybody there?", to)
        self.settle()
        return len(sender.errors) > before

    def reboot(self) -> None:
        """The NAT."""
        self.nat.reboot()
