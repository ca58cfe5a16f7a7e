"""pcapng files, written and read back: the only importer of scapy.

scapy 2.8 reads comments and secrets, but writes neither secrets nor descriptions of interfaces,
gives the first interface no name, knows microseconds only, and takes 6 us a frame, where a run has
tens of thousands. So its writer is extended here by the blocks that it lacks (draft-ietf-opsawg-
pcapng: 3.5 options, 4.2 interfaces, 4.3 frames, 4.7 secrets).

scapy is imported where it is needed, because the recorder must start fast and never needs it.
"""

import mmap
import os
import struct
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from quicpipe_lab.cycle_search import no_cycle_search
from quicpipe_lab.errors import QuicpipeLabError
from quicpipe_lab.traffic.frame import OUT_OF_BAND, CapturedFrame, Direction

_OPTION = struct.Struct("<HH")
_END_OF_OPTIONS = bytes(4)
_INTERFACE_BLOCK, _SECRETS_BLOCK = (struct.pack("<I", number) for number in (1, 10))
_INTERFACE = struct.Struct("<HxxI")
"""Link type and the longest frame."""
_COMMENT = 1
_IF_NAME, _IF_DESCRIPTION, _IF_TSRESOL = 2, 3, 9
_LINKTYPE_ETHERNET = 1
_LONGEST_FRAME_BYTES = 0x40000
_NANOSECONDS = 9
_TLS_KEY_LOG = 0x544C534B
_FRAME_HEAD = struct.Struct("<7I")
"""Type 6, length of the block, interface, time (high and low half), captured and true length."""
_FRAME_FLAGS = struct.Struct("<HHI")
_EPB_FLAGS = 2
_INBOUND, _OUTBOUND = 1, 2
_LENGTH = struct.Struct("<I")
_WRITE_PARTS = 1024

_SECTION_MAGIC = b"\x0a\x0d\x0d\x0a"
_BYTE_ORDER_MAGIC = b"\x4d\x3c\x2b\x1a"
_SECTION_BYTES = 28
_BLOCK_HEAD = struct.Struct("<II")
_LEAST_BLOCK_BYTES = 12


class Capture(NamedTuple):
    """What stands in a file, frames in file order. ``is_whole``: it does not break off.

    ``secrets`` are lines of an SSLKEYLOGFILE.
    """

    frames: list[CapturedFrame]
    interfaces: list[str]
    secrets: bytes
    is_whole: bool


def write(
    out: Path,
    frames: Iterable[CapturedFrame],
    interfaces: Sequence[str] = (),
    secrets: bytes = b"",
) -> None:
    """Write frames in the order in which they come. ``interfaces`` are named even without any."""
    with _writer(out) as writer:
        if secrets:
            writer.add_secrets(secrets)
        numbers: dict[str, int] = {}
        for name in interfaces:
            numbers[name] = writer.add_interface(name, describe(name))
        for frame in frames:
            if (number := numbers.get(frame.place)) is None:
                number = writer.add_interface(frame.place, describe(frame.place))
                numbers[frame.place] = number
            writer.add_frame(number, frame)


def describe(name: str) -> str:
    """An interface's name in a sentence."""
    if name == OUT_OF_BAND:
        return (
            "carried out of band: the dialer's first packet as the accepter took it, as if from the"
            " relay; it crossed no interface"
        )
    node, _, interface = name.partition("/")
    return f"node {node}, its interface {interface} (links are named by who is at the other end)"


def _writer(out: Path) -> Any:
    _keep_scapy_from_a_closed_cache()
    from scapy.utils import RawPcapNgWriter

    class Writer(RawPcapNgWriter):
        def __init__(self) -> None:
            super().__init__(str(out))
            self._write_block_shb()
            self.header_present = True
            self._interfaces = 0
            self._waiting: list[bytes | memoryview] = []

        def add_secrets(self, key_log: bytes) -> None:
            body = struct.pack("<II", _TLS_KEY_LOG, len(key_log)) + key_log
            self.f.write(self.build_block(_SECRETS_BLOCK, body))

        def add_interface(self, name: str, description: str) -> int:
            options = (
                self._option(_IF_NAME, name.encode())
                + self._option(_IF_DESCRIPTION, description.encode())
                + self._option(_IF_TSRESOL, bytes([_NANOSECONDS]))
                + _END_OF_OPTIONS
            )
            body = _INTERFACE.pack(_LINKTYPE_ETHERNET, _LONGEST_FRAME_BYTES)
            self.flush()  # an interface comes before its frames, and after those of others
            self.f.write(self.build_block(_INTERFACE_BLOCK, body, options))
            self._interfaces += 1
            return self._interfaces - 1

        def _option(self, code: int, value: bytes) -> bytes:
            padded: bytes = self._add_padding(value)
            return _OPTION.pack(code, len(value)) + padded

        def add_frame(self, interface: int, frame: CapturedFrame) -> None:
            size, time_ns = len(frame.data), frame.time_ns
            options = _FRAME_FLAGS.pack(
                _EPB_FLAGS, 4, _OUTBOUND if frame.direction == "out" else _INBOUND
            )
            if frame.comment is not None:
                options += self._option(_COMMENT, frame.comment.encode())
            padding = bytes(-size % 4)
            total = _FRAME_HEAD.size + size + len(padding) + len(options) + 8
            head = _FRAME_HEAD.pack(
                *(6, total, interface, time_ns >> 32, time_ns & 0xFFFFFFFF),
                *(size, frame.true_bytes or size),
            )
            self._waiting += (head, frame.data, padding, options, _END_OF_OPTIONS)
            self._waiting.append(_LENGTH.pack(total))
            if len(self._waiting) >= _WRITE_PARTS:
                self.flush()

        def flush(self) -> None:
            self.f.write(b"".join(self._waiting))
            self._waiting.clear()
            super().flush()

    return Writer()


