"""A topology in virtual time: hosts with sockets, and all that lies between them.

    clock = Clock()
    network = Network(topology, clock, seed=1)
    alice = network.host("alice").bind(on_receive=lambda data, source: ...)
    alice.send(b"hello", TransportAddress("198.18.0.6", 4433))
    clock.run(end_s=1.0)

The same topology, seed and calls give the same packets at the same times, in every process.
"""

import errno
from collections.abc import Callable

from quicpipe_lab.backends.sim.building import Builder, require_support
from quicpipe_lab.backends.sim.clock import Clock
from quicpipe_lab.backends.sim.firewall import FirewallHooks
from quicpipe_lab.backends.sim.link import Interface
from quicpipe_lab.backends.sim.masquerade import Masquerade
from quicpipe_lab.backends.sim.nat import MappingNat
from quicpipe_lab.backends.sim.nat64 import to_ipv4, to_ipv6
from quicpipe_lab.backends.sim.node import FrameSeen, Node, Observe
from quicpipe_lab.backends.sim.packet import Echo, Udp, version_of
from quicpipe_lab.backends.sim.routes import Dead
from quicpipe_lab.backends.sim.table import Table
from quicpipe_lab.backends.sim.udp_socket import (
    OnError,
    OnReceive,
    UdpSocket,
    require_one_packet,
)
from quicpipe_lab.errors import LocalProtocolError
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.model.between import cut_point, link_between, link_upwards
from quicpipe_lab.model.link import LinkBehavior
from quicpipe_lab.model.link_model import LinkCounters
from quicpipe_lab.model.spelling import did_you_mean
from quicpipe_lab.model.topology import CORE, Topology

__all__ = ["FrameSeen", "Network", "SimHost", "SimRouter", "UdpSocket"]


class SimHost:
    """A node as its programs see it: any node of the topology, or the core."""

    def __init__(self, node: Node) -> None:
        self.name = node.name
        self._node = node

    @property
    def addresses(self) -> tuple[str, ...]:
        """Its own, IPv4 first."""
        return tuple(sorted(self._node.routes.own, key=version_of))

    def bind(
        self,
        port: int = 0,
        host: str | None = None,
        *,
        on_receive: OnReceive,
        on_error: OnError | None = None,
        through_nat64: bool = False,
    ) -> UdpSocket:
        """A UDP socket. Without a port any is taken; without ``host`` all addresses are.

        ``through_nat64``: it gives and gets IPv4 addresses though the host has IPv6 only, as
        programs do on such networks (shell/nat64.py).

        ``on_receive(data, source)`` and ``on_error(icmp_error)`` are called in events of their own.
        Raises OSError where the port or the address cannot be had.
        """
        if host is not None and host not in self._node.routes.own:
            raise OSError(errno.EADDRNOTAVAIL, f"{self.name} does not have the address {host}")
        sockets = self._node.sockets
        send = self._send
        if through_nat64:
            send, on_receive = self._send_to_ipv4, _from_ipv4(on_receive)
        address = TransportAddress(host or self.addresses[0], port or sockets.free_port())
        sock = UdpSocket(address, host, send, sockets.remove, on_receive, on_error)
        sockets.add(sock)
        return sock

    def ping(
        self,
        host: str,
        on_reply: Callable[[Echo], object],
        *,
        identifier: int = 1,
        sequence: int = 1,
    ) -> None:
        """Send one ICMP echo request. Raises OSError."""
        self._node.sockets.await_echo(host, identifier, on_reply)
        source = self.source_towards(host)
        self._require_way(self._node.send(Echo(source, host, identifier, sequence, False)))

    def _send(self, sock: UdpSocket, data: bytes, to: TransportAddress) -> None:
        source = sock.address
        if sock.bound is None:
            source = TransportAddress(self.source_towards(to[0]), source.port)
        packet = Udp(source, TransportAddress(*to), data)
        require_one_packet(packet)
        self._require_way(self._node.send(packet))

    def _send_to_ipv4(self, sock: UdpSocket, data: bytes, to: TransportAddress) -> None:
        if version_of(to[0]) == 4:
            to = TransportAddress(to_ipv6(to[0]), to[1])
        self._send(sock, data, to)

    @property
    def has_ipv4(self) -> bool:
        """Not behind a NAT64."""
        return version_of(self.addresses[0]) == 4

    def source_towards(self, host: str) -> str:
        """Which of its addresses what it sends to ``host`` bears, if nobody says. Raises OSError.

        As Linux chooses it: that of the interface that leads there."""
        way = self._node.way_to(host)
        if isinstance(way, Interface):
            return way.addresses[version_of(host)]
        if way is Dead.HERE:
            return host
        own = [one for one in self.addresses if version_of(one) == version_of(host)]
        if way is Dead.NOBODY and own:  # nobody will answer, and nobody is told
            return own[0]
        raise OSError(errno.ENETUNREACH, f"{self.name} has no route to {host}")

    def _require_way(self, problem: Dead | None) -> None:
        if problem is Dead.UNREACHABLE:
            raise OSError(errno.ENETUNREACH, f"{self.name} has no route there")


def _from_ipv4(on_receive: OnReceive) -> OnReceive:
    def receive(data: bytes, source: TransportAddress) -> None:
        ipv4 = to_ipv4(source.host)
        on_receive(data, source if ipv4 is None else TransportAddress(ipv4, source.port))

    return receive


