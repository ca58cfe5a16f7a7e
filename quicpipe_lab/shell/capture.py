"""The capture of a whole lab: every interface of every node, as one pcapng file.

``record`` runs in a process of its own while the lab runs. It has one packet ring per node and
copies the rings' blocks to a spool file as they are, which costs a few system calls per 128 KiB.
``write_pcapng`` turns the spool into pcapng afterwards, and ``read`` gives the frames back.

The spool is a row of chunks, each with a head of two numbers: which node, how many bytes. Node
-1 is a JSON object: first ``{"nodes": [{"name", "interfaces": {index: name}}]}``, at the very end
``{"dropped": {name: count}}``. All others are a block of that node's ring.

scapy is imported where it is needed, because the recorder must start fast and never needs it.
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
from typing import Any, Literal, NamedTuple

from quicpipe_lab.errors import BackendUnavailableError, QuicpipeLabError
from quicpipe_lab.model.result import CaptureStats
from quicpipe_lab.shell.packet_ring import (
    DRAIN_S,
    FULL_FRAME_BYTES,
    Frame,
    PacketRing,
    enter_network_namespace,
    frame_at,
    frames_of_block,
    ring_bytes_for,
)

Direction = Literal["in", "out"]

_CHUNK = struct.Struct("<iI")
_JSON_CHUNK = -1
_THREADS = 32

# pcapng (draft-ietf-opsawg-pcapng): section 3.5 options, 4.2 interfaces, 4.3 frames.
_OPTION = struct.Struct("<HH")
_INTERFACE_BLOCK = struct.pack("<I", 1)
_INTERFACE = struct.Struct("<HxxI")
"""Link type and the longest frame."""
_IF_NAME, _IF_TSRESOL = 2, 9
_LINKTYPE_ETHERNET = 1
_NANOSECONDS = 9
_FRAME_HEAD = struct.Struct("<7I")
"""Type 6, length of the block, interface, time (high and low half), captured and true length."""
_FRAME_TAIL = struct.Struct("<HH3I")
"""One option, the end of options, and the length of the block once more."""
_EPB_FLAGS = 2
_WRITE_PARTS = 1024
"""Written at a time: the parts of 256 frames."""
_INBOUND, _OUTBOUND = 1, 2


class CapturedFrame(NamedTuple):
    """One frame of a capture file; ``time_ns`` is Unix time, taken by the kernel."""

    time_ns: int
    node: str
    interface: str
    direction: Direction
    data: bytes


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
    _append(output, _JSON_CHUNK, json.dumps(data).encode())


def _append(output: int, node: int, data: bytes | memoryview) -> None:
    size = _CHUNK.size + len(data)
    if os.writev(output, (_CHUNK.pack(node, len(data)), data)) != size:
        raise QuicpipeLabError("the capture's spool file did not take all: is the disk full?")


# --- Afterwards


def write_pcapng(spool: Path, out: Path) -> CaptureStats:
    """Turn a spool into a pcapng file in order of time, and say what was missed.

    Raises QuicpipeLabError, after writing all that is there, if the recorder was killed.
    """
    memory = _map(spool)
    nodes: list[dict[str, Any]] = []
    dropped: dict[str, int] | None = None
    # One number for each frame, not a tuple: tuples by the ten thousand keep Python's garbage
    # collector busy, for a third of the time.
    order: list[int] = []
    for node, start, end in _chunks(memory):
        chunk = memory[start:end]
        if node == _JSON_CHUNK:
            data = json.loads(bytes(chunk))
            nodes, dropped = data.get("nodes", nodes), data.get("dropped", dropped)
        else:
            order += [
                time_ns << 64 | start + at << 16 | node for time_ns, at in frames_of_block(chunk)
            ]
    order.sort()
    with _pcapng_writer(out) as writer:
        numbers = {
            (node, int(index)): writer.add_interface(f"{described['name']}/{interface}")
            for node, described in enumerate(nodes)
            for index, interface in described["interfaces"].items()
        }
        for key in order:
            time_ns, start, node = key >> 64, key >> 16 & 0xFFFFFFFFFFFF, key & 0xFFFF
            frame = frame_at(memory, start)
            place = node, frame.interface_index
            if place not in numbers:  # an interface that is younger than the recorder
                name = f"{nodes[node]['name']}/{frame.interface_index}"
                numbers[place] = writer.add_interface(name)
            writer.add_frame(numbers[place], time_ns, frame)
    if dropped is None:
        raise QuicpipeLabError("the capture is not complete: its recorder ended before its time")
    return CaptureStats(len(order), sum(dropped.values()))


def _map(path: Path) -> memoryview:
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return memoryview(b"")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _chunks(memory: memoryview) -> Iterator[tuple[int, int, int]]:
    """Node, start and end of every chunk that is there in full."""
    start = _CHUNK.size
    while start <= len(memory):
        node, size = _CHUNK.unpack_from(memory, start - _CHUNK.size)
        if start + size <= len(memory):
            yield node, start, start + size
        start += size + _CHUNK.size


def _pcapng_writer(out: Path) -> Any:
    """scapy's pcapng writer, with nanoseconds, with directions, and three times as fast.

    scapy 2.8 itself writes microseconds, gives the first interface no name, and takes 6 us a
    frame; a run has tens of thousands.
    """
    from scapy.utils import RawPcapNgWriter

    class Writer(RawPcapNgWriter):
        def __init__(self) -> None:
            super().__init__(str(out))
            self._write_block_shb()
            self.header_present = True
            self._interfaces = 0
            self._waiting: list[bytes | memoryview] = []

        def add_interface(self, name: str) -> int:
            text = name.encode()
            options = (
                _OPTION.pack(_IF_NAME, len(text))
                + self._add_padding(text)
                + _OPTION.pack(_IF_TSRESOL, 1)
                + self._add_padding(bytes([_NANOSECONDS]))
                + _OPTION.pack(0, 0)
            )
            body = _INTERFACE.pack(_LINKTYPE_ETHERNET, FULL_FRAME_BYTES)
            self.f.write(self.build_block(_INTERFACE_BLOCK, body, options))
            self._interfaces += 1
            return self._interfaces - 1

        def add_frame(self, interface: int, time_ns: int, frame: Frame) -> None:
            size = len(frame.data)
            padding = bytes(-size % 4)
            total = _FRAME_HEAD.size + size + len(padding) + _FRAME_TAIL.size
            high, low = time_ns >> 32, time_ns & 0xFFFFFFFF
            flags = _OUTBOUND if frame.outgoing else _INBOUND
            head = _FRAME_HEAD.pack(6, total, interface, high, low, size, frame.true_bytes)
            tail = _FRAME_TAIL.pack(_EPB_FLAGS, 4, flags, 0, total)
            self._waiting += (head, frame.data, padding, tail)
            if len(self._waiting) >= _WRITE_PARTS:
                self.flush()

        def flush(self) -> None:
            self.f.write(b"".join(self._waiting))
            self._waiting.clear()
            super().flush()

    return Writer()


def read(path: Path) -> Iterator[CapturedFrame]:
    """The frames of a pcapng file that names its interfaces ``node/interface``, in file order."""
    from scapy.utils import RawPcapNgReader

    with RawPcapNgReader(str(path)) as reader:
        data: bytes
        about: Any  # scapy declares the plain pcap reader's type
        for data, about in reader:
            node, _, interface = about.ifname.decode().partition("/")
            time_ns = ((about.tshigh << 32) + about.tslow) * 1_000_000_000 // about.tsresol
            direction: Direction = "out" if about.direction == _OUTBOUND else "in"
            yield CapturedFrame(time_ns, node, interface, direction, data)


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
    except (QuicpipeLabError, OSError) as error:
        print(f"capture: {error}", file=sys.stderr)
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
