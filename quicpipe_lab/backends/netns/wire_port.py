"""One end of a wire: an interface's arriving frames one by one, and frames to send through it.

A packet socket with a memory ring of version 2 (Documentation/networking/packet_mmap.rst), which
hands every frame over as it comes; version 3, which captures use (shell/packet_ring.py), keeps them
back for a block's worth or for milliseconds. The ring also holds what comes while the process
does not run, far more than a socket's buffer may without root.
"""

import ctypes
import mmap
import os
import socket
import struct
from collections.abc import Iterator

ETHERNET_HEADER_BYTES = 14

_FRAME_BYTES = 2048
_FRAMES_A_BLOCK = 32
_BLOCK_BYTES = _FRAMES_A_BLOCK * _FRAME_BYTES
_MOST_BLOCKS = 32
"""1,024 frames: what comes in a fifth of a second at 5,000 packets/s."""
_ALL_BLOCKS = 1024
"""Of all ports of a lab: 64 MiB."""
_LEAST_BLOCKS = 2
_MOST_AT_ONCE = 64
"""Frames taken before what is due elsewhere gets its turn."""

# From linux/if_packet.h; the socket module lacks them.
_SOL_PACKET = 263
_PACKET_RX_RING = 5
_PACKET_STATISTICS = 6
_PACKET_VERSION = 10
_PACKET_IGNORE_OUTGOING = 23
_TPACKET_V2 = 1
_ETH_P_ALL = 3
_STATUS_KERNEL = 0
_STATUS_USER = 1 << 0

_REQUEST = struct.Struct("=4I")
"""tpacket_req: size and count of blocks, size and count of frames."""
_HEADER = struct.Struct("=3IH")
"""The head of tpacket2_hdr: status, true length, captured length, offset of the frame."""
_STATUS = struct.Struct("=I")
_STATISTICS = struct.Struct("=2I")
"""tpacket_stats: frames, and frames that found no room."""

_LIBC = ctypes.CDLL(None, use_errno=True)


class Port:
    """An interface of the network namespace that the calling thread is in, one of ``count``.

    ``turns``: so many calls of ``frames`` empty a full ring.
    """

    def __init__(self, interface: str, count: int) -> None:
        self._blocks = max(_LEAST_BLOCKS, min(_MOST_BLOCKS, _ALL_BLOCKS // count))
        self._frames = self._blocks * _FRAMES_A_BLOCK
        self.turns = self._frames // _MOST_AT_ONCE
        self.missed = 0
        """Frames that the ring had no room for, as of the last ``count_missed``."""
        self.unsent = 0
        """Frames that the kernel did not take for sending."""
        self._next = 0
        # Protocol 0: nothing arrives before the ring is in place.
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        try:
            self._socket.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
            self._socket.setsockopt(_SOL_PACKET, _PACKET_VERSION, _TPACKET_V2)
            self._allocate()
            self._map = mmap.mmap(self._socket.fileno(), self._blocks * _BLOCK_BYTES)
            self._socket.bind((interface, _ETH_P_ALL))
        except BaseException:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """Readable while there are frames to take."""
        return self._socket.fileno()

    def frames(self) -> Iterator[bytes]:
        """What has arrived, in order; some may be left for the next time."""
        memory = self._map
        for _ in range(_MOST_AT_ONCE):
            at = self._next * _FRAME_BYTES
            status, _, captured_bytes, offset = _HEADER.unpack_from(memory, at)
            if not status & _STATUS_USER:
                return
            start = at + offset
            frame = memory[start : start + captured_bytes]
            _STATUS.pack_into(memory, at, _STATUS_KERNEL)
            self._next = (self._next + 1) % self._frames
            yield frame

    def send(self, frame: bytes | bytearray) -> None:
        """Through the interface, now."""
        try:
            self._socket.send(frame)
        except OSError:
            # The other end is down or its queue is full: a cable would not tell either.
            self.unsent += 1

    def count_missed(self) -> None:
        """Bring ``missed`` up to date; the kernel counts from 0 again after each reading."""
        raw = self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, _STATISTICS.size)
        self.missed += _STATISTICS.unpack(raw)[1]

    def close(self) -> None:
        """Takes as long as allocating, for the same reason."""
        self._map.close()
        self._socket.close()

    def _allocate(self) -> None:
        """Ask for the ring, without Python's lock: the kernel waits 10 ms for its own readers."""
        request = _REQUEST.pack(_BLOCK_BYTES, self._blocks, _FRAME_BYTES, self._frames)
        fd = self._socket.fileno()
        if _LIBC.setsockopt(fd, _SOL_PACKET, _PACKET_RX_RING, request, len(request)) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
