"""Many datagrams a system call: Linux's recvmmsg and sendmmsg over buffers that stay in place.

The kernel also joins and splits runs of equal datagrams itself: with UDP_GRO one receive buffer
may hold a run from one sender, with UDP_SEGMENT one message sends a run to one destination
(udp(7)). Nothing here knows QUIC.

The C structures are handled as arrays of 64-bit words, because whole columns of those can be read
and written at once: struct mmsghdr is eight words, struct iovec is two.
"""

import ctypes
import errno
import mmap
import socket
import struct
import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

SLOTS = 64
"""Messages a call."""
NAME_BYTES = 32
"""Room for a socket address, directly before each slot's data."""
DATA_BYTES = 65_536
STRIDE_BYTES = NAME_BYTES + DATA_BYTES + 21 * 64
"""From slot to slot: no power of two, so that their beginnings do not share a few cache sets."""

MAX_SEGMENTS = 64
"""Of one message with UDP_SEGMENT, on every kernel that has it (UDP_MAX_SEGMENTS)."""
MAX_MESSAGE_BYTES = 65_000

_WORDS = 8
_NAME, _NAME_LENGTH, _VECTORS, _VECTOR_COUNT, _CONTROL, _CONTROL_LENGTH, _FLAGS, _SIZE = range(8)
"""The words of struct mmsghdr. Those of 32 bits fill the lower half of theirs."""

_UDP_SEGMENT = 103
_UDP_GRO = 104
CONTROL_BYTES = 32
"""Room for what the kernel says beside a message."""
_CONTROL_HEADER_BYTES = 16
_CONTROL_HEADER = struct.Struct("=Qii")
"""struct cmsghdr: length, level, type; what is said follows."""

_CALL = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p)
"""Arguments of recvmmsg; sendmmsg has no timeout."""

_NO_OFFLOAD = frozenset((errno.EIO, errno.EINVAL, errno.EMSGSIZE, errno.EOPNOTSUPP))
"""EIO: the way out cannot make checksums. EINVAL: a segment is longer than the way's MTU."""


def is_available() -> bool:
    """Whether this system has these calls and lays their structures out as eight words."""
    if sys.platform != "linux" or sys.byteorder != "little" or sys.maxsize < 2**32:
        return False
    return hasattr(_libc(), "recvmmsg") and hasattr(_libc(), "sendmmsg")


