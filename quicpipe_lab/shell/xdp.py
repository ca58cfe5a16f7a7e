"""XDP through bcc: find what it needs, compile a program, attach it. The only importer of bcc.

bcc comes with the distribution and not from PyPI: it is plain Python over a C library, which any
CPython can import from the distribution's folder. It compiles at run time, against headers of the
running kernel that it looks for in one place; where they are not there, headers of another kernel
do for programs that include nothing but ``uapi/linux`` (which also compile in 0.2 s; with the
kernel's inner headers, which ``linux/ip.h`` means here, it is 2 s).
"""

import contextlib
import ctypes
import errno
import os
import platform
import shutil
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from quicpipe_lab.errors import BackendUnavailableError, QuicpipeLabError
from quicpipe_lab.shell import bpf

_DISTRIBUTION_PACKAGES = Path("/usr/lib/python3/dist-packages")
_MODULES = Path("/lib/modules")
_HEADERS_IN_KERNEL = Path("/sys/kernel/kheaders.tar.xz")
_SOURCE_VARIABLE = "BCC_KERNEL_SOURCE"
_DEBIAN_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


class Mode(StrEnum):
    """Where a program runs: in the interface's driver, or behind it for any interface, or on the
    network card itself (for which hardly any card has a driver)."""

    NATIVE = "native"
    GENERIC = "generic"
    OFFLOADED = "offload"


_MODE_FLAGS = {Mode.GENERIC: 1 << 1, Mode.NATIVE: 1 << 2, Mode.OFFLOADED: 1 << 3}


class InterfaceTakenError(QuicpipeLabError):
    """Another program is on the interface, and there can be one."""


class KernelHeaders(NamedTuple):
    """Headers, and the kernel that they belong to.

    ``folders``: the one to name to bcc, then those that have what the first lacks (Debian ships the
    generated headers apart). With none, bcc finds the headers without help.
    """

    release: str
    folders: tuple[Path, ...]


class Program:
    """An XDP program, compiled and loaded. Raises BackendUnavailableError, QuicpipeLabError.

    ``definitions`` are for the preprocessor. It is attached until ``detach`` or ``close``, or until
    the process ends, by whatever death. Files beside the source may be included.
    """

    def __init__(
        self, source: Path, function: str, definitions: Mapping[str, int] | None = None
    ) -> None:
        self._bcc = import_bcc()
        self._links: dict[str, int] = {}
        headers = find_headers()
        text = source.read_bytes()
        defined = [f"-D{name}={value}" for name, value in (definitions or {}).items()]
        with _named_to_bcc(headers) as flags:
            try:
                self._bpf: Any = self._bcc.BPF(
                    text=text, cflags=[*flags, f"-I{source.resolve().parent}", *defined]
                )
            except Exception as error:  # bcc raises nothing more precise, here and below
                raise QuicpipeLabError(
                    f"{source.name} does not compile with the headers of {headers.release}: {error}"
                ) from None
        try:
            self.fd: int = self._bpf.load_func(function.encode(), self._bcc.BPF.XDP).fd
        except Exception as error:
            self._bpf.cleanup()
            raise BackendUnavailableError(
                f"the kernel does not take {source.name}: {error}",
                "run it as root: sudo quicpipe-lab (in a container: docker run --privileged)",
            ) from None

    def map_fd(self, name: str) -> int:
        """The descriptor of a map, by its name in the source; closed with the program."""
        fd: int = self._bcc.lib.bpf_table_fd(self._bpf.module, name.encode())
        return fd

    def open_ring(self, name: str, take: Callable[[bytes], None]) -> None:
        """Have ``consume_rings`` give the records of a ring buffer to ``take``."""

        def taken(_: object, record: int, size: int) -> None:
            take(ctypes.string_at(record, size))

        try:
            self._bpf[name.encode()].open_ring_buffer(taken)
        except Exception as error:
            raise QuicpipeLabError(f"the ring buffer {name} cannot be read: {error}") from None

    def consume_rings(self) -> None:
        """Whatever is in the rings now."""
        self._bpf.ring_buffer_consume()

    def attach(self, interface: str, mode: Mode) -> None:
        """To an interface of the current network namespace that has no program yet."""
        try:
            index = socket.if_nametoindex(interface)
            self._links[interface] = bpf.create_xdp_link(self.fd, index, _MODE_FLAGS[mode])
        except OSError as error:
            why = error.strerror
            if error.errno in (errno.EBUSY, errno.EEXIST):  # EEXIST: in another mode
                raise InterfaceTakenError(
                    f"no {mode} XDP on {interface!r}: it has an XDP program already"
                ) from None
            if mode is Mode.OFFLOADED:
                why = f"its network card does not take this program ({why})"
            raise QuicpipeLabError(f"no {mode} XDP on {interface!r}: {why}") from None

    def is_attached(self, interface: str) -> bool:
        """Whether it is; an interface may have gone in the meantime."""
        return interface in self._links and bpf.is_link_attached(self._links[interface])

    def code(self, function: str) -> bytes:
        """What the compiler has made of it."""
        instructions: bytes = self._bpf.dump_func(function.encode())
        return instructions

    def detach(self, interface: str) -> None:
        """Undo attach."""
        os.close(self._links.pop(interface))

    def close(self) -> None:
        """Detach from all interfaces and unload."""
        while self._links:
            self.detach(next(iter(self._links)))
        self._bpf.cleanup()


