"""A lab with a home for each of several NATs, two hosts in each, and two servers outside."""

import socket
from collections.abc import Callable, Mapping

from quicpipe_lab.model.nat import NatBehavior
from quicpipe_lab.model.topology import Host, Link, Nat, Topology
from tests.backends.netns.remote import Sockets, port_of, take_all

POLL_S = 0.05


def homes(behaviors: Mapping[str, NatBehavior]) -> Topology:
    """NAT ``n-NAME`` with hosts ``a-NAME`` and ``b-NAME`` behind it; servers ``one``, ``two``."""
    nodes: list[Host | Nat] = [Host("one"), Host("two")]
    links = [Link(("core", "one")), Link(("core", "two"))]
    for name, behavior in behaviors.items():
        nodes += [Nat(f"n-{name}", behavior), Host(f"a-{name}"), Host(f"b-{name}")]
        links.append(Link(("core", f"n-{name}")))
        links += [Link((f"n-{name}", f"{host}-{name}")) for host in "ab"]
    return Topology("homes", tuple(nodes), tuple(links))


class Home:
    """One NAT's home, and a socket on each server."""

    def __init__(self, sockets: Sockets, topology: Topology, name: str) -> None:
        self.sockets = sockets
        self.name = name
        self.addresses = list(map(str, topology.external_addresses[f"n-{name}"]))
        self.wan = self.addresses[0]
        self.one, self.two = sockets.udp("one"), sockets.udp("two")
        self._hosts = {
            sock: str(topology.uplinks[host].lower_address)
            for host, sock in (("one", self.one), ("two", self.two))
        }
        self.a_address, self.b_address = (
            str(topology.uplinks[f"{host}-{name}"].lower_address) for host in "ab"
        )

    def a(self, port: int = 0) -> socket.socket:
        """A fresh socket on the first host."""
        return self.sockets.udp(f"a-{self.name}", port)

    def b(self, port: int = 0) -> socket.socket:
        """A fresh socket on the second host."""
        return self.sockets.udp(f"b-{self.name}", port)

    def at(self, server: socket.socket) -> tuple[str, int]:
        """A server's address."""
        return self._hosts[server], port_of(server)

    def external(self, inside: socket.socket, server: socket.socket) -> tuple[str, int]:
        """The external endpoint, as a server sees it."""
        data = b"from %d" % port_of(inside)
        inside.sendto(data, self.at(server))
        came, (host, port) = server.recvfrom(2048)
        assert came == data
        assert host in self.addresses
        return host, port

    def port(self, inside: socket.socket, server: socket.socket) -> int:
        """The external port, as a server sees it."""
        return self.external(inside, server)[1]

    def gets_out(self, inside: socket.socket, server: socket.socket, other: socket.socket) -> bool:
        """Whether a datagram reaches a server; that of ``other``, which does, comes behind it."""
        inside.sendto(b"maybe", self.at(server))
        other.sendto(b"fence", self.at(server))
        came = [server.recv(2048)]
        while came[-1] != b"fence":
            came.append(server.recv(2048))
        return b"maybe" in came

    def gets_in(self, server: socket.socket, inside: socket.socket, to: tuple[str, int]) -> bool:
        """Whether a server's datagram comes in; one from ``one``, which does, comes behind it."""
        server.sendto(b"maybe", to)
        self.one.sendto(b"fence", to)
        came = [inside.recv(2048)]
        while came[-1] != b"fence":
            came.append(inside.recv(2048))
        assert take_all(inside) == []
        return b"maybe" in came


def wait_while(going_on: Callable[[], bool], idle: socket.socket) -> None:
    """Ask again and again, with pauses in which nothing arrives at ``idle``.

    A NAT does nothing by itself that one could wait for.
    """
    timeout_s = idle.gettimeout()
    while going_on():
        idle.settimeout(POLL_S)
        try:
            idle.recv(2048)
        except TimeoutError:
            continue
        raise AssertionError("something arrived where nothing should")
    idle.settimeout(timeout_s)
