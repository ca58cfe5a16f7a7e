"""The capture of a run: the recorder's process inside the lab, and the file it becomes."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from quicpipe_lab.backends.netns.lab import Lab
from quicpipe_lab.errors import BackendUnavailableError
from quicpipe_lab.model.result import CaptureStats
from quicpipe_lab.model.topology import CORE
from quicpipe_lab.traffic.frame import CapturedFrame

_READY_FD = 3
_STOP_FD = 4
_FIRST_NAMESPACE_FD = 10


class Recording:
    """Captures every interface of every node from entry until ``stop``."""

    def __init__(self, lab: Lab, run_dir: Path) -> None:
        self._lab = lab
        self._spool = run_dir / "capture.spool"
        self._out = run_dir / "capture.pcapng"
        self._stderr = run_dir / "capture.stderr"
        self._stop_fd = -1

    def __enter__(self) -> "Recording":
        namespaces = self._lab.namespaces()
        ready, ready_writer = os.pipe()
        stop_reader, self._stop_fd = os.pipe()
        fds = {_READY_FD: ready_writer, _STOP_FD: stop_reader}
        argv = ["quicpipe-lab", "_capture", "--spool", str(self._spool)]
        argv += ["--ready-fd", str(_READY_FD), "--stop-fd", str(_STOP_FD)]
        for number, (node, namespace) in enumerate(namespaces.items(), _FIRST_NAMESPACE_FD):
            fds[number] = namespace
            argv.append(f"{node}={number}")
        try:
            with self._stderr.open("wb") as log:
                self._process = self._lab.spawn(
                    CORE, argv, stdin=None, stdout=None, stderr=log.fileno(), extra_fds=fds
                )
        except BaseException:
            os.close(ready)
            self._close_stop()
            raise
        finally:
            os.close(ready_writer)
            os.close(stop_reader)
        with os.fdopen(ready, "rb", buffering=0) as file:
            is_ready = file.read(1)
        if not is_ready:
            self._close_stop()
            raise BackendUnavailableError(
                f"the capture did not start: {self._complaint()}",
                "quicpipe-lab doctor says what this machine can do",
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the recorder once it has written what the kernel had queued; twice is fine."""
        if self._close_stop():
            self._process.wait(10.0)
            self._process.close()

    def _close_stop(self) -> bool:
        """Tell the recorder to end; False where it was told before."""
        if self._stop_fd < 0:
            return False
        os.close(self._stop_fd)
        self._stop_fd = -1
        return True

    def write(self, carried: Sequence[CapturedFrame] = (), secrets: bytes = b"") -> CaptureStats:
        """Turn what was recorded into ``capture.pcapng``, with what went out of band and the TLS
        secrets that decrypt it."""
        from quicpipe_lab.shell.capture import write_pcapng

        topology = self._lab.topology
        stats = write_pcapng(self._spool, self._out, carried, secrets, topology)
        self._spool.unlink()
        with suppress(OSError):
            if not self._stderr.stat().st_size:
                self._stderr.unlink()
        return stats

    def _complaint(self) -> str:
        lines = self._stderr.read_text("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"