class SimRouter:
    """A NAT or firewall: what it remembers, and what makes it forget."""

    def __init__(self, node: Node, builder: Builder) -> None:
        self.name = node.name
        self._node = node
        self._builder = builder
        self._reboots = 0

    def table(self, now_s: float, version: int = 4) -> Table:
        """What it remembers of one IP version, as it would be at ``now_s`` without more packets.

        Raises LocalProtocolError for another version than 4 and 6.
        """
        if version not in (4, 6):
            raise LocalProtocolError(f"an IP version is 4 or 6, not {version!r}")
        hooks = self._node.hooks.get(version)
        if isinstance(hooks, MappingNat | Masquerade | FirewallHooks):
            return hooks.table(now_s)
        return Table()

    def reboot(self) -> None:
        """All is forgotten, and sequences of ports begin again."""
        self._reboots += 1
        self._node.hooks = self._builder.hooks_of(self.name, self._reboots)


class Network:
    """Raises UnsupportedBehaviorError where a topology asks for what there is not.

    ``seed``: with the same one, the same packets have the same fates on links, and NATs draw the
    same ports. ``observe`` is called with every packet at every interface.
    """

    def __init__(
        self,
        topology: Topology,
        clock: Clock,
        *,
        seed: int = 1,
        observe: Observe | None = None,
    ) -> None:
        self.topology = topology
        self.clock = clock
        self._builder = Builder(topology, clock, seed, observe)
        self._nodes = self._builder.nodes
        self._models = self._builder.models
        self._hosts = {name: SimHost(node) for name, node in self._nodes.items()}
        self._routers = {
            name: SimRouter(node, self._builder) for name, node in self._nodes.items() if node.hooks
        }
        self._cuts: dict[str, dict[frozenset[str], list[str]]] = {}
        self._in_use: dict[str, str] = {}
        """Of hosts that have switched, by the link's name."""

    def host(self, name: str) -> SimHost:
        """A node by its name. Raises LocalProtocolError."""
        if name not in self._hosts:
            raise LocalProtocolError(f"there is no node {name!r}{did_you_mean(name, self._hosts)}")
        return self._hosts[name]

    def router(self, name: str) -> SimRouter:
        """A NAT or firewall by its name. Raises LocalProtocolError."""
        if name not in self._routers:
            raise LocalProtocolError(
                f"there is no NAT or firewall {name!r}{did_you_mean(name, self._routers)}"
            )
        return self._routers[name]

    nat = router

    def inject(self, packet: Udp) -> None:
        """From somewhere in the internet, whatever source it claims to have (RFC 2827 asks access
        networks to prevent that; not all do)."""
        self._nodes[CORE].send(packet)

    def cut(self, one: str, other: str) -> None:
        """Nothing passes between two nodes any more, at the router where their ways part.

        Where that router is one of the two, it loses the link towards the other; otherwise it
        drops what goes between its links towards the two, whichever nodes behind them it is from.
        """
        router, towards = cut_point(self.topology, one, other, in_use=self._in_use)
        self._cuts.setdefault(router, {})[frozenset((one, other))] = towards
        self._apply_cuts(router)

    def restore(self, one: str, other: str) -> None:
        """Undo ``cut`` of the same two nodes, in either order. Raises LocalProtocolError."""
        pair = frozenset((one, other))
        router, _ = cut_point(self.topology, one, other, in_use=self._in_use)
        # Where it was, if one of them has switched since.
        router = next((place for place, cuts in self._cuts.items() if pair in cuts), router)
        if self._cuts.get(router, {}).pop(pair, None) is None:
            raise LocalProtocolError(f"{one!r} and {other!r} are not cut off from each other")
        self._apply_cuts(router)

    def _apply_cuts(self, router: str) -> None:
        node = self._nodes[router]
        cuts = [[node.interfaces[name] for name in one] for one in self._cuts[router].values()]
        dead = [one[0] for one in cuts if len(one) == 1]
        node.cut(dead, [(one[0], one[1]) for one in cuts if len(one) == 2])

    def switch(self, host: str, to: str) -> None:
        """A host with several links uses that to the router ``to`` from now on, for all that has
        no source address of its own; the others stay up. Raises LocalProtocolError."""
        link = link_upwards(self.topology, host, to)
        node = self._nodes[host]
        node.routes.set_default(4, node.interfaces[to])
        self._in_use[host] = link.name

    def set_link(
        self, one: str, other: str, behavior: LinkBehavior, back: LinkBehavior | None = None
    ) -> None:
        """What the link between two nodes does from now on: on the way from ``one`` to ``other``,
        and on the way back, where it is the same unless given.

        Raises LocalProtocolError for a link that had no behaviour from the start.
        """
        uplink = link_between(self.topology, one, other)
        if (one, other) not in self._models:
            raise LocalProtocolError(
                f"the link between {one!r} and {other!r} is a plain cable: to be changed in a"
                " running lab it needs a behaviour from the start, which may be empty"
            )
        changes = ((one, other), behavior), ((other, one), back or behavior)
        for _, changed in changes:
            require_support(f"link {uplink.lower!r} to {uplink.upper!r}", changed)
        for ends, changed in changes:
            self._models[ends].change(changed)

    def link_counters(self) -> dict[tuple[str, str], LinkCounters]:
        """What has become of the packets of every link that behaves, by ``(from, to)``."""
        return {ends: model.counters for ends, model in self._models.items()}
