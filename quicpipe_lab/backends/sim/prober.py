"""The prober in virtual time: it certifies a simulated network's NATs as it does a lab's.

The prober blocks. Here, to block is to let virtual time pass until something has come: it is the
only one that acts, and the STUN servers answer in events.
"""

import random
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from quicpipe_lab.backends.sim.clock import Clock
from quicpipe_lab.backends.sim.network import Network, SimHost, UdpSocket
from quicpipe_lab.backends.sim.packet import IcmpError, Udp
from quicpipe_lab.errors import QuicpipeLabError
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.model.nat_certificate import Certificate
from quicpipe_lab.model.nat_measurement import POINTS, ServerPoint
from quicpipe_lab.model.topology import CORE, Topology
from quicpipe_lab.model.vantage import SERVICES, Prospect, Vantage, routers_above
from quicpipe_lab.shell.nat_lifetime import WARM_UP_S
from quicpipe_lab.shell.nat_prober import Place
from quicpipe_lab.shell.nat_survey import SERVER_PORTS, Sight, survey
from quicpipe_lab.shell.nat_timing import timing_for
from quicpipe_lab.shell.prober_means import CannotBindError, MakeSocket
from quicpipe_lab.shell.stun import BindingRequest, decode
from quicpipe_lab.shell.stun_responder import answer_to

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T")

_TRANSACTION_BYTES = 12


def certify(topology: Topology, *, seed: int = 1, lifetime: bool = False) -> list[Certificate]:
    """Build the network, look at every NAT and firewall: the verdict on each.

    ``lifetime``: wait for idle mappings to end as well, in virtual time.
    Raises UnsupportedBehaviorError.
    """
    clock = Clock()
    return certify_network(Network(topology, clock, seed=seed), seed=seed, lifetime=lifetime)


def certify_network(
    network: Network, *, declared: Topology | None = None, seed: int = 1, lifetime: bool = False
) -> list[Certificate]:
    """The same of one that is there, and whose time passes meanwhile.

    ``declared``: what it is said to be, where that is not what it was built from.
    """
    topology = declared or network.topology
    prospect = Prospect(topology)
    wanted = prospect.wanted()
    servers = {
        family: [SimResponder(network.host(CORE), SERVICES[family], port) for port in SERVER_PORTS]
        for family in dict.fromkeys(one.family for one in wanted)
    }
    sights = {
        str(number): _sight(network, topology, prospect, vantage, servers[vantage.family], lifetime)
        for number, vantage in enumerate(wanted)
    }
    try:
        measured = survey(sights, VirtualMeans(network.clock, seed))
    finally:
        for both in servers.values():
            for one in both:
                one.close()
    return prospect.certificates(
        {vantage: measured[str(number)] for number, vantage in enumerate(wanted)}
    )


def _sight(
    network: Network,
    declared: Topology,
    prospect: Prospect,
    vantage: Vantage,
    servers: "list[SimResponder]",
    lifetime: bool,
) -> Sight:
    def place(host: str) -> Place:
        address = prospect.inside_address(host, vantage.family)
        return Place(address, _maker(network, network.topology.by_link[host].lower, address))

    answered = any(one.answered_lifetime_s is not None for one in prospect.chain(vantage))
    outermost = routers_above(network.topology, vantage.first)[-1].name
    return Sight(
        f"{outermost}+{vantage.family}",
        place(vantage.first),
        None if vantage.second is None else place(vantage.second),
        servers,
        _maker(network, CORE, SERVICES[vantage.family][0]),
        timing_for(declared, vantage, prospect.lifetime_s(vantage)),
        prospect.lifetime_s(vantage) if lifetime else None,
        WARM_UP_S if answered else 0.0,
        prospect.udp_policy(vantage).value != "open",
    )


def _maker(network: Network, host: str, address: str) -> MakeSocket:
    return lambda port: BlockingSocket(network, host, address, port)


