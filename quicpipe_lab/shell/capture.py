"""The capture of a whole lab: every interface of every node, as one pcapng file.

``record`` runs in a process of its own while the lab runs. It has one packet ring per node and
copies the rings' blocks to a spool file as they are, which costs a few system calls per 128 KiB.
``write_pcapng`` turns the spool into pcapng afterwards.

The spool is a row of chunks, each with a head of two numbers: which node, how many bytes. Node
-1 is a JSON object: first ``{"nodes": [{"name", "interfaces": {index: name}}]}``, at the very end
``{"dropped": {name: count}}``. All others are a block of that node's ring.
"""

import argparse
import contextlib
import json
import mmap
import os
import selectors
import signal
import struct
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from quicpipe_lab.cycle_search import no_cycle_search
from quicpipe_lab.errors import BackendUnavailableError, QuicpipeLabError
from quicpipe_lab.model.result import CaptureStats
from quicpipe_lab.model.topology import Topology
from quicpipe_lab.shell import pcapng
from quicpipe_lab.shell.packet_ring import (
    DRAIN_S,
    FULL_FRAME_BYTES,
    PacketRing,
    enter_network_namespace,
    frame_at,
    frames_of_block,
    ring_bytes_for,
)
from quicpipe_lab.traffic.compose import compose
from quicpipe_lab.traffic.frame import CapturedFrame
from quicpipe_lab.traffic.outages import Outage

CHUNK = struct.Struct("<iI")
JSON_CHUNK = -1
_THREADS = 32


# --- While the lab runs


def record(
    namespaces: Mapping[str, int | str],
    spool: Path,
    *,
    stop_fds: Sequence[int],
    ready_fd: int | None = None,
    snap_bytes: int = FULL_FRAME_BYTES,
) -> None:
    """Record until one of ``stop_fds`` is readable (its other end closed counts), then drain.

    ``namespaces`` gives every node's network namespace as a descriptor or as a path. A byte is
    written to ``ready_fd`` once nothing can be missed any more. Raises BackendUnavailableError.
    """
    with ThreadPoolExecutor(_THREADS) as threads, contextlib.ExitStack() as stack:
        # One after the other, the kernel's waiting for its own readers (RCU) would add up to
        # 12 ms a node here and 24 ms a node at the end.
        opening = {
            node: threads.submit(
                _open_ring, node, place, ring_bytes_for(len(namespaces)), snap_bytes
            )
            for node, place in namespaces.items()
        }
        stack.callback(lambda: list(threads.map(_close_ring, opening.values())))
        rings = {node: future.result() for node, future in opening.items()}
        output = os.open(spool, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        stack.callback(os.close, output)
        nodes = [{"name": node, "interfaces": ring.interfaces} for node, ring in rings.items()]
        _append_json(output, {"nodes": nodes})
        if ready_fd is not None:
            os.write(ready_fd, b"\n")
        _copy_until_stopped(list(rings.values()), output, stop_fds)
        dropped = {node: ring.dropped_since_last_call() for node, ring in rings.items()}
        _append_json(output, {"dropped": dropped})


def _open_ring(node: str, place: int | str, ring_bytes: int, snap_bytes: int) -> PacketRing:
    """Runs in a thread, which alone moves to the node's namespace."""
    try:
        # open() takes a descriptor as it takes a path; only what it opened itself is closed.
        with open(place, "rb", buffering=0, closefd=isinstance(place, str)) as namespace:
            enter_network_namespace(namespace.fileno())
        return PacketRing(ring_bytes, snap_bytes)
    except OSError as error:
        raise BackendUnavailableError(
            f"cannot capture at node {node!r}: {error.strerror}",
            "run `quicpipe-lab doctor` to see what this machine lacks",
        ) from None


def _close_ring(opening: Future[PacketRing]) -> None:
    if opening.exception() is None:
        opening.result().close()


def _copy_until_stopped(rings: list[PacketRing], output: int, stop_fds: Sequence[int]) -> None:
    with selectors.DefaultSelector() as selector:
        for index, ring in enumerate(rings):
            selector.register(ring, selectors.EVENT_READ, index)
        for fd in stop_fds:
            selector.register(fd, selectors.EVENT_READ, None)
        stopped = False
        while not stopped:
            for key, _ in selector.select():
                if key.data is None:
                    stopped = True
                else:
                    _append_blocks(output, key.data, rings[key.data])
        for fd in stop_fds:
            selector.unregister(fd)
        # Blocks that are not full come when their time is up. Whatever is still arriving after
        # that was sent after the stop.
        deadline = time.monotonic() + DRAIN_S
        while not all(ring.is_empty() for ring in rings) and time.monotonic() < deadline:
            for key, _ in selector.select(deadline - time.monotonic()):
                _append_blocks(output, key.data, rings[key.data])
    for index, ring in enumerate(rings):
        _append_blocks(output, index, ring)


def _append_blocks(output: int, node: int, ring: PacketRing) -> None:
    for block in ring.take_blocks():
        _append(output, node, block)


def _append_json(output: int, data: dict[str, Any]) -> None:
    _append(output, JSON_CHUNK, json.dumps(data).encode())


def _append(output: int, node: int, data: bytes | memoryview) -> None:
    head = CHUNK.pack(node, len(data))
    written = os.writev(output, (head, data))
    if written < len(head) + len(data):  # the disk is full, as the next call says
        rest = memoryview(head + bytes(data))[written:]
        while rest:
            rest = rest[os.write(output, rest) :]


# --- Afterwards


class IncompleteCaptureError(QuicpipeLabError):
    """Its recorder ended before its time."""


class Spooled(NamedTuple):
    """What a recorder left: frames in order of time, all interfaces, frames that were missed.

    ``dropped`` is None where the recorder was killed.
    """

    frames: list[CapturedFrame]
    interfaces: list[str]
    dropped: int | None


def read_spool(spool: Path) -> Spooled:
    """All that is there in full. Raises QuicpipeLabError where something else is there."""
    try:
        return _spooled(_map(spool))
    except OSError as error:
        raise QuicpipeLabError(f"cannot read {spool}: {error.strerror or error}") from None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, struct.error):
        raise QuicpipeLabError(f"{spool} is damaged, or no recorder of ours wrote it") from None


