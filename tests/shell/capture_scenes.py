"""What the capture's tests do inside network namespaces; a program of its own, so that the tests
themselves never move: ``capture_scenes.py SCENE FOLDER [--user-namespace]``.

Two nodes, alpha and beta, each with an Ethernet interface ``wan`` to the other and a loopback.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from pyroute2 import IPRoute

from quicpipe_lab.backends.netns.syscalls import CLONE_NEWNET, CLONE_NEWUSER, setns, unshare

ETHERTYPE = b"\x88\xb5"
"""IEEE 802's local experimental type: nothing else in the namespaces sends it."""
ADDRESSES = b"\xff" * 6 + b"\x02\x00\x00\x00\x00\x01"
BURST_FRAMES = 10_000
BURST_RATE_HZ = 20_000
PAYLOAD_BYTES = 1250
DEADLINE_S = 10.0


class Port:
    """A raw socket on an interface of the current namespace."""

    def __init__(self, interface: str) -> None:
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self.socket.bind((interface, int.from_bytes(ETHERTYPE, "big")))
        self.socket.settimeout(DEADLINE_S)

    def send(self, payload: bytes, head: bytes = ADDRESSES + ETHERTYPE) -> None:
        self.socket.send(head + payload)

    def expect(self, payload: bytes) -> None:
        """Read frames up to the one that ends like this: all before it have arrived then."""
        while not self.socket.recv(65536).endswith(payload):
            pass

    def knock(self, other: "Port") -> None:
        """Until something gets through: an interface drops frames for a while after "up"."""
        deadline = time.monotonic() + DEADLINE_S
        other.socket.settimeout(0.05)
        while time.monotonic() < deadline:
            self.send(b"knock")
            with contextlib.suppress(TimeoutError):
                other.socket.recv(100)
                other.socket.settimeout(DEADLINE_S)
                return
        raise TimeoutError("the link does not come up")


class Node:
    """A network namespace with a loopback and ``wan``."""

    def __init__(self, name: str) -> None:
        self.name = name
        unshare(CLONE_NEWNET)
        self.namespace = os.open("/proc/self/ns/net", os.O_RDONLY)
        # The kernel's own IPv6 messages would make the counts uncertain.
        Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1")
        Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")

    def join(self, other: "Node") -> None:
        with IPRoute() as ip:
            there = {"ifname": "wan", "net_ns_fd": other.namespace}
            ip.link("add", ifname="wan", kind="veth", peer=there)

    def up(self) -> None:
        setns(self.namespace, CLONE_NEWNET)
        with IPRoute() as ip:
            for name in ("lo", "wan"):
                ip.link("set", index=ip.link_lookup(ifname=name)[0], state="up")
        self.loopback = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.wan = Port("wan")


@contextlib.contextmanager
def recorder(nodes: list[Node], spool: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """The real recorder as its own process, ready; stopped at the end by closing its stop-fd."""
    ready, ready_there = os.pipe()
    stop_there, stop = os.pipe()
    fds = [ready_there, stop_there, *(node.namespace for node in nodes)]
    command = [sys.executable, "-m", "quicpipe_lab.shell.capture", "--spool", str(spool)]
    command += ["--ready-fd", str(ready_there), "--stop-fd", str(stop_there), *options]
    command += [f"{node.name}={node.namespace}" for node in nodes]
    with subprocess.Popen(command, pass_fds=fds) as process:
        os.close(ready_there)
        os.close(stop_there)
        assert os.read(ready, 1) == b"\n", "the recorder ended before it was ready"
        yield process
        os.close(stop)
        assert process.wait(DEADLINE_S) == 0


def everything(alpha: Node, beta: Node, folder: Path) -> None:
    """Both directions, a tag, a loopback, a frame of the largest kind; before and after count."""
    alpha.wan.send(b"before the recorder")
    beta.wan.expect(b"before the recorder")
    print(time.time_ns())
    with recorder([alpha, beta], folder / "spool"):
        alpha.loopback.sendto(b"inside", ("127.0.0.1", 9))
        for number in range(3):
            alpha.wan.send(b"to beta %d" % number)
            beta.wan.expect(b"to beta %d" % number)
        beta.wan.send(b"to alpha")
        alpha.wan.expect(b"to alpha")
        # 802.1Q, priority 1, VLAN 7
        alpha.wan.send(b"tagged", ADDRESSES + b"\x81\x00\x20\x07" + ETHERTYPE)
        beta.wan.expect(b"tagged")
        alpha.wan.send(bytes(range(250)) * 6)
        beta.wan.expect(bytes(range(250)) * 6)
    print(time.time_ns())
    alpha.wan.send(b"after the recorder")


def short(alpha: Node, beta: Node, folder: Path) -> None:
    """Frames are cut after 20 bytes; a signal ends the recorder."""
    with recorder([alpha, beta], folder / "spool", "--snap-bytes", "20") as process:
        alpha.wan.send(b"x" * 1000)
        beta.wan.expect(b"x" * 1000)
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 0


def late(alpha: Node, beta: Node, folder: Path) -> None:
    """An interface that is made while the recorder runs; its number is printed."""
    with recorder([alpha, beta], folder / "spool"):
        setns(alpha.namespace, CLONE_NEWNET)
        with IPRoute() as ip:
            ip.link("add", ifname="late", kind="veth", peer="late-peer")
            for name in ("late", "late-peer"):
                (index,) = ip.link_lookup(ifname=name)
                ip.link("set", index=index, state="up")
        print(index)
        late, late_peer = Port("late"), Port("late-peer")
        late_peer.knock(late)
        late_peer.send(b"from the late one")
        late.expect(b"from the late one")


def burst(alpha: Node, beta: Node, folder: Path) -> None:
    """20,000 frames a second while both cores are kept busy by others."""
    endless = [sys.executable, "-c", "while True: pass"]
    with recorder([alpha, beta], folder / "spool"):
        rivals = [subprocess.Popen(endless) for _ in range(2)]
        start = time.monotonic()
        try:
            for number in range(BURST_FRAMES):
                alpha.wan.send(number.to_bytes(4, "big").ljust(PAYLOAD_BYTES, b"."))
                while time.monotonic() < start + number / BURST_RATE_HZ:
                    pass
        finally:
            for rival in rivals:
                rival.kill()
                rival.wait()
        end(alpha, beta)


def starved(alpha: Node, beta: Node, folder: Path) -> None:
    """The recorder sleeps while more arrives than its rings hold."""
    with recorder([alpha, beta], folder / "spool") as process:
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        for _ in range(BURST_FRAMES):
            alpha.wan.send(b"." * PAYLOAD_BYTES)
        end(alpha, beta)
        process.send_signal(signal.SIGCONT)


def end(alpha: Node, beta: Node) -> None:
    """One more frame, behind all that were sent; so many that not all may be waiting at beta."""
    beta.wan.socket.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while beta.wan.socket.recv(100):
            pass
    beta.wan.socket.settimeout(DEADLINE_S)
    alpha.wan.send(b"the end")
    beta.wan.expect(b"the end")


def main() -> None:
    scene, folder, *options = sys.argv[1:]
    if options == ["--user-namespace"]:
        user, group = os.geteuid(), os.getegid()
        unshare(CLONE_NEWUSER)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    alpha, beta = Node("alpha"), Node("beta")
    beta.join(alpha)
    alpha.up()
    beta.up()
    alpha.wan.knock(beta.wan)
    beta.wan.knock(alpha.wan)
    scenes = {one.__name__: one for one in (everything, short, late, burst, starved)}
    scenes[scene](alpha, beta, Path(folder))


main()
