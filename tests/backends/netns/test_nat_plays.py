"""The packet sequences of RFC 4787's requirements on the real kernel, as in the simulator.

Those that take time are left to test_nat_refresh.py and to the simulator, as is a NAT's reboot.
"""

import socket

import pytest

from quicpipe_lab.model.address import TransportAddress
from tests.backends.nat_plays import PLAYS
from tests.backends.nat_script import NOBODY_LISTENS, Script
from tests.backends.netns.nat_scene import POLL_S, Home, homes
from tests.backends.netns.remote import DEADLINE_S, IP_RECVERR, Sockets, port_of

pytestmark = pytest.mark.netns


SHORT = [one for one in PLAYS if "wait" not in one[2] and "reboot" not in one[2]]
TOPOLOGY = homes({str(number): behavior for number, (_, behavior, _) in enumerate(SHORT)})


class KernelScene:
    """As a script wants it."""

    def __init__(self, sockets: Sockets, name: str) -> None:
        self._home = Home(sockets, TOPOLOGY, name)
        self._addresses: dict[socket.socket, TransportAddress] = {}
        servers = [self._home.one, sockets.udp("one"), self._home.two, sockets.udp("two")]
        hosts = [self._home.at(self._home.one)[0]] * 2 + [self._home.at(self._home.two)[0]] * 2
        self._servers = [
            (one, (host, port_of(one))) for one, host in zip(servers, hosts, strict=True)
        ]

    def open(self, host: str, port: int) -> socket.socket:
        """On ``a`` or ``b``."""
        sock = self._home.a(port) if host == "a" else self._home.b(port)
        own = self._home.a_address if host == "a" else self._home.b_address
        self._addresses[sock] = TransportAddress(own, port_of(sock))
        return sock

    def address(self, inside: socket.socket) -> TransportAddress:
        """Its own."""
        return self._addresses[inside]

    def outside(self, port: int) -> TransportAddress:
        """A port of the NAT's first address."""
        return TransportAddress(self._home.wan, port)

    def sees(self, inside: socket.socket, server: int, wanted: bool) -> TransportAddress | None:
        """The external endpoint; None where nothing arrived."""
        sock, at = self._servers[server]
        return _passes(inside, sock, at, wanted)

    def comes_in(
        self, server: int, inside: socket.socket, to: TransportAddress, wanted: bool
    ) -> bool:
        """Whether it does."""
        return _passes(self._servers[server][0], inside, to, wanted) is not None

    def turned(
        self, sender: socket.socket, target: socket.socket, to: TransportAddress, wanted: bool
    ) -> TransportAddress | None:
        """The source of a hairpinned datagram; None where it did not come."""
        return _passes(sender, target, to, wanted)

    def is_refused(self, sender: socket.socket) -> bool:
        """Whether an ICMP error comes back."""
        sender.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
        sender.sendto(b"anybody there?", (self._servers[0][1][0], NOBODY_LISTENS))
        try:
            sender.recv(100)
        except ConnectionRefusedError:
            return True
        except TimeoutError:
            return False
        finally:
            sender.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 0)
        raise AssertionError("something else came")

    def wait(self, seconds: float) -> None:
        """Not here."""
        raise NotImplementedError

    def reboot(self) -> None:
        """Not here."""
        raise NotImplementedError


def _passes(
    sender: socket.socket, target: socket.socket, to: tuple[str, int], wanted: bool
) -> TransportAddress | None:
    """Who a datagram comes from; what is to be dropped is waited for shortly."""
    sender.sendto(b"datagram", to)
    target.settimeout(DEADLINE_S if wanted else POLL_S)
    try:
        data, (host, port) = target.recvfrom(100)
    except TimeoutError:
        return None
    finally:
        target.settimeout(DEADLINE_S)
    assert data == b"datagram"
    return TransportAddress(host, port)


@pytest.mark.parametrize("number", range(len(SHORT)), ids=[name for name, _, _ in SHORT])
def test_play(sockets: Sockets, number: int) -> None:
    Script(KernelScene(sockets, str(number))).play(SHORT[number][2])
