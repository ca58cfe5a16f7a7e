"""Links that behave, on the kernel: every packet has the fate that the model gives it."""

import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from quicpipe_lab.backends.netns.doctor import capability
from quicpipe_lab.backends.netns.lab import Lab
from quicpipe_lab.backends.netns.wire import flipped
from quicpipe_lab.errors import (
    BackendUnavailableError,
    LocalProtocolError,
    QuicpipeLabError,
    UnsupportedBehaviorError,
)
from quicpipe_lab.model.link import LinkBehavior
from quicpipe_lab.model.link_model import Drop, LinkModel
from quicpipe_lab.model.topology import CORE, Host, Link, Topology
from quicpipe_lab.shell.packet_ring import enter_network_namespace
from tests.backends.netns.remote import DEADLINE_S, Sockets, accepted, port_of, sockets_of, take_all

pytestmark = pytest.mark.netns

IDLE = LinkBehavior()
HEADERS_BYTES = 28
"""IPv4's and UDP's."""
UDP_SEGMENT = 103
ETH_P_ARP = 0x0806


class LinkUnderTest:
    """Two sockets with the link between them: ``a`` hangs below the core, where ``core`` is."""

    def __init__(self, lab: Lab, sockets: Sockets) -> None:
        self.lab = lab
        self.sockets = sockets
        self.core = sockets.udp(CORE)
        self.a = sockets.udp("a")
        for sock in (self.core, self.a):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        uplink = lab.topology.uplinks["a"]
        self.to_a = str(uplink.lower_address), port_of(self.a)
        self.to_core = str(uplink.upper_address), port_of(self.core)

    def down(self, data: bytes) -> None:
        self.core.sendto(data, self.to_a)

    def up(self, data: bytes) -> None:
        self.a.sendto(data, self.to_core)


@contextmanager
def link_with(
    down: LinkBehavior, up: LinkBehavior = IDLE, seed: int = 1
) -> Iterator[LinkUnderTest]:
    topology = Topology(
        "link", (Host("a"), Host("b")), (Link((CORE, "a"), down, up), Link((CORE, "b")))
    )
    with Lab(topology, seed=seed, netem=False) as lab, sockets_of(lab) as sockets:
        yield LinkUnderTest(lab, sockets)


def numbers_received(sock: socket.socket, last: int) -> list[int]:
    """Everything up to the datagram with the number ``last``."""
    found: list[int] = []
    while not found or found[-1] != last:
        found.append(int.from_bytes(sock.recv(2048)[:4], "big"))
    return found[:-1]


def numbered(number: int, size_bytes: int = 100) -> bytes:
    return number.to_bytes(4, "big").ljust(size_bytes, b".")


def test_the_delay_of_each_direction() -> None:
    with link_with(LinkBehavior(delay_s=0.05), LinkBehavior(delay_s=0.1)) as path:
        for send, receiver, delay_s in ((path.down, path.a, 0.05), (path.up, path.core, 0.1)):
            started_s = time.monotonic()
            send(b"x")
            receiver.recv(10)
            assert time.monotonic() - started_s >= delay_s


@pytest.mark.parametrize("seed", [1, 2])
def test_fates_are_those_of_the_model_with_the_labs_seed(seed: int) -> None:
    behavior = LinkBehavior(loss=0.4, duplicate=0.2)
    count = 400
    model = LinkModel(behavior, f"{seed}/a/down")
    expected: list[int] = []
    for number in range(count):
        fates = model.admit(100 + HEADERS_BYTES, 0.0)
        expected += [number] * sum(fate.out_s is not None for fate in fates)
    with link_with(behavior, seed=seed) as path:
        for number in range(count):
            path.down(numbered(number))
        counters = path.lab.link_counters()[CORE, "a"]
        path.lab.set_link(CORE, "a", IDLE)
        path.down(numbered(count))
        assert numbers_received(path.a, count) == expected
    assert counters == model.counters


def test_order_is_kept_under_jitter() -> None:
    count = 500
    with link_with(LinkBehavior(delay_s=0.01, jitter_s=0.01)) as path:
        for number in range(count + 1):
            path.down(numbered(number))
        assert numbers_received(path.a, count) == list(range(count))


