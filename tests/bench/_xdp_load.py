"""The programs of the XDP filter's benchmark, all but the relays. Spoken to by lines of JSON.

``send WAY``: a sender on the core, whatever relays (``plain``, ``relay``, ``turn``: see
_relay_load). ``sink``: counts at the core what comes back. ``attach NAME``: has a program of
_xdp_ends.c in a relay's place. Each ends with its input.
"""

import argparse
import ctypes
import ipaddress
import json
import mmap
import os
import socket
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

from pyroute2 import IPRoute

from quicpipe_lab.backends.netns import ethtool
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.protocol.connection_id import ConnectionIdGenerator
from quicpipe_lab.shell import bpf
from quicpipe_lab.shell.batch import Message, SendBatch
from quicpipe_lab.shell.relay_batch import pack_name
from quicpipe_lab.shell.xdp import Mode, Program
from tests.bench._relay_load import (
    CHANNEL,
    DATAGRAM_BYTES,
    RECEIVER_KEY,
    SENDER_KEY,
    allocate,
    parse,
    register,
    say,
)

ENDS = Path(__file__).with_name("_xdp_ends.c")
BUCKET_NS, BUCKETS = 100, 262_144
_STAMP_AT = 16
"""In a datagram; see _xdp_ends.c."""
_COUNT = struct.Struct("=Q")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("send", "sink", "attach"))
    parser.add_argument("names", nargs="+")
    parser.add_argument("--server", default="")
    parser.add_argument("--run", type=int, default=48, help="datagrams of one system call")
    options = parser.parse_args()
    if options.what == "sink":
        sink(options.names)
    elif options.what == "attach":
        program = Program(ENDS, options.names[0])
        program.attach(options.names[1], Mode.NATIVE)
        say(ready=True)
        sys.stdin.read()
    else:
        os.sched_setaffinity(0, {0})
        if options.names[0] == "nowhere":
            make_nowhere(parse(options.server).host)
        send(options.names[0], parse(options.server), options.run)


# The sender


def send(way: str, server: TransportAddress, run: int) -> None:
    """``{"for_s", "rate", "stamped"}``: so many a second, 0 is as many as go; stamped ones are
    sent one by one. The answer's ``cpu_s`` is what sending took, with all that the kernel does for
    it at once."""
    opened = _socket_towards(server)
    wrapping, head = _way_to_peer(way, opened, _socket_towards(server), server)
    datagram = bytearray(wrapping + head.ljust(DATAGRAM_BYTES, b"\0"))
    size = len(datagram)
    stamp_at = len(wrapping) + _STAMP_AT
    memory = bytearray(bytes(datagram) * run)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    raw = bytearray(pack_name(server, socket.AF_INET))
    name = (ctypes.addressof(ctypes.c_char.from_buffer(raw)), len(raw))
    message = Message(name, size, [address], [size * run], size * run, run)
    batch = SendBatch(opened, offload=True)
    opened.connect((server.host, server.port))

    def send_run() -> int:
        batch.send([message])
        return run

    def send_stamped() -> int:
        _COUNT.pack_into(datagram, stamp_at, time.monotonic_ns())
        opened.send(datagram)
        return 1

    say(ready=True)
    for line in sys.stdin:
        command = json.loads(line)
        if command["stamped"]:
            say(**paced(send_stamped, command["for_s"], command["rate"]))
        else:
            work = Metered(send_run)
            say(**paced(work, command["for_s"], command["rate"]), cpu_s=work.ns / 1e9)


def make_nowhere(neighbour: str) -> None:
    """An interface that takes everything and drops it: the neighbour of its name is nobody."""
    address = str(ipaddress.ip_address(neighbour) - 1)
    with IPRoute() as ip:
        ip.link("add", ifname="nowhere", kind="ifb")
        (index,) = ip.link_lookup(ifname="nowhere")
        ip.link("set", index=index, state="up")
        ip.addr("add", index=index, address=address, prefixlen=30)
        ip.neigh("add", dst=neighbour, lladdr="02:00:00:00:00:01", ifindex=index, state=0x80)
    ethtool.send_real_packets(["nowhere"])


class Metered:
    """Calls, and the processor time that they took."""

    def __init__(self, call: Callable[[], int]) -> None:
        self.ns = 0
        self._call = call

    def __call__(self) -> int:
        began_ns = time.thread_time_ns()
        result = self._call()
        self.ns += time.thread_time_ns() - began_ns
        return result


def paced(send_some: Callable[[], int], for_s: float, rate: float) -> dict[str, float]:
    """Spins between the calls, which therefore come in time; ``rate`` 0 is without a pause."""
    sent = 0
    clock = time.perf_counter
    began_s = now = clock()
    end_s = began_s + for_s
    while now < end_s:
        if (now - began_s) * rate >= sent or not rate:
            sent += send_some()
        now = clock()
    return {"sent": sent, "took_s": now - began_s}


def _socket_towards(server: TransportAddress) -> socket.socket:
    """Bound to the address that packets to the server leave with."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.connect((server.host, server.port))
        host, _ = asking.getsockname()
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.bind((host, 0))
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
    return opened


def _way_to_peer(
    way: str, sender: socket.socket, receiver: socket.socket, server: TransportAddress
) -> tuple[bytes, bytes]:
    """What a datagram is wrapped in and begins with, once the relay knows both ends. The receiver
    has only to be known: the sink takes what comes for it."""
    if way == "relay":
        register(sender, server, SENDER_KEY)
        register(receiver, server, RECEIVER_KEY)
        return b"", b"\x41" + ConnectionIdGenerator(RECEIVER_KEY, relay_leg=False).at(1)
    if way == "turn":
        allocate(sender, server, TransportAddress(*receiver.getsockname()))
        return struct.pack("!HH", CHANNEL, DATAGRAM_BYTES), b"\x41"
    return b"", b"\x41"


# The sink


def sink(interfaces: list[str]) -> None:
    """Each line is answered with what has come since the one before, and how long it took."""
    program = Program(ENDS, "sink")
    for interface in interfaces:
        program.attach(interface, Mode.NATIVE)
    # Every packet is to be as on a wire: by itself, with its checksum made.
    ethtool.send_real_packets(interfaces)
    cpus = bpf.possible_cpus()
    delays = mmap.mmap(program.map_fd("delays"), BUCKETS * _COUNT.size)
    zero = bytes(4)
    before = 0
    say(ready=True)
    for _ in sys.stdin:
        counts = bpf.look_up(program.map_fd("arrived"), zero, _COUNT.size * cpus) or b""
        arrived = sum(count for (count,) in _COUNT.iter_unpack(counts))
        histogram = [count for (count,) in _COUNT.iter_unpack(delays[:])]
        delays[:] = bytes(len(delays))
        middle, late = _quantile(histogram, 0.5), _quantile(histogram, 0.99)
        say(arrived=arrived - before, median_s=middle, p99_s=late)
        before = arrived


def _quantile(histogram: list[int], part: float) -> float | None:
    """The middle of the bucket; None where nothing was stamped. The last one is 26 ms or more."""
    wanted = sum(histogram) * part
    passed = 0
    for bucket, count in enumerate(histogram):
        passed += count
        if count and passed >= wanted:
            return (bucket + 0.5) * BUCKET_NS / 1e9
    return None


if __name__ == "__main__":
    main()
