"""bpf(2), the little of it that maps, links and test runs take. Everything raises OSError.

Through ctypes: the wrappers that bcc has print to standard error, and none of them is for links.
Descriptors are closed with ``os.close``.
"""

import ctypes
import errno
import os
import platform
import struct
from typing import NamedTuple

_CALL_NUMBERS = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361, "s390x": 351}

_LOOKUP, _UPDATE, _DELETE = 1, 2, 3
_PROGRAM_LOAD = 5
_TEST_RUN = 10
_INFORMATION = 15
_UPDATE_BATCH = 26
_LINK_CREATE = 28
_ATTACH_XDP = 37

_ELEMENT = struct.Struct("=I4xQQQ")
_BATCH = struct.Struct("=QQQQIIQQ")
_COUNT_AT = 32
_LINK = struct.Struct("=IIII")
_LINK_INFORMATION = struct.Struct("=III4xI")  # type, number, program, interface
_PROGRAM = struct.Struct("=IIQQIIQII16s")
_XDP_PROGRAM = 6
_XDP_CONTEXT = struct.Struct("=IIIIII")
_RUN = struct.Struct("=IIIIQQIIIIQQIIII")

_libc = ctypes.CDLL(None, use_errno=True)


class PacketRun(NamedTuple):
    """What a program made of a packet, and the mean time that it took."""

    verdict: int
    data: bytes
    duration_ns: int


def look_up(map_fd: int, key: bytes, value_bytes: int) -> bytes | None:
    """The value of a key; of a map with a value for each CPU, ``value_bytes`` counts them all."""
    value = ctypes.create_string_buffer(value_bytes)
    try:
        _call(_LOOKUP, _ELEMENT.pack(map_fd, _address(key), ctypes.addressof(value), 0))
    except FileNotFoundError:
        return None
    return value.raw


def update(map_fd: int, key: bytes, value: bytes) -> None:
    """Add a key or give it another value."""
    _call(_UPDATE, _ELEMENT.pack(map_fd, _address(key), _address(value), 0))


def update_batch(map_fd: int, keys: bytearray, values: bytearray, count: int) -> None:
    """So many keys and values in a row, the same as ``update`` for each of them."""
    held = (
        (ctypes.c_char * len(keys)).from_buffer(keys),
        (ctypes.c_char * len(values)).from_buffer(values),
    )
    done = 0
    while done < count:
        at = [ctypes.addressof(one) + done * (len(one) // count) for one in held]
        left = count - done
        answer = _call(_UPDATE_BATCH, _BATCH.pack(0, 0, *at, left, map_fd, 0, 0))
        done += struct.unpack_from("=I", answer, _COUNT_AT)[0]


def delete(map_fd: int, key: bytes) -> bool:
    """Remove a key; whether it was there."""
    try:
        _call(_DELETE, _ELEMENT.pack(map_fd, _address(key), 0, 0))
    except FileNotFoundError:
        return False
    return True


def load_xdp_program(instructions: bytes, name: str) -> int:
    """A program without maps, from its machine code."""
    licence = b"Dual MIT/GPL"
    attributes = _PROGRAM.pack(
        _XDP_PROGRAM, len(instructions) // 8, _address(instructions), _address(licence),
        0, 0, 0, 0, 0, name.encode()[:15],
    )  # fmt: skip
    return _call_for_fd(_PROGRAM_LOAD, attributes)


def create_xdp_link(program_fd: int, interface: int, mode_flag: int) -> int:
    """Attach a program to an interface, by index, for as long as the returned descriptor is open.

    The kernel closes it with the process, however that ends. From Linux 5.9 on.
    """
    return _call_for_fd(_LINK_CREATE, _LINK.pack(program_fd, interface, _ATTACH_XDP, mode_flag))


def is_link_attached(link_fd: int) -> bool:
    """Whether the interface of an XDP link is still there."""
    information = ctypes.create_string_buffer(_LINK_INFORMATION.size)
    _call(
        _INFORMATION,
        struct.pack("=IIQ", link_fd, len(information), ctypes.addressof(information)),
    )
    *_, interface = _LINK_INFORMATION.unpack(information.raw)
    return bool(interface)


def run_on_packet(program_fd: int, packet: bytes, repeat: int = 1, interface: int = 0) -> PacketRun:
    """Run an XDP program on a packet, which arrives by an interface, ``lo`` if none is named.

    ``interface``: an index, of one that has an XDP program natively. All repeats work on the same
    bytes: what the first changed is what the next one sees.
    """
    changed = ctypes.create_string_buffer(len(packet) + 256)
    context = _XDP_CONTEXT.pack(0, len(packet), 0, interface, 0, 0)
    answer = _call(
        _TEST_RUN,
        _RUN.pack(
            program_fd, 0, len(packet), len(changed), _address(packet), ctypes.addressof(changed),
            repeat, 0, len(context), 0, _address(context), 0, 0, 0, 0, 0,
        ),
    )  # fmt: skip
    _, verdict, _, size, _, _, _, duration_ns, *_ = _RUN.unpack_from(answer)
    return PacketRun(verdict, changed.raw[:size], duration_ns)


def possible_cpus() -> int:
    """How many CPUs the kernel keeps values for, in maps with one for each."""
    fd = os.open("/sys/devices/system/cpu/possible", os.O_RDONLY)
    try:
        ranges = os.read(fd, 4096).decode().strip()
    finally:
        os.close(fd)
    return max(int(last) for part in ranges.split(",") for last in part.split("-")) + 1


def _address(data: bytes) -> int:
    """Where the bytes lie, which must live on as long as this is used."""
    return ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value or 0


def _call(command: int, attributes: bytes) -> bytes:
    """The attributes as the kernel left them."""
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    _system_call(command, buffer)
    return buffer.raw


def _call_for_fd(command: int, attributes: bytes) -> int:
    return _system_call(command, ctypes.create_string_buffer(attributes, len(attributes)))


def _system_call(command: int, buffer: "ctypes.Array[ctypes.c_char]") -> int:
    number = _CALL_NUMBERS.get(platform.machine())
    if number is None:
        raise OSError(errno.ENOSYS, f"bpf(2) is not known on {platform.machine()}")
    status: int = _libc.syscall(number, command, buffer, ctypes.c_uint(len(buffer)))
    if status < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return status
