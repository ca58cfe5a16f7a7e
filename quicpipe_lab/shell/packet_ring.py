"""A packet socket with a memory ring: every frame of one network namespace, a block at a time.

The kernel (``TPACKET_V3``, Documentation/networking/packet_mmap.rst) writes frames with their
timestamps into blocks that this process sees in its own memory. Python then handles blocks of
128 KiB and no single frame while the lab runs; ``frames_of_block`` and ``frame_at`` take the
same bytes apart afterwards.
"""

import ctypes
import mmap
import os
import socket
import struct
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

FULL_FRAME_BYTES = 0x40000
"""The longest frame kept when nothing else is said: more than any that Linux makes."""

_BLOCK_BYTES = 128 * 1024
"""Above 64 KiB, so that a frame that the sender left to be segmented (GSO) fits in one."""
_RETIRE_MS = 20
"""A block that is not full is handed over after so long; draining at the end takes twice that."""
DRAIN_S = 3 * _RETIRE_MS / 1000
"""After so many seconds every frame that was seen before has been handed over."""

_RING_BYTES = 8 * 1024 * 1024
_ALL_RINGS_BYTES = 64 * 1024 * 1024
_LEAST_BLOCKS = 4

_CLONE_NEWNET = 0x40000000

# From linux/if_packet.h, linux/filter.h and asm-generic/socket.h; the socket module lacks them.
_SOL_PACKET = 263
_PACKET_RX_RING = 5
_PACKET_STATISTICS = 6
_PACKET_VERSION = 10
_TPACKET_V3 = 2
_SO_ATTACH_FILTER = 26
_ETH_P_ALL = 3
_PACKET_OUTGOING = 4
_STATUS_USER = 1 << 0
_STATUS_VLAN_VALID = 1 << 4
_STATUS_VLAN_TPID_VALID = 1 << 6
_ETH_P_8021Q = 0x8100
_ETHERNET_ADDRESSES_BYTES = 12

_RING_REQUEST = struct.Struct("=7I")
"""tpacket_req3: size and count of blocks, of frames, retire time, private bytes, features."""
_STATISTICS = struct.Struct("=3I")
"""tpacket_stats_v3: frames, frames dropped, times that the whole ring was full."""
_BLOCK = struct.Struct("=8x4I")
"""tpacket_block_desc: status, frame count, offset of the first frame, length in use."""
_BLOCK_STATUS = struct.Struct("=I")
_BLOCK_STATUS_OFFSET = 8
_FRAME_TIME = struct.Struct("=3I")
"""The head of tpacket3_hdr: offset of the next frame, seconds, nanoseconds."""
_FRAME = struct.Struct("=12x3IH6xIH14xi2xB")
"""The rest of it (48 bytes in all), and the sockaddr_ll behind it.

Captured and true length, status, offset of the link layer header, VLAN tag and protocol;
interface, direction.
"""

_ARPHRD_ETHER = 1
"""The hardware type of veth, of bridges, of TAP devices; the loopback is another."""
_SOCKADDR_LL = struct.Struct("=HHi12x")
"""Family, protocol, interface (0: every one)."""
_SIOCGIFHWADDR = 0x8927
_IFREQ = struct.Struct("16sH22x")
"""ifreq with a name and the hardware type that the ioctl answers with."""
_INSTRUCTION = struct.Struct("=HBBI")
"""sock_filter: operation, jump if true, jump if false, operand."""


@cache
def _libc() -> ctypes.CDLL:
    """Only where packets are captured: Windows, where captures are read, has none of this kind."""
    return ctypes.CDLL(None, use_errno=True)


class Frame(NamedTuple):
    """One frame as an interface saw it; ``true_bytes`` is its length before any cut."""

    interface_index: int
    outgoing: bool
    true_bytes: int
    data: bytes | memoryview