class ReceiveBatch:
    """What one call to ``receive`` has brought: ``count`` messages, each in its own slot.

    ``data`` is all slots' memory; slot i's socket address begins at ``i * STRIDE_BYTES``, its data
    ``NAME_BYTES`` after that. ``sizes[i]`` bytes came, as datagrams of ``segments[i]`` bytes each,
    of which the last one may be shorter.
    """

    def __init__(self, opened: socket.socket, *, offload: bool) -> None:
        self._fd = opened.fileno()
        self._recvmmsg = _libc().recvmmsg
        self._recvmmsg.argtypes = _CALL
        memory = mmap.mmap(-1, SLOTS * STRIDE_BYTES)
        self.data = memoryview(memory)
        self.base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        """The address of ``data``."""
        self.sizes: list[int] = []
        self.segments: list[int] = []
        self._vectors = array("Q")
        self._controls = (ctypes.c_uint32 * (SLOTS * CONTROL_BYTES // 4))()
        self._segment_words = memoryview(self._controls).cast("B").cast("I")
        self._headers = (ctypes.c_uint64 * (SLOTS * _WORDS))()
        self._words = memoryview(self._headers).cast("B").cast("Q")
        self._control_bytes = CONTROL_BYTES if offload else 0
        self._fill()
        self._template = bytes(self._headers)
        self._at = ctypes.addressof(self._headers)
        if offload:
            set_gro(opened, True)

    def _fill(self) -> None:
        for slot in range(SLOTS):
            self._vectors.extend((self.base + slot * STRIDE_BYTES + NAME_BYTES, DATA_BYTES))
        vectors, _ = self._vectors.buffer_info()
        controls = ctypes.addressof(self._controls)
        for slot in range(SLOTS):
            at = slot * _WORDS
            self._words[at + _NAME] = self.base + slot * STRIDE_BYTES
            self._words[at + _NAME_LENGTH] = NAME_BYTES
            self._words[at + _VECTORS] = vectors + slot * 16
            self._words[at + _VECTOR_COUNT] = 1
            self._words[at + _CONTROL] = controls + slot * CONTROL_BYTES
            self._words[at + _CONTROL_LENGTH] = self._control_bytes

    def receive(self) -> int:
        """Take what is there, without waiting; how many messages."""
        count: int = self._recvmmsg(self._fd, self._at, SLOTS, 0, None)
        if count <= 0:
            return 0  # nothing there, or an ICMP error of an earlier datagram
        end, words = count * _WORDS, self._words
        self.segments = self.sizes = words[_SIZE:end:_WORDS].tolist()
        if any(words[_CONTROL_LENGTH:end:_WORDS]):
            self._read_segments(count)
        ctypes.memmove(self._at, self._template, end * 8)
        return count

    def _read_segments(self, count: int) -> None:
        lengths = self._words[_CONTROL_LENGTH : count * _WORDS : _WORDS].tolist()
        step = CONTROL_BYTES // 4
        said = self._segment_words[_CONTROL_HEADER_BYTES // 4 : count * step : step].tolist()
        self.segments = [
            segment if length else size
            for segment, length, size in zip(said, lengths, self.sizes, strict=True)
        ]


@dataclass(slots=True)
class Message:
    """Datagrams of ``segment`` bytes each, of which the last one may be shorter, to one address.

    ``name``: address and length in memory of the socket address. ``pieces`` and ``sizes``: where
    the bytes are and how many, each piece a whole number of datagrams. ``count``: of datagrams.
    """

    name: tuple[int, int]
    segment: int
    pieces: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    size_bytes: int = 0
    count: int = 0


class SendBatch:
    """Sends messages in order, as few calls as possible. What cannot be sent is lost and counted.

    ``offload`` turns False by itself where the way out turns out to be unable.
    """

    _CALL_MESSAGES = 64

    def __init__(self, opened: socket.socket, *, offload: bool) -> None:
        self._socket = opened
        self._sendmmsg = _libc().sendmmsg
        self._sendmmsg.argtypes = _CALL[:4]
        self.offload = offload
        self.unsent = 0
        """Datagrams that the system did not take."""
        self._headers = (ctypes.c_uint64 * (self._CALL_MESSAGES * _WORDS))()
        self._words = memoryview(self._headers).cast("B").cast("Q")
        control_bytes = self._CALL_MESSAGES * CONTROL_BYTES
        self._controls = ctypes.create_string_buffer(control_bytes)
        self._segment_halves = memoryview(self._controls).cast("B").cast("H")
        for index in range(self._CALL_MESSAGES):
            length = _CONTROL_HEADER_BYTES + 2
            head = _CONTROL_HEADER.pack(length, socket.IPPROTO_UDP, _UDP_SEGMENT)
            ctypes.memmove(ctypes.addressof(self._controls) + index * CONTROL_BYTES, head, 16)

    def send(self, messages: Sequence[Message]) -> None:
        """Send all."""
        for start in range(0, len(messages), self._CALL_MESSAGES):
            self._send_some(messages[start : start + self._CALL_MESSAGES])

    def _send_some(self, messages: Sequence[Message]) -> None:
        vectors = self._prepare(messages)
        done, count = 0, len(messages)
        while done < count:
            at = ctypes.addressof(self._headers) + done * _WORDS * 8
            sent = self._sendmmsg(self._socket.fileno(), at, count - done, 0)
            if sent > 0:
                done += sent
                continue
            error = ctypes.get_errno()
            if error == errno.EINTR:
                continue
            if error in (errno.EAGAIN, errno.ENOBUFS):
                self.unsent += sum(message.count for message in messages[done:])
                break
            # This one message's own trouble: a firewall, no route, too long for the way.
            message = messages[done]
            if message.count > 1 and error in _NO_OFFLOAD:
                self.offload = self.offload and error not in (errno.EIO, errno.EOPNOTSUPP)
                self._send_singly(message)
            else:
                self.unsent += message.count
            done += 1
        del vectors  # the headers point into it

    def _prepare(self, messages: Sequence[Message]) -> "array[int]":
        """Fill the headers; the vectors that they point to must live until all is sent."""
        pieces = [piece for message in messages for piece in message.pieces]
        vectors = array("Q", bytes(16 * len(pieces)))
        view = memoryview(vectors)
        view[0::2] = array("Q", pieces)
        view[1::2] = array("Q", [size for message in messages for size in message.sizes])
        vector, _ = vectors.buffer_info()
        words, at = self._words, 0
        control = ctypes.addressof(self._controls)
        for index, message in enumerate(messages):
            words[at + _NAME], words[at + _NAME_LENGTH] = message.name
            words[at + _VECTORS] = vector
            words[at + _VECTOR_COUNT] = len(message.pieces)
            vector += 16 * len(message.pieces)
            if message.count > 1:
                self._segment_halves[(index * CONTROL_BYTES + 16) // 2] = message.segment
                words[at + _CONTROL] = control + index * CONTROL_BYTES
                words[at + _CONTROL_LENGTH] = CONTROL_BYTES - 8  # CMSG_SPACE of two bytes
            else:
                words[at + _CONTROL] = words[at + _CONTROL_LENGTH] = 0
            words[at + _FLAGS] = 0
            at += _WORDS
        return vectors

    def _send_singly(self, message: Message) -> None:
        """Datagram by datagram."""
        singles = [
            Message(
                message.name,
                message.segment,
                [piece + offset],
                [min(message.segment, size - offset)],
                min(message.segment, size - offset),
                1,
            )
            for piece, size in zip(message.pieces, message.sizes, strict=True)
            for offset in range(0, size, message.segment)
        ]
        other = SendBatch(self._socket, offload=False)  # rare: this one's headers are in use
        other.send(singles)
        self.unsent += other.unsent


def set_gro(opened: socket.socket, enabled: bool) -> bool:
    """Let the kernel join equal datagrams of one sender, or not; whether it knows how."""
    try:
        opened.setsockopt(socket.IPPROTO_UDP, _UDP_GRO, enabled)
    except OSError:
        return False
    return True


def gro_segment(control: list[tuple[int, int, bytes]]) -> int | None:
    """The datagrams' size if a message from ``recvmsg`` is a run of them."""
    for level, kind, said in control:
        if (level, kind) == (socket.IPPROTO_UDP, _UDP_GRO):
            return int.from_bytes(said[:4], sys.byteorder)
    return None


def has_gso(opened: socket.socket) -> bool:
    """Whether the kernel knows UDP_SEGMENT (Linux 4.18)."""
    try:
        opened.getsockopt(socket.IPPROTO_UDP, _UDP_SEGMENT)
    except OSError:
        return False
    return True


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