def test_reordered_packets_overtake() -> None:
    with link_with(LinkBehavior(delay_s=1.0)) as path:
        path.down(numbered(0))
        path.lab.set_link(CORE, "a", LinkBehavior(delay_s=1.0, reorder=1.0))
        path.down(numbered(1))
        assert numbers_received(path.a, 0) == [1]
        assert path.lab.link_counters()[CORE, "a"].reordered == 1


def test_a_flipped_bit_breaks_the_checksum_that_was_right_before() -> None:
    count = 200
    with link_with(LinkBehavior(corrupt=1.0)) as path:
        for number in range(count):
            path.down(numbered(number))
        path.lab.set_link(CORE, "a", IDLE)
        path.down(numbered(count))
        assert numbers_received(path.a, count) == []
        counters = path.lab.link_counters()[CORE, "a"]
        assert (counters.corrupted, counters.delivered) == (count, count + 1)


def test_flipped() -> None:
    frame = bytes(14) + bytes(20)
    for bit in range(160):
        changed = flipped(frame, bit)
        assert int.from_bytes(changed, "big") == 1 << 159 - bit
        assert len(changed) == len(frame)


def test_packets_above_the_mtu_vanish() -> None:
    with link_with(LinkBehavior(mtu_bytes=1280)) as path:
        path.down(numbered(0, 1281 - HEADERS_BYTES))
        path.down(numbered(1, 1280 - HEADERS_BYTES))
        assert numbers_received(path.a, 1) == []
        assert path.lab.link_counters()[CORE, "a"].dropped[Drop.MTU] == 1


def test_a_full_queue_drops() -> None:
    slow = LinkBehavior(rate_bps=8000, queue_bytes=5000)  # a byte a millisecond
    with link_with(slow) as path:
        for number in range(10):
            path.down(numbered(number, 1000 - HEADERS_BYTES))
        counters = path.lab.link_counters()[CORE, "a"]
        assert (counters.delivered, counters.dropped[Drop.QUEUE]) == (5, 5)


def test_the_rate_is_kept() -> None:
    count, size_bytes = 101, 1000
    with link_with(LinkBehavior(rate_bps=4e6)) as path:  # 2 ms each
        started_s = time.monotonic()
        for number in range(count):
            path.down(numbered(number, size_bytes - HEADERS_BYTES))
        assert numbers_received(path.a, count - 1) == list(range(count - 1))
        assert time.monotonic() - started_s >= count * 0.002


def test_tcp_passes_as_real_packets_and_arrives_whole() -> None:
    data = os.urandom(1 << 20)
    with link_with(LinkBehavior(delay_s=0.001), LinkBehavior(delay_s=0.001)) as path:
        server, client = path.sockets.tcp("a"), path.sockets.tcp(CORE)
        served = accepted(server, client, path.to_a[0])
        received = bytearray()
        client.setblocking(False)
        rest = memoryview(data)
        while len(received) < len(data):
            if rest:
                with suppress(BlockingIOError):
                    rest = rest[client.send(rest) :]
            received += served.recv(1 << 20)
        served.close()
        counters = path.lab.link_counters()
    assert received == data
    down = counters[CORE, "a"]
    assert down.packets >= len(data) / 1448 and down.packet_bytes / down.packets <= 1500
    assert sum(one.missed + sum(one.dropped.values()) for one in counters.values()) == 0


def test_segments_that_udp_left_to_the_device_are_packets_of_their_own() -> None:
    with link_with(IDLE) as path:
        run = b"".join(numbered(number, 1200) for number in range(20))
        control = [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("=H", 1200))]
        try:
            path.core.sendmsg([run], control, 0, path.to_a)
        except OSError as error:
            pytest.skip(f"this kernel wants checksum offload for UDP_SEGMENT: {error.strerror}")
        path.down(numbered(20))
        assert numbers_received(path.a, 20) == list(range(20))
        assert path.lab.link_counters()[CORE, "a"].packets == 21


def test_links_change_by_either_name_and_direction() -> None:
    with link_with(IDLE) as path:
        path.lab.set_link("a", CORE, LinkBehavior(loss=1.0), IDLE)
        path.up(b"lost")
        path.down(b"through")
        assert path.a.recv(10) == b"through"
        counters = path.lab.link_counters()
        assert counters["a", CORE].dropped[Drop.LOSS] == 1
        path.lab.set_link(CORE, "a", LinkBehavior(loss=1.0), IDLE)
        path.up(b"up")
        assert path.core.recv(10) == b"up"
        path.down(b"lost")
        path.lab.set_link(CORE, "a", LinkBehavior(delay_s=0.001))
        path.down(b"down")
        assert path.a.recv(10) == b"down"
        assert take_all(path.core) == []