def read(path: Path) -> Capture:
    """What this project has written. Raises QuicpipeLabError on anything else.

    Of a file that breaks off, all that is there in full.
    """
    try:
        with path.open("rb") as file, no_cycle_search():
            size, is_whole = _whole_blocks(file, path)
            file.seek(0)
            frames, interfaces, secrets = _read(file if is_whole else BytesIO(file.read(size)))
    except OSError as error:
        raise QuicpipeLabError(f"cannot read {path}: {error.strerror or error}") from None
    except _ForeignError as error:
        raise QuicpipeLabError(f"{path} is no capture of quicpipe-lab: {error}") from None
    return Capture(frames, interfaces, secrets, is_whole)


class _ForeignError(Exception):
    """Why a file is none of ours."""


def _whole_blocks(file: BinaryIO, path: Path) -> tuple[int, bool]:
    """Where the last whole block ends, and whether that is the end of the file."""
    head = file.read(_SECTION_BYTES)
    if head[:4] != _SECTION_MAGIC:
        raise QuicpipeLabError(f"{path} is no pcapng file")
    if len(head) < _SECTION_BYTES or head[8:12] != _BYTE_ORDER_MAGIC:
        raise _ForeignError("its first block is none that we write")
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as memory:
        at = 0
        while at + _BLOCK_HEAD.size <= len(memory):
            _, size = _BLOCK_HEAD.unpack_from(memory, at)
            if size < _LEAST_BLOCK_BYTES or size % 4:
                raise _ForeignError(f"a block of {size} bytes")
            if at + size > len(memory):
                break
            at += size
        return at, at == len(memory)


def _read(file: BinaryIO) -> tuple[list[CapturedFrame], list[str], bytes]:
    _keep_scapy_from_a_closed_cache()
    from scapy.error import Scapy_Exception
    from scapy.utils import RawPcapNgReader

    class Reader(RawPcapNgReader):
        secrets = b""

        def _read_block_dsb(self, block: bytes, size: int) -> None:
            """scapy would take them as its own, if its TLS layer were loaded, or warn."""
            del size
            kind, length = struct.unpack_from("<II", block)
            if kind == _TLS_KEY_LOG:
                self.secrets += block[8 : 8 + length]

    try:
        make: Any = Reader  # scapy declares a name, and takes a file as well
        reader = make(file)
        frames = [_frame(data, about) for data, about in reader]
    except (Scapy_Exception, EOFError, struct.error) as error:
        raise _ForeignError(str(error) or "a block that breaks off") from None
    names = [
        options.get("name", b"").decode("utf-8", "replace") for *_, options in reader.interfaces
    ]
    return frames, names, reader.secrets


def _keep_scapy_from_a_closed_cache() -> None:
    """scapy keeps what it has read of /etc and of its own tables under ~/.cache, and where it may
    not look there, or not write, its import can fail: its data.py guards against neither. No folder
    means no cache to it; which is not so for all, as without one it takes twice as long to import.
    """
    from scapy import main

    folder: Path | None = main.SCAPY_CACHE_FOLDER
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        is_open = os.access(folder, os.R_OK | os.W_OK | os.X_OK)
    except OSError:
        is_open = False
    if not is_open:
        main.SCAPY_CACHE_FOLDER = None


def _frame(data: bytes, about: Any) -> CapturedFrame:
    node, _, interface = (about.ifname or b"").decode("utf-8", "replace").partition("/")
    if about.tshigh is None or not node or not (interface or node == OUT_OF_BAND):
        raise _ForeignError("its interfaces are not called NODE/INTERFACE")
    direction: Direction = "out" if about.direction == _OUTBOUND else "in"
    return CapturedFrame(
        ((about.tshigh << 32) + about.tslow) * 1_000_000_000 // about.tsresol,
        node,
        interface,
        direction,
        data,
        about.comments[0].decode("utf-8", "replace") if about.comments else None,
        0 if about.wirelen == len(data) else about.wirelen,
    )
