"""The driver of a machine that needs further sockets for a while."""

import asyncio
import os
import resource
import socket
from collections.abc import Callable

import pytest

from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.shell.udp import UdpDriver, open_socket

LOOPBACK = TransportAddress("127.0.0.1", 0)
DEADLINE_S = 10


class Doorman:
    """Greets ``there`` once by each socket that it wants, and answers by the one it was asked."""

    def __init__(self, there: TransportAddress, wanted: frozenset[int]) -> None:
        self.there = there
        self.extra_sockets = wanted
        self.heard: list[tuple[bytes, int]] = []
        self._out = [(via, b"from %d" % via, there) for via in (0, *sorted(wanted))]

    def receive_datagram(
        self, data: bytes, source: TransportAddress, now: float, via: int = 0
    ) -> None:
        del now
        self.heard.append((data, via))
        self._out.append((via, b"again " + data, source))

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, TransportAddress]]:
        del now
        own = [(data, to) for via, data, to in self._out if via == 0]
        self._out = [one for one in self._out if one[0]]
        return own

    def extra_datagrams_to_send(self) -> list[tuple[int, bytes, TransportAddress]]:
        out, self._out = self._out, []
        return out

    def get_timer(self) -> float | None:
        return None

    def handle_timer(self, now: float) -> None:
        del now


async def until(holds: Callable[[], bool], turn: asyncio.Event) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not holds():
            turn.clear()
            await turn.wait()


def greetings(there: socket.socket, count: int) -> dict[bytes, TransportAddress]:
    found = {}
    for _ in range(count):
        data, source = there.recvfrom(100)
        found[data] = TransportAddress(*source)
    return found


@pytest.fixture
def there() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(DEADLINE_S)
    sock.bind(LOOPBACK)
    return sock


def test_each_socket_has_a_port_and_its_number(there: socket.socket) -> None:
    async def play() -> None:
        turn = asyncio.Event()
        machine = Doorman(TransportAddress(*there.getsockname()), frozenset({1, 2, 255}))
        driver = UdpDriver(machine, open_socket(LOOPBACK), turn.set)
        driver.turn()
        ports = greetings(there, 4)
        assert len(set(ports.values())) == 4
        for data, source in ports.items():
            there.sendto(data, source)
        await until(lambda: len(machine.heard) == 4, turn)
        assert sorted(machine.heard) == sorted((b"from %d" % via, via) for via in (0, 1, 2, 255))
        answers = greetings(there, 4)
        assert {data.removeprefix(b"again "): at for data, at in answers.items()} == ports
        machine.extra_sockets = frozenset({2})
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        driver.turn()
        assert len(os.listdir("/proc/self/fd")) == before - 2  # noqa: PTH208
        there.sendto(b"x", ports[b"from 1"])  # closed
        there.sendto(b"y", ports[b"from 2"])
        await until(lambda: (b"y", 2) in machine.heard, turn)
        assert (b"x", 1) not in machine.heard
        driver.close()

    asyncio.run(play())
    there.close()


def test_fewer_sockets_than_wanted_are_no_error(there: socket.socket) -> None:
    async def play() -> None:
        machine = Doorman(TransportAddress(*there.getsockname()), frozenset(range(1, 256)))
        driver = UdpDriver(machine, open_socket(LOOPBACK), lambda: None)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        used = max(map(int, os.listdir("/proc/self/fd")))  # noqa: PTH208
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 20, hard))
        try:
            driver.turn()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert b"from 0" in greetings(there, 10)
        driver.close()

    asyncio.run(play())
    there.close()