def test_misuse() -> None:
    with link_with(IDLE) as path:
        with pytest.raises(LocalProtocolError, match="no link between 'a' and 'b'"):
            path.lab.set_link("a", "b", IDLE)
        with pytest.raises(LocalProtocolError, match="'b' is a plain cable"):
            path.lab.set_link(CORE, "b", IDLE)
        with pytest.raises(UnsupportedBehaviorError, match="mtu_bytes of 1501"):
            path.lab.set_link(CORE, "a", LinkBehavior(mtu_bytes=1501))
        lab = path.lab
    with pytest.raises(LocalProtocolError, match="not up"):
        lab.link_counters()
    with pytest.raises(LocalProtocolError, match="not up"):
        lab.set_link(CORE, "a", IDLE)
    with Lab(Topology("plain", (Host("a"),), (Link((CORE, "a")),))) as plain:
        assert plain.link_counters() == {}
        with pytest.raises(LocalProtocolError, match="'a' is a plain cable"):
            plain.set_link(CORE, "a", IDLE)


def children_of(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]


def test_the_wire_ends_with_the_lab_and_its_end_is_noticed() -> None:
    topology = Topology("link", (Host("a"),), (Link.both_ways((CORE, "a"), IDLE),))
    with Lab(topology, netem=False) as lab:
        (wire,) = children_of(lab.pid)
    assert not Path(f"/proc/{wire}").exists()
    with Lab(topology, netem=False) as lab:
        (wire,) = children_of(lab.pid)
        os.kill(wire, signal.SIGKILL)
        with pytest.raises(QuicpipeLabError, match="carries the lab's links is gone"):
            lab.link_counters()


def raw_socket(namespace: int, interface: str) -> socket.socket:
    """Of another network namespace: made in a thread, which alone goes there."""

    def make() -> socket.socket:
        enter_network_namespace(namespace)
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ARP))
        made.bind((interface, ETH_P_ARP))
        made.settimeout(DEADLINE_S)
        return made

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(make).result()


def test_what_is_no_ip_packet_passes_whatever_the_link_does() -> None:
    with link_with(LinkBehavior(delay_s=60.0, loss=1.0)) as path:
        namespaces = path.lab.namespaces()
        addresses = b"\xff" * 6 + b"\x02" + bytes(5)
        request = addresses + ETH_P_ARP.to_bytes(2, "big") + b"who-has".ljust(46)
        with raw_socket(namespaces[CORE], "a") as core, raw_socket(namespaces["a"], CORE) as a:
            core.send(request)
            assert a.recv(100) == request
        assert path.lab.link_counters()[CORE, "a"].packets == 0


def test_a_lab_does_without_netem_where_the_kernel_only_seems_to_have_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if capability("netem").ok:
        pytest.skip("this kernel has netem")
    monkeypatch.setattr("quicpipe_lab.backends.netns.lab.kernel_has_netem", lambda: True)
    topology = Topology("link", (Host("a"),), (Link((CORE, "a"), LinkBehavior(loss=1.0)),))
    with Lab(topology) as lab, sockets_of(lab) as sockets:
        path = LinkUnderTest(lab, sockets)
        path.down(b"lost")
        assert lab.link_counters()[CORE, "a"].dropped[Drop.LOSS] == 1
    with pytest.raises(BackendUnavailableError, match=r"netem on interface 'a': .*netem=False"):
        Lab(topology, netem=True).up()


_IN_A_USER_NAMESPACE = """
import sys
sys.path.insert(0, sys.argv[1])
from quicpipe_lab.model.link import LinkBehavior
from tests.backends.netns.test_wire import link_with

with link_with(LinkBehavior(delay_s=0.01), LinkBehavior(delay_s=0.01)) as path:
    path.down(b"down")
    path.up(b"up")
    print(path.a.recv(10), path.core.recv(10))
"""


@pytest.mark.usefixtures("user_namespaces")
def test_without_the_hosts_root() -> None:
    root = Path(__file__).resolve().parents[3]
    argv = ["unshare", "--user", "--map-root-user", sys.executable, "-c", _IN_A_USER_NAMESPACE]
    result = subprocess.run([*argv, str(root)], capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("b'down' b'up'\n", "")
