"""What the XDP filter takes for a packet, and how fast bindings get into it.

Times are the kernel's own (BPF_PROG_TEST_RUN), on one CPU, without a network card's part. A test
run of many repeats works on the same bytes again and again, so the packet is made one that the
filter turns into itself: from the bound address, to the bound address, at the relay's port. The
filter refuses that (it is a loop) where it decides; so it decides about an honest packet, and its
record of that packet's sender then gets the other address. All that is left out is the decision,
which a flow needs once a second. Every run is checked: all repeats were forwarded, by the filter's
own count.
"""

import functools
import os
import random
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from scapy.packet import Packet

from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.shell import bpf
from quicpipe_lab.shell.xdp import Mode, Program
from quicpipe_lab.shell.xdp_filter import Filter
from quicpipe_lab.shell.xdp_layout import FilterReason, Layer2, Sender, pack_address
from quicpipe_lab.shell.xdp_table import memory_bytes
from tests.bench import Row, _xdp_traffic, alternate, median
from tests.xdp.kernel import XDP_PASS, XDP_TX, namespace
from tests.xdp.packets import ALICE4, ALICE6, PORT, RELAY4, RELAY6, frame, identity, udp4, udp6

TITLE = (
    "XDP filter: time per packet of 1200 bytes, and registration; through veth, with all processor "
    "time from the link on, against userspace and coturn"
)

_RATIO_LIMIT = 2.5
_REGISTRATION_LIMIT_S = 5.0
_CAPACITY = 1_000_064
_COUNTS = (2, 1_000, 1_000_000)
_IDS_PER_ADDRESS = 64
_PAYLOAD_BYTES = 1200
_HOPS = 255
_REPEATS = 250
_ROUNDS = 400
_TRIES = 20
_SPREAD_FLOWS = 20_000
_SWAP = "only swaps MAC addresses"

TO_SELF4, TO_SELF6 = identity(1), identity(2)
OTHER4, OTHER6 = "192.0.2.2", "2001:db8::2"
"""The relay's as well."""
SELF4, SELF6 = TransportAddress(RELAY4, PORT), TransportAddress(RELAY6, PORT)


def run() -> list[Row]:
    cpus = os.sched_getaffinity(0)
    with namespace() as thread:
        try:
            rows = thread.submit(_run).result()
        finally:
            os.sched_setaffinity(0, cpus)
    return rows + _xdp_traffic.rows()


def _run() -> list[Row]:
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    swap = Program(Path(__file__).with_name("_xdp_swap.c"), "swap")
    started = time.perf_counter()
    with closing(swap), Filter.open(capacity=_CAPACITY) as filter_:
        opened_s = time.perf_counter() - started
        rows = [
            Row(
                f"compile and load, for {_CAPACITY:,} bindings",
                opened_s,
                "s",
                note=f"{memory_bytes(_CAPACITY) / 1e6:.0f} MB in the kernel",
            )
        ]
        filter_.attach("lo", Mode.GENERIC, Layer2.SWAP)
        filter_.attach_port(PORT)
        filter_.set_own_addresses([], hosts=[RELAY4, RELAY6, OTHER4, OTHER6])
        filter_.add_redirects([(TO_SELF4, SELF4), (TO_SELF6, SELF6)])
        filter_.add_redirects([(identity(3), ALICE4), (identity(4), ALICE6)])
        bindings = list(_million())
        added = 0
        for count in _COUNTS:
            started, started_cpu = time.perf_counter(), time.thread_time()
            filter_.add_redirects(bindings[added : count - 2])
            took_s, cpu_s = time.perf_counter() - started, time.thread_time() - started_cpu
            added = max(count - 2, 0)
            rows += _hits(filter_, swap, count)
        rows += _steps(filter_)
        rows += _spread(filter_, swap, bindings)
        rows.append(
            Row(
                f"binding {_COUNTS[-1] - _COUNTS[-2]:,} IDs at once, CPU time",
                cpu_s,
                "s",
                limit=_REGISTRATION_LIMIT_S,
                note=f"{took_s:.1f} s by the clock, which others share",
            )
        )
    return rows