def import_bcc() -> ModuleType:
    """The bcc of this Python, else the distribution's. Raises BackendUnavailableError."""
    try:
        import bcc
    except ImportError:
        # Last, so that nothing else comes from there.
        sys.path.append(str(_DISTRIBUTION_PACKAGES))
        try:
            import bcc
        except (ImportError, OSError) as error:
            raise BackendUnavailableError(
                f"bcc cannot be imported: {error}", _install("python3-bpfcc")
            ) from None
        finally:
            sys.path.remove(str(_DISTRIBUTION_PACKAGES))
    module: ModuleType = bcc
    return module


def find_headers(modules: Path = _MODULES) -> KernelHeaders:
    """The running kernel's headers, else the newest that are installed.

    Raises BackendUnavailableError.
    """
    if chosen := os.environ.get(_SOURCE_VARIABLE):
        return KernelHeaders(chosen, ())
    running = os.uname().release
    others = (path.name for path in modules.glob("*") if path.name != running)
    for release in (running, *sorted(others, key=_version, reverse=True)):
        places = (modules / release / "build", modules / release / "source")
        main = _having("linux/kconfig.h", places)
        generated = _having("generated/autoconf.h", places)
        if main and generated:
            return KernelHeaders(release, tuple(dict.fromkeys((main[0], generated[0]))))
        if release == running and _HEADERS_IN_KERNEL.exists():
            return KernelHeaders(running, ())
    raise BackendUnavailableError("no kernel headers are installed", _install(_headers_package()))


def _having(header: str, folders: tuple[Path, ...]) -> list[Path]:
    return [folder for folder in folders if (folder / "include" / header).is_file()]


def _version(release: str) -> list[int]:
    """6.1.0-9 comes before 6.1.0-56."""
    words = release.replace("-", ".").split(".")
    return [int(word) for word in words if word.isdigit()]


@contextlib.contextmanager
def _named_to_bcc(headers: KernelHeaders) -> Iterator[list[str]]:
    """Where bcc looks first; the flags for the compiler make up for what is not there."""
    if not headers.folders:
        yield []
        return
    first, *others = headers.folders
    os.environ[_SOURCE_VARIABLE] = str(first)
    try:
        yield [
            f"-I{include / part}"
            for folder in others
            for include in (folder / "include", *folder.glob("arch/*/include"))
            for part in ("", "generated", "generated/uapi")
        ]
    finally:
        del os.environ[_SOURCE_VARIABLE]


def _headers_package() -> str:
    """Any kernel's will do; this name stands for the distribution's newest."""
    with contextlib.suppress(OSError):
        if platform.freedesktop_os_release()["ID"] == "ubuntu":
            return "linux-headers-generic"
    machine = platform.machine()
    return f"linux-headers-{_DEBIAN_ARCHITECTURES.get(machine, machine)}"


def _install(package: str) -> str:
    if shutil.which("apt-get"):
        return f"sudo apt-get install -y {package}"
    return f"install what Debian calls {package}"
