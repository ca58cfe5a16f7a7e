"""The capture of a run: the recorder's process inside the lab, and the file it becomes."""

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from quicpipe_lab.backends.ending import ending
from quicpipe_lab.backends.netns.lab import Lab
from quicpipe_lab.errors import BackendUnavailableError, QuicpipeLabError
from quicpipe_lab.model.result import CaptureStats
from quicpipe_lab.model.topology import CORE
from quicpipe_lab.traffic.frame import CapturedFrame
from quicpipe_lab.traffic.outages import Outage

_READY_FD = 3
_STOP_FD = 4
_SPOOL_FD = 5
_FIRST_NAMESPACE_FD = 10
_END_WITHIN_S = 10.0


class Recording:
    """Captures every interface of every node from entry until ``stop``. ``nameless``: a file that
    is written to in place of one in ``run_dir``, and of which ``write`` makes nothing."""

    def __init__(self, lab: Lab, run_dir: Path, *, nameless: int | None = None) -> None:
        self._lab = lab
        self._nameless = nameless
        self._spool = run_dir / "capture.spool"
        self._out = run_dir / "capture.pcapng"
        self._said = -1
        self._stop_fd = -1
        self._ending = ""

    def __enter__(self) -> "Recording":
        namespaces = self._lab.namespaces()
        ready, ready_writer = os.pipe()
        stop_reader, self._stop_fd = os.pipe()
        fds = {_READY_FD: ready_writer, _STOP_FD: stop_reader}
        spool = str(self._spool)
        if self._nameless is not None:
            spool, fds[_SPOOL_FD] = f"/dev/fd/{_SPOOL_FD}", self._nameless
        argv = ["quicpipe-lab", "_capture", "--spool", spool]
        argv += ["--ready-fd", str(_READY_FD), "--stop-fd", str(_STOP_FD)]
        for number, (node, namespace) in enumerate(namespaces.items(), _FIRST_NAMESPACE_FD):
            fds[number] = namespace
            argv.append(f"{node}={number}")
        self._said = os.memfd_create("capture")  # a full disk would not take what is said of it
        try:
            self._process = self._lab.spawn(
                CORE, argv, stdin=None, stdout=None, stderr=self._said, extra_fds=fds
            )
        except BaseException:
            os.close(ready)
            os.close(self._said)
            self._close_stop()
            raise
        finally:
            os.close(ready_writer)
            os.close(stop_reader)
        with os.fdopen(ready, "rb", buffering=0) as file:
            is_ready = file.read(1)
        if not is_ready:
            self.stop()
            raise BackendUnavailableError(
                f"the capture did not start: its recorder ended {self._ending}",
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
            try:
                status = self._process.wait(_END_WITHIN_S)
                said = os.pread(self._said, 65536, 0).decode("utf-8", "replace")
                self._ending = ending(status, said)
            finally:
                self._process.close()
                os.close(self._said)

    def _close_stop(self) -> bool:
        """Tell the recorder to end; False where it was told before."""
        if self._stop_fd < 0:
            return False
        os.close(self._stop_fd)
        self._stop_fd = -1
        return True

    def write(
        self,
        carried: Sequence[CapturedFrame] = (),
        secrets: bytes = b"",
        off: Sequence[Outage] = (),
    ) -> CaptureStats:
        """Turn what was recorded into ``capture.pcapng``, with what went out of band and the TLS
        secrets that decrypt it. ``off``: who was switched off meanwhile."""
        from quicpipe_lab.shell.capture import IncompleteCaptureError, write_pcapng

        topology = self._lab.topology
        try:
            stats = write_pcapng(self._spool, self._out, carried, secrets, topology, off)
        except IncompleteCaptureError as error:
            raise QuicpipeLabError(f"{error}: its recorder ended {self._ending}") from None
        self._spool.unlink()
        return stats
