"""The filter's parser twice: compiled from C for this host, and written again in Python."""

import ctypes
import functools
import os
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from quicpipe_lab.resources import folder
from quicpipe_lab.shell.xdp_layout import FilterReason

_SOURCE = Path(__file__).with_name("parser_host.c")
_REPORT = struct.Struct("=IIIIIII")
REPORT_BYTES = _REPORT.size

_VLAN_TYPES = (0x8100, 0x88A8)
_IPV4, _IPV6 = 0x0800, 0x86DD
_UDP, _FRAGMENT = 17, 44
_EXTENSION_PROBE = (0, 43, 60, 135, 51)
_MORE_FRAGMENTS_AND_OFFSET = 0x3FFF
_ID_BYTES = 12


class Report(NamedTuple):
    """What a parser says of a frame; all but ``reason`` is 0 unless that is FORWARDED."""

    reason: int
    is_ipv4: int = 0
    ip_bytes: int = 0
    udp_bytes: int = 0
    udp_at: int = 0
    id_at: int = 0


# --- In Python


class _StopError(Exception):
    def __init__(self, reason: FilterReason) -> None:
        self.reason = reason


def in_python(frame: bytes) -> Report:
    """By the words of the standards, not by those of the C source."""
    try:
        return _parse(frame)
    except _StopError as stop:
        return Report(stop.reason)


def _parse(frame: bytes) -> Report:
    at = 12
    for _ in range(3):
        if len(frame) < at + 2:
            raise _StopError(FilterReason.NOT_IP)
        ethernet_type = frame[at] << 8 | frame[at + 1]
        at += 2
        if at > 18 or ethernet_type not in _VLAN_TYPES:
            break
        at += 2
    if ethernet_type == _IPV4:
        udp_at, ip_bytes, hops = _parse_ipv4(frame, at)
    elif ethernet_type == _IPV6:
        udp_at, ip_bytes, hops = _parse_ipv6(frame, at)
    else:
        raise _StopError(FilterReason.NOT_IP)
    udp_bytes = at + ip_bytes - udp_at
    if udp_bytes < 8 or len(frame) < udp_at + 8:
        raise _StopError(FilterReason.MALFORMED)
    if frame[udp_at + 4] << 8 | frame[udp_at + 5] != udp_bytes:
        raise _StopError(FilterReason.MALFORMED)

    _parse_quic(frame[udp_at + 8 : udp_at + udp_bytes])
    if hops <= 1:
        raise _StopError(FilterReason.TTL_EXPIRED)
    if ethernet_type == _IPV6 and frame[udp_at + 6 : udp_at + 8] == b"\0\0":
        raise _StopError(FilterReason.ZERO_CHECKSUM)
    is_ipv4 = int(ethernet_type == _IPV4)
    return Report(FilterReason.FORWARDED, is_ipv4, ip_bytes, udp_bytes - 8, udp_at, udp_at + 9)


def _parse_ipv4(frame: bytes, at: int) -> tuple[int, int, int]:
    """Where UDP begins, the packet's length, and its TTL (RFC 791, 3.1)."""
    if len(frame) < at + 20 or frame[at] >> 4 != 4:
        raise _StopError(FilterReason.NOT_IP)
    header_bytes = (frame[at] & 0x0F) * 4
    ip_bytes = frame[at + 2] << 8 | frame[at + 3]
    if not 20 <= header_bytes <= ip_bytes <= len(frame) - at:
        raise _StopError(FilterReason.MALFORMED)
    if frame[at + 9] != _UDP:
        raise _StopError(FilterReason.NOT_UDP)
    if (frame[at + 6] << 8 | frame[at + 7]) & _MORE_FRAGMENTS_AND_OFFSET:
        raise _StopError(FilterReason.FRAGMENT)
    return at + header_bytes, ip_bytes, frame[at + 8]


def _parse_ipv6(frame: bytes, at: int) -> tuple[int, int, int]:
    """The same (RFC 8200, 3)."""
    if len(frame) < at + 40 or frame[at] >> 4 != 6:
        raise _StopError(FilterReason.NOT_IP)
    next_header = frame[at + 6]
    if next_header == _FRAGMENT:
        raise _StopError(FilterReason.FRAGMENT)
    if next_header in _EXTENSION_PROBE:
        raise _StopError(FilterReason.EXTENSION_HEADER)
    if next_header != _UDP:
        raise _StopError(FilterReason.NOT_UDP)
    payload_bytes = frame[at + 4] << 8 | frame[at + 5]
    if payload_bytes > len(frame) - at - 40:
        raise _StopError(FilterReason.MALFORMED)
    return at + 40, 40 + payload_bytes, frame[at + 7]


def _parse_quic(payload: bytes) -> None:
    """Whether it is a peer connection's short header (RFC 9000, 17.3)."""
    if not payload or not payload[0] & 0x40:
        raise _StopError(FilterReason.NOT_QUIC)
    if payload[0] & 0x80:
        raise _StopError(FilterReason.LONG_HEADER)
    if len(payload) < 1 + _ID_BYTES:
        raise _StopError(FilterReason.NOT_QUIC)
    if payload[1] & 0x80:
        raise _StopError(FilterReason.TO_RELAY)


# --- In C


_VERSIONS = range(24, 10, -1)
_PROBE = (
    b"#include <stdio.h>\n#include <linux/udp.h>\n"
    b"#ifdef FUZZ\nint LLVMFuzzerTestOneInput(void) { return 0; }\n"
    b"#else\nint main(void) { return 0; }\n#endif\n"
)


@functools.cache
def compiler() -> str | None:
    """Any C compiler of this machine that has the headers it needs."""
    names = ("cc", "gcc", "clang", *(f"gcc-{version}" for version in _VERSIONS))
    return next(filter(None, map(_able, names)), None)


@functools.cache
def fuzzing_compiler() -> str | None:
    """A clang that comes with libFuzzer."""
    names = ("clang", *(f"clang-{version}" for version in _VERSIONS))
    return next(filter(None, (_able(name, "-fsanitize=fuzzer", "-DFUZZ") for name in names)), None)


def _able(name: str, *options: str) -> str | None:
    if (found := shutil.which(name)) is None:
        return None
    command = [found, *options, "-x", "c", "-", "-o", "/dev/null"]
    done = subprocess.run(command, input=_PROBE, stderr=subprocess.DEVNULL)
    return found if done.returncode == 0 else None


def compiled(directory: Path) -> Callable[[bytes], Report]:
    """The parser in C, as a function."""
    library = directory / "parser.so"
    run_compiler(compiler() or "cc", library, "-shared", "-fPIC")
    function = ctypes.CDLL(os.fspath(library)).quicpipe_report

    def in_c(frame: bytes) -> Report:
        raw = ctypes.create_string_buffer(REPORT_BYTES)
        # Of exactly this size, so that nothing lies behind it that belongs to us.
        function(frame, ctypes.c_size_t(len(frame)), raw)
        return unpack(raw.raw)[1]

    return in_c


def run_compiler(name: str, output: Path, *options: str) -> None:
    subprocess.run(
        [name, "-O2", "-Wall", "-Werror", *options, f"-I{folder('xdp')}", "-o", output, _SOURCE],
        check=True,
    )


def unpack(raw: bytes, at: int = 0) -> tuple[int, Report]:
    """The input's length and the report."""
    size, *report = _REPORT.unpack_from(raw, at)
    return size, Report(*report)
