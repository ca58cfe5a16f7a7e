"""A virtual machine with Debian's own kernel and this machine's files, read-only, as its own.

The kernel's package is downloaded and unpacked, never installed. The guest's first file system
holds busybox, what it takes to reach the host's files over 9p (virtio) and a script; the script
then runs a Python program of this checkout with this environment.
"""

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ("qemu-system-x86_64", "busybox", "apt-get", "dpkg")
_META_PACKAGE = "linux-image-amd64"
_TO_REACH_FILES = ("virtio_pci", "9pnet_virtio", "9p")

_INIT = """\
#!/bin/busybox sh
export PATH=/bin:/sbin
/bin/busybox mkdir -p /proc /sys /dev /host /lib/modules /tmp
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
for module in {early}; do /bin/busybox insmod /early/$module; done
options=trans=virtio,version=9p2000.L,msize=524288,cache=loose,ro
/bin/busybox mount -t 9p -o $options host /host
/bin/busybox mount -t 9p -o $options modules /lib/modules
for module in {modules}; do /bin/busybox modprobe $module; done
for folder in proc sys dev; do /bin/busybox mount -o bind /$folder /host/$folder; done
/bin/busybox mount -t tmpfs tmpfs /host/run
cd /host
export PATH=/usr/sbin:/usr/bin:/sbin:/bin TMPDIR=/run HOME=/run
export PYTHONPATH={root} PYTHONDONTWRITEBYTECODE=1
/bin/busybox chroot /host {python} -m {program} >/dev/ttyS0 2>&1
/bin/busybox poweroff -f
"""


def missing_programs() -> list[str]:
    """Those that a virtual machine needs and this machine lacks."""
    return [program for program in PROGRAMS if shutil.which(program) is None]


class Machine:
    """``folder`` is for what is downloaded and made."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._package = folder / "kernel"

    def prepare(self) -> None:
        """Download and unpack the kernel. Raises CalledProcessError."""
        depends = _output("apt-cache", "depends", _META_PACKAGE)
        (name,) = (line.split()[1] for line in depends.splitlines() if "Depends: linux-" in line)
        subprocess.run(
            ["apt-get", "download", "-qq", name], check=True, cwd=self._folder, capture_output=True
        )
        (archive,) = self._folder.glob("linux-image-*.deb")
        subprocess.run(["dpkg", "-x", str(archive), str(self._package)], check=True)
        archive.unlink()
        subprocess.run(["busybox", "depmod", "-b", str(self._package), self._release], check=True)

    def run(self, program: str, modules: Sequence[str], within_s: float) -> str:
        """What a Python module of this checkout writes when it is run as root of the guest.

        Raises TimeoutExpired.
        """
        initial = self._folder / "initial.cpio"
        initial.write_bytes(_cpio(self._initial_files(program, modules)))
        (kernel,) = (self._package / "boot").glob("vmlinuz-*")
        shares = []
        for tag, path in (("host", Path("/")), ("modules", self._package / "lib" / "modules")):
            share = f"local,path={path},mount_tag={tag},security_model=none,readonly=on"
            shares += ["-virtfs", f"{share},multidevs=remap"]
        command = [
            *("qemu-system-x86_64", "-accel", "tcg", "-smp", "2", "-m", "1024", "-nic", "none"),
            *("-display", "none", "-serial", "stdio", "-monitor", "none", "-no-reboot"),
            *("-kernel", str(kernel), "-initrd", str(initial), *shares),
            *("-append", "console=ttyS0 quiet panic=-1"),
        ]
        result = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=within_s,
        )
        return result.stdout.decode("utf-8", "replace")

    @property
    def _release(self) -> str:
        (folder,) = (self._package / "lib" / "modules").iterdir()
        return folder.name

    def _initial_files(self, program: str, modules: Sequence[str]) -> dict[str, tuple[int, bytes]]:
        early = self._with_dependencies(_TO_REACH_FILES)
        init = _INIT.format(
            early=" ".join(path.name for path in early),
            modules=" ".join(modules),
            root=ROOT,
            python=sys.executable,
            program=program,
        )
        busybox = shutil.which("busybox")
        assert busybox is not None
        return {
            **dict.fromkeys(("bin", "dev", "early", "sbin"), (stat.S_IFDIR | 493, b"")),
            "init": (stat.S_IFREG | 0o755, init.encode()),
            "bin/busybox": (stat.S_IFREG | 0o755, Path(busybox).read_bytes()),
            # The kernel calls it for modules that it finds that it needs.
            "sbin/modprobe": (stat.S_IFLNK | 0o777, b"/bin/busybox"),
            **{f"early/{path.name}": (stat.S_IFREG | 0o644, path.read_bytes()) for path in early},
        }

    def _with_dependencies(self, names: Sequence[str]) -> list[Path]:
        """Files of modules, each after those that it needs."""
        folder = self._package / "lib" / "modules" / self._release
        needs: dict[str, tuple[str, list[str]]] = {}
        for line in (folder / "modules.dep").read_text().splitlines():
            path, _, others = line.partition(":")
            needs[Path(path).stem] = path, [Path(other).stem for other in others.split()]
        ordered: dict[str, None] = {}

        def add(name: str) -> None:
            for other in needs[name][1]:
                if other not in ordered:
                    add(other)
            ordered[name] = None

        for name in names:
            add(name)
        return [folder / needs[name][0] for name in ordered]


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _cpio(files: dict[str, tuple[int, bytes]]) -> bytes:
    """The kernel's own format of an initial file system (its Documentation: buffer-format)."""
    return b"".join(_cpio_members(files))


def _cpio_members(files: dict[str, tuple[int, bytes]]) -> Iterator[bytes]:
    for number, (name, (mode, data)) in enumerate([*files.items(), ("TRAILER!!!", (0, b""))]):
        path = os.fsencode(name) + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0)
        header = b"070701" + b"".join(b"%08x" % field for field in fields)
        yield header + path + bytes(-(len(header) + len(path)) % 4)
        yield data + bytes(-len(data) % 4)