def _million() -> Iterator[tuple[bytes, TransportAddress]]:
    """IDs as random as the real ones are, so many to an address as a client registers."""
    chance = random.Random(4433)
    for number in range(_COUNTS[-1] // _IDS_PER_ADDRESS + 1):
        host = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        address = TransportAddress(host, 40_000)
        for _ in range(_IDS_PER_ADDRESS):
            yield (chance.getrandbits(95)).to_bytes(12, "big"), address


class _Flow(NamedTuple):
    """An honest packet, and one that is forwarded to where it comes from."""

    source: TransportAddress
    itself: TransportAddress
    honest: bytes
    circular: bytes


def _flows() -> dict[str, _Flow]:
    payload4, payload6 = (_payload(one) for one in (TO_SELF4, TO_SELF6))
    return {
        "IPv4": _Flow(
            ALICE4,
            SELF4,
            frame(udp4(payload4, ALICE4, ttl=_HOPS, dst=OTHER4)),
            frame(udp4(payload4, SELF4, ttl=_HOPS)),
        ),
        "IPv6": _Flow(
            ALICE6,
            SELF6,
            frame(udp6(payload6, ALICE6, hlim=_HOPS, dst=OTHER6)),
            frame(udp6(payload6, SELF6, hlim=_HOPS)),
        ),
    }


def _payload(connection_id: bytes) -> bytes:
    return (b"\x41" + connection_id).ljust(_PAYLOAD_BYTES, b"\0")


def _hits(filter_: Filter, swap: Program, count: int) -> list[Row]:
    flows = _flows()
    times = alternate(
        _ROUNDS,
        swap=lambda: _time(swap.fd, flows["IPv4"].honest, XDP_TX),
        **{name: functools.partial(_hit, filter_, flow) for name, flow in flows.items()},
    )
    least = median(times["swap"])
    what = f"{count:,} bindings"
    return [
        Row(f"{what}: a program that {_SWAP}", least, "ns"),
        *(
            Row(
                f"{what}: {name}, forwarded",
                median(times[name]),
                "ns",
                ratio=median(times[name]) / least,
                against=f"what {_SWAP}",
                limit=_RATIO_LIMIT,
            )
            for name in flows
        ),
    ]


def _hit(filter_: Filter, flow: _Flow) -> float:
    """As the module's docstring says. Again, where the decision's second was over in between."""
    table = filter_._table
    slot = table._senders[flow.source].slot
    offset = int(Sender.address.offset)
    for _ in range(_TRIES):
        bpf.run_on_packet(filter_.program_fd, flow.honest)
        table._sender_records.write_at(slot, offset, pack_address(flow.itself))
        before = filter_.counters()[FilterReason.FORWARDED]
        run = bpf.run_on_packet(filter_.program_fd, flow.circular, _REPEATS)
        after = filter_.counters()[FilterReason.FORWARDED]
        table._sender_records.write_at(slot, offset, pack_address(flow.source))
        if run.verdict == XDP_TX and after - before == _REPEATS:
            return run.duration_ns
    raise AssertionError("not all of a run's packets were forwarded")


def _time(program_fd: int, packet: bytes, verdict: int, repeats: int = _REPEATS) -> float:
    """Nanoseconds a packet."""
    run = bpf.run_on_packet(program_fd, packet, repeats)
    if run.verdict != verdict:
        raise AssertionError(f"the verdict was {run.verdict}, not {verdict}")
    return run.duration_ns


def _steps(filter_: Filter) -> list[Row]:
    """The share of each step, by packets that come so far and no further."""
    rows = []
    for name, flow, make in (("IPv4", _flows()["IPv4"], udp4), ("IPv6", _flows()["IPv6"], udp6)):
        ends = {
            "entering, counting the verdict": flow.honest[:12] + b"\x08\x06" + flow.honest[14:],
            "headers up to UDP's": _with_port(make(_payload(TO_SELF4), flow.source)),
            "port, address, QUIC's header": frame(make(_payload(b"\xff" * 12), flow.source)),
            "the ID's binding": _without_hops(flow.honest),
        }
        times = alternate(
            _ROUNDS,
            **{
                what: functools.partial(_time, filter_.program_fd, packet, XDP_PASS)
                for what, packet in ends.items()
            },
            all=functools.partial(_hit, filter_, flow),
        )
        whole = median(times["all"])
        before = 0.0
        steps = {**{what: median(times[what]) for what in ends}, _LAST_STEP: whole}
        for what, until in steps.items():
            share = until - before
            rows.append(Row(f"{name}: {what}", share, "ns", note=f"{share / whole:.0%}"))
            before = until
    return rows


_LAST_STEP = "source, counters, new addresses and checksums"


def _with_port(packet: Packet) -> bytes:
    packet["UDP"].dport = PORT + 1
    return frame(packet)


def _without_hops(packet: bytes) -> bytes:
    at = 14 + (8 if packet[12:14] == b"\x08\x00" else 7)
    return packet[:at] + b"\x01" + packet[at + 1 :]


def _spread(
    filter_: Filter, swap: Program, bindings: list[tuple[bytes, TransportAddress]]
) -> list[Row]:
    """One packet a test run, so that the kernel's clock and cold caches are in it, whatever the
    program; each to another binding and from another sender. All of them twice: first nothing is
    known of the flows, then all of it is, but it has long left the CPU's caches."""
    chance = random.Random(1)
    half = _COUNTS[-1] // 2  # an address of one half never sends to itself
    template = frame(udp4(_payload(TO_SELF4), ALICE4, ttl=_HOPS, dst=OTHER4))
    packets = []
    for _ in range(_SPREAD_FLOWS):
        to, _ = bindings[chance.randrange(half)]
        _, source = bindings[half + chance.randrange(half - 2)]
        packets.append(_to_and_from(template, to, source))
    fd = filter_.program_fd
    swapped = median([_time(swap.fd, template, XDP_TX, 1) for _ in packets])
    same = median([_time(fd, template, XDP_TX, 1) for _ in packets])
    unknown, known = (median([_time(fd, one, XDP_TX, 1) for one in packets]) for _ in range(2))
    what = f"one packet a run, {_SPREAD_FLOWS:,} flows of a million"
    return [
        Row(f"one packet a run: what {_SWAP}", swapped, "ns"),
        Row("one packet a run, always the same flow", same - swapped, "ns more"),
        Row(f"{what}, known", known - swapped, "ns more", note="cold caches"),
        Row(f"{what}, new", unknown - swapped, "ns more", note="cold caches and the decision"),
    ]


def _to_and_from(template: bytes, connection_id: bytes, source: TransportAddress) -> bytes:
    """Without a checksum, which would be that of the template."""
    source_at, port_at, checksum_at, id_at = 14 + 12, 14 + 20, 14 + 26, 14 + 28 + 1
    packed = pack_address(source)
    packet = bytearray(template)
    packet[source_at : source_at + 4] = packed[12:16]
    packet[port_at : port_at + 2] = packed[16:18]
    packet[checksum_at : checksum_at + 2] = bytes(2)
    packet[id_at : id_at + 12] = connection_id
    return bytes(packet)