class PacketRing:
    """All Ethernet interfaces of the network namespace in which it is made, in both directions.

    It stays with that namespace when the process moves on to another. ``interfaces`` are their
    names by index.
    """

    def __init__(self, ring_bytes: int = _RING_BYTES, snap_bytes: int = FULL_FRAME_BYTES) -> None:
        self._block_count = max(_LEAST_BLOCKS, ring_bytes // _BLOCK_BYTES)
        self._next_block = 0
        # Protocol 0: nothing arrives before the filter and the ring are in place.
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        try:
            self._attach_filter(snap_bytes)
            self._socket.setsockopt(_SOL_PACKET, _PACKET_VERSION, _TPACKET_V3)
            self._allocate()
            self._map = mmap.mmap(self._socket.fileno(), self._block_count * _BLOCK_BYTES)
            self._blocks = memoryview(self._map)
            self._bind_to_every_interface()
            self.interfaces = self._ethernet_interfaces()
        except BaseException:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """Readable while there is a block to take."""
        return self._socket.fileno()

    def take_blocks(self) -> Iterator[memoryview]:
        """Every block that is ready; each is the kernel's again once the next is asked for."""
        while True:
            start = self._next_block * _BLOCK_BYTES
            status, _, _, length = _BLOCK.unpack_from(self._blocks, start)
            if not status & _STATUS_USER:
                return
            yield self._blocks[start : start + length]
            _BLOCK_STATUS.pack_into(self._blocks, start + _BLOCK_STATUS_OFFSET, 0)
            self._next_block = (self._next_block + 1) % self._block_count

    def is_empty(self) -> bool:
        """Whether the block that the kernel is filling has no frame in it yet."""
        status, frames, _, _ = _BLOCK.unpack_from(self._blocks, self._next_block * _BLOCK_BYTES)
        return frames == 0 and not status & _STATUS_USER

    def dropped_since_last_call(self) -> int:
        """Frames that found no room; the kernel counts from 0 again after each reading."""
        raw = self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, _STATISTICS.size)
        _, dropped, _ = _STATISTICS.unpack(raw)
        return int(dropped)

    def close(self) -> None:
        """Let go of the namespace and the memory."""
        self._blocks.release()
        self._map.close()
        self._socket.close()

    def _attach_filter(self, snap_bytes: int) -> None:
        """Keep Ethernet frames alone, and of each the first ``snap_bytes``."""
        program = (
            _INSTRUCTION.pack(0x28, 0, 0, 0xFFFFF000 + 28)  # ldh [SKF_AD_OFF + SKF_AD_HATYPE]
            + _INSTRUCTION.pack(0x15, 0, 1, _ARPHRD_ETHER)  # jeq, else skip one
            + _INSTRUCTION.pack(0x06, 0, 0, snap_bytes)  # ret: keep so many bytes
            + _INSTRUCTION.pack(0x06, 0, 0, 0)  # ret: keep none
        )
        text = ctypes.create_string_buffer(program, len(program))
        self._socket.setsockopt(
            socket.SOL_SOCKET,
            _SO_ATTACH_FILTER,
            struct.pack("HP", len(program) // _INSTRUCTION.size, ctypes.addressof(text)),
        )

    def _allocate(self) -> None:
        """Ask for the ring, without Python's lock: the kernel waits 10 ms for its own readers."""
        frame_bytes = 2048  # has to divide a block; version 3 packs frames of any length
        frame_count = self._block_count * (_BLOCK_BYTES // frame_bytes)
        request = _RING_REQUEST.pack(
            _BLOCK_BYTES, self._block_count, frame_bytes, frame_count, _RETIRE_MS, 0, 0
        )
        fd = self._socket.fileno()
        _check(_libc().setsockopt(fd, _SOL_PACKET, _PACKET_RX_RING, request, len(request)))

    def _bind_to_every_interface(self) -> None:
        # socket.bind wants an interface's name; that of none is refused.
        address = _SOCKADDR_LL.pack(socket.AF_PACKET, socket.htons(_ETH_P_ALL), 0)
        _check(_libc().bind(self._socket.fileno(), address, len(address)))

    def _ethernet_interfaces(self) -> dict[int, str]:
        import fcntl  # which Windows has not, where captures are read

        found = {}
        for index, name in socket.if_nameindex():
            answer = fcntl.ioctl(self._socket, _SIOCGIFHWADDR, _IFREQ.pack(name.encode(), 0))
            if _IFREQ.unpack(answer)[1] == _ARPHRD_ETHER:
                found[index] = name
        return found


def enter_network_namespace(fd: int) -> None:
    """Move the calling thread, and no other, into the network namespace that ``fd`` refers to."""
    _check(_libc().setns(fd, _CLONE_NEWNET))


def ring_bytes_for(node_count: int) -> int:
    """The size of each ring: as much as one can need, less where there are hundreds.

    The largest holds 6,000 full frames, a third of a second of a busy link. Four blocks are the
    least, which makes 512 KiB a node.
    """
    return min(_RING_BYTES, _ALL_RINGS_BYTES // max(1, node_count))


def frames_of_block(block: memoryview) -> Iterator[tuple[int, int]]:
    """Where in a block each of its frames begins, and its time: ``(time_ns, offset)``.

    Raises ValueError or struct.error on what is no block.
    """
    _, count, offset, _ = _BLOCK.unpack_from(block)
    if count * _FRAME.size > len(block):
        raise ValueError(f"a block of {len(block)} bytes with {count} frames")
    for _ in range(count):
        next_offset, seconds, nanoseconds = _FRAME_TIME.unpack_from(block, offset)
        yield seconds * 1_000_000_000 + nanoseconds, offset
        offset += next_offset


def frame_at(memory: memoryview, offset: int) -> Frame:
    """The frame that begins there, in a block or in whatever holds blocks."""
    captured, true_bytes, status, start, tag, tag_protocol, interface, kind = _FRAME.unpack_from(
        memory, offset
    )
    data: bytes | memoryview = memory[offset + start : offset + start + captured]
    if status & _STATUS_VLAN_VALID:
        # The kernel takes an arriving frame's 802.1Q tag out; it belongs after the addresses.
        protocol = tag_protocol if status & _STATUS_VLAN_TPID_VALID else _ETH_P_8021Q
        cut = _ETHERNET_ADDRESSES_BYTES
        data = b"".join((data[:cut], struct.pack("!HH", protocol, tag), data[cut:]))
        true_bytes += len(data) - captured
    return Frame(interface, kind == _PACKET_OUTGOING, true_bytes, data)


def _check(result: int) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