def _spooled(memory: memoryview) -> Spooled:
    """Raises all that indexing, unpacking and decoding raise."""
    nodes: list[dict[str, Any]] = []
    dropped: dict[str, int] | None = None
    # One number for each frame, not a tuple: tuples by the ten thousand keep Python's garbage
    # collector busy, for a third of the time.
    order: list[int] = []
    for node, start, end in _chunks(memory):
        chunk = memory[start:end]
        if node == JSON_CHUNK:
            data = json.loads(bytes(chunk))
            nodes, dropped = data.get("nodes", nodes), data.get("dropped", dropped)
        else:
            order += [
                time_ns << 64 | start + at << 16 | node for time_ns, at in frames_of_block(chunk)
            ]
    order.sort()
    names = {
        (number, int(index)): (node["name"], interface)
        for number, node in enumerate(nodes)
        for index, interface in node["interfaces"].items()
    }
    frames = []
    for key in order:
        time_ns, start, number = key >> 64, key >> 16 & 0xFFFFFFFFFFFF, key & 0xFFFF
        index, outgoing, true_bytes, data = frame_at(memory, start)
        # An interface that is younger than the recorder goes by its number.
        node_name, interface = names.get((number, index)) or (nodes[number]["name"], str(index))
        frames.append(
            CapturedFrame(
                time_ns,
                node_name,
                interface,
                "out" if outgoing else "in",
                bytes(data),
                true_bytes=0 if true_bytes == len(data) else true_bytes,
            )
        )
    interfaces = ["/".join(name) for name in names.values()]
    return Spooled(frames, interfaces, None if dropped is None else sum(dropped.values()))


def write_pcapng(
    spool: Path,
    out: Path,
    carried: Sequence[CapturedFrame] = (),
    secrets: bytes = b"",
    topology: Topology | None = None,
    off: Sequence[Outage] = (),
) -> CaptureStats:
    """Turn a spool into a pcapng file for Wireshark, and say what was missed. See compose().

    Raises IncompleteCaptureError, after writing all that is there, if the recorder was killed.
    """
    with no_cycle_search():
        spooled = read_spool(spool)
        frames = compose(spooled.frames, carried, topology, off)
        pcapng.write(out, frames, spooled.interfaces, secrets)
    if spooled.dropped is None:
        raise IncompleteCaptureError("the capture is not complete")
    return CaptureStats(len(spooled.frames), spooled.dropped)


def _map(path: Path) -> memoryview:
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return memoryview(b"")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _chunks(memory: memoryview) -> Iterator[tuple[int, int, int]]:
    """Node, start and end of every chunk that is there in full."""
    start = CHUNK.size
    while start <= len(memory):
        node, size = CHUNK.unpack_from(memory, start - CHUNK.size)
        if start + size <= len(memory):
            yield node, start, start + size
        start += size + CHUNK.size


# --- The recorder as a program of the lab


def main(argv: Sequence[str]) -> int:
    """``--spool FILE [--ready-fd N] [--stop-fd N] NODE=FD_OR_PATH ...``; a signal stops it too."""
    parser = argparse.ArgumentParser(prog="quicpipe-lab capture", description=record.__doc__)
    parser.add_argument("--spool", type=Path, required=True)
    parser.add_argument("--ready-fd", type=int)
    parser.add_argument("--stop-fd", type=int)
    parser.add_argument("--snap-bytes", type=int, default=FULL_FRAME_BYTES)
    parser.add_argument("namespaces", nargs="+", metavar="NODE=FD_OR_PATH", type=_namespace)
    options = parser.parse_args(argv)
    stop_fds = [_stop_signals()]
    if options.stop_fd is not None:
        stop_fds.append(options.stop_fd)
    try:
        record(
            dict(options.namespaces),
            options.spool,
            stop_fds=stop_fds,
            ready_fd=options.ready_fd,
            snap_bytes=options.snap_bytes,
        )
    except BackendUnavailableError as error:
        print(error, file=sys.stderr)
        return 3
    except OSError as error:
        print(f"{error.strerror} ({options.spool})", file=sys.stderr)
        return 1
    return 0


def _namespace(text: str) -> tuple[str, int | str]:
    node, _, place = text.partition("=")
    if not node or not place:
        raise argparse.ArgumentTypeError(f"{text!r} is not NODE=FD_OR_PATH")
    return node, int(place) if place.isdigit() else place


def _stop_signals() -> int:
    """A descriptor that is readable once somebody asked this process to end."""
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    signal.set_wakeup_fd(writable)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    return readable


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
