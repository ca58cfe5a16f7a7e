"""A thread in a network namespace of its own, with a filter in it that tests can ask."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from quicpipe_lab.backends.netns.syscalls import CLONE_NEWNET, unshare
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.shell import bpf
from quicpipe_lab.shell.xdp import Mode
from quicpipe_lab.shell.xdp_filter import Filter
from quicpipe_lab.shell.xdp_layout import FilterReason, Layer2
from tests.xdp.packets import BINDINGS, OWN, PORT

XDP_DROP, XDP_PASS, XDP_TX = 1, 2, 3

T = TypeVar("T")
InNamespace = Callable[[Callable[[], T]], T]


class Outcome(NamedTuple):
    """What the filter did with a frame, and the reason that it counted."""

    verdict: int
    reason: FilterReason
    data: bytes


@contextmanager
def namespace() -> Iterator[ThreadPoolExecutor]:
    """One thread, which is in a network namespace that goes with it."""
    with ThreadPoolExecutor(1, initializer=unshare, initargs=(CLONE_NEWNET,)) as thread:
        yield thread


@contextmanager
def loaded(capacity: int = 64, unbound_per_s: float = 0.0) -> Iterator[Filter]:
    """A filter on the loopback interface of a namespace of its own, and nothing bound in it."""
    with namespace() as thread, thread.submit(open_filter, capacity, unbound_per_s).result() as one:
        yield one


def open_filter(capacity: int, unbound_per_s: float) -> Filter:
    """In the caller's namespace, and for the relay of tests/xdp/packets.py."""
    one = Filter.open(capacity=capacity, unbound_per_s=unbound_per_s)
    one.attach("lo", Mode.GENERIC, Layer2.SWAP)
    one.set_own_addresses(OWN)
    one.attach_port(PORT)
    return one


@contextmanager
def with_bindings() -> Iterator[Filter]:
    """A filter with the bindings of tests/xdp/packets.py."""
    with loaded() as one:
        one.add_redirects(BINDINGS)
        one._config.max_packet_bytes = 1500  # Ethernet's, not the loopback interface's
        yield one


def ask(one: Filter, frame: bytes, interface: int = 0) -> Outcome:
    """Give it one frame."""
    before = one.counters()
    run = bpf.run_on_packet(one.program_fd, frame, interface=interface)
    after = one.counters()
    (reason,) = (one for one in FilterReason if after[one] != before[one])
    assert after[reason] == before[reason] + 1
    return Outcome(run.verdict, reason, run.data)


def forwarded(frame: bytes, to: TransportAddress, next_hop: str = "") -> bytes:
    """What is to leave for a frame, made by scapy from scratch, checksums included."""
    packet = Ether(frame)
    ip = packet[IP] if IP in packet else packet[IPv6]
    packet.src, packet.dst = packet.dst, next_hop or packet.src
    ip.src, ip.dst = ip.dst, to.host
    udp = packet[UDP]
    udp.sport, udp.dport = udp.dport, to.port
    if udp.chksum:
        del udp.chksum
    if IP in packet:
        ip.ttl -= 1
        del ip.chksum
    else:
        ip.hlim -= 1
    return bytes(packet)