class BlockingSocket:
    """A socket as the prober wants it: to wait is to let time pass."""

    def __init__(self, network: Network, host: str, address: str, port: int) -> None:
        self._clock = network.clock
        self._came: deque[tuple[bytes, TransportAddress]] = deque()
        self._wait_s = float("inf")
        try:
            self._sock = self._bind(network.host(host), address, port)
        except OSError as error:
            raise CannotBindError(f"cannot bind to port {port}: {error.strerror}") from None

    def _bind(self, host: SimHost, address: str, port: int) -> UdpSocket:
        """A host that has no IPv4 looks through its NAT64."""
        if host.has_ipv4 or ":" in address:
            return host.bind(port, address, on_receive=self._receive)
        return host.bind(port, on_receive=self._receive, through_nat64=True)

    def _receive(self, data: bytes, source: TransportAddress) -> None:
        self._came.append((data, source))

    def sendto(self, data: bytes, address: tuple[str, int]) -> int:
        """Raises OSError."""
        self._sock.send(data, TransportAddress(*address))
        return len(data)

    def recvfrom(self, _size_bytes: int) -> tuple[bytes, TransportAddress]:
        """What has come, or comes in time. Raises TimeoutError."""
        if not self._clock.run_until(lambda: bool(self._came), self._clock.now + self._wait_s):
            raise TimeoutError
        return self._came.popleft()

    def settimeout(self, seconds: float | None) -> None:
        """For ``recvfrom``."""
        self._wait_s = float("inf") if seconds is None else seconds

    def getsockname(self) -> TransportAddress:
        """Where it is bound."""
        return self._sock.address

    def close(self) -> None:
        """Nothing comes any more."""
        self._sock.close()


class SimResponder:
    """The RFC 5780 server, answering in events; see shell/stun_responder.py."""

    def __init__(self, host: SimHost, addresses: tuple[str, str], port: int) -> None:
        self.icmp_errors: dict[str, set[tuple[int, int]]] = {}
        self.addresses: Mapping[ServerPoint, TransportAddress] = {
            point: TransportAddress(addresses[point.address], port + point.port) for point in POINTS
        }
        self._sockets = {
            point: host.bind(
                address.port,
                address.host,
                on_receive=self._answerer(point),
                on_error=self._note_icmp,
            )
            for point, address in self.addresses.items()
        }

    def _answerer(self, asked: ServerPoint) -> Callable[[bytes, TransportAddress], None]:
        def answer(datagram: bytes, source: TransportAddress) -> None:
            request = decode(datagram)
            if isinstance(request, BindingRequest):
                sender, said, target = answer_to(request, asked, source, self.addresses)
                self._sockets[sender].send(said.encode(), target)

        return answer

    def _note_icmp(self, error: IcmpError) -> None:
        if isinstance(error.about, Udp):
            host = error.about.destination.host
            self.icmp_errors.setdefault(host, set()).add((error.type, error.code))

    def close(self) -> None:
        """Answer no more."""
        for one in self._sockets.values():
            one.close()


class VirtualMeans:
    """Virtual time, one thing after the other, and chance from a seed."""

    def __init__(self, clock: Clock, seed: int) -> None:
        self._clock = clock
        self._random = random.Random(f"{seed}/stun")

    def now_s(self) -> float:
        """On the network's clock."""
        return self._clock.now

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self._clock.run(self._clock.now + seconds)

    @contextmanager
    def pool(self, _: int) -> "Iterator[InTurn]":
        """Of one."""
        yield InTurn()

    def signal(self) -> "VirtualSignal":
        """Which nobody sets while somebody waits for it."""
        return VirtualSignal(self._clock)

    def transaction(self) -> bytes:
        """The same ones for the same seed."""
        return self._random.randbytes(_TRANSACTION_BYTES)


class InTurn:
    """A pool of nobody: what is submitted is done at once."""

    def submit(self, act: Callable[..., T], /, *arguments: Any) -> "Done[T]":
        """Errors are raised where the result is asked for, as by other pools."""
        try:
            return Done(act(*arguments), None)
        except QuicpipeLabError as error:
            return Done(None, error)


class Done(Generic[T]):
    """What came of it."""

    def __init__(self, value: T | None, error: QuicpipeLabError | None) -> None:
        self._value = value
        self._error = error

    def result(self) -> T:
        """Raises what was raised."""
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]


class VirtualSignal:
    """To wait for it is to let time pass."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._is_set = False

    def set(self) -> None:
        """For all who ask from now on."""
        self._is_set = True

    def wait(self, seconds: float) -> bool:
        """Whether it is set by then."""
        return self._clock.run_until(lambda: self._is_set, self._clock.now + seconds)
