"""What a run left, opened: its files, and its capture as a table of packets.

Joins what the layers below keep apart: reading files is the shell's, understanding them analysis'.
"""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from quicpipe_lab.analysis.packets import Packet, table
from quicpipe_lab.analysis.run_files import Run, read_run
from quicpipe_lab.cycle_search import no_cycle_search
from quicpipe_lab.errors import QuicpipeLabError
from quicpipe_lab.model.result import RunResult
from quicpipe_lab.shell import capture, pcapng
from quicpipe_lab.shell.pcapng import Capture
from quicpipe_lab.traffic.frame import CapturedFrame


@dataclass(frozen=True)
class Evidence:
    """A run's files. ``warnings``: what is missing from them, one line each."""

    run: Run
    capture: Capture | None
    warnings: tuple[str, ...] = field(default=())

    @property
    def epoch_unix_s(self) -> float:
        """The Unix time at which the run's clock stood at 0; where nothing tells, that of the
        first frame."""
        if self.run.result is not None and self.run.result.clock is not None:
            return self.run.result.clock.epoch_unix_s
        for event in self.run.named("lab-up"):
            told = event.data.get("epoch_unix_s")
            if isinstance(told, int | float):
                return float(told)
        return min((frame.time_ns for frame in self.frames), default=0) / 1e9

    @property
    def frames(self) -> list[CapturedFrame]:
        """As they stand in the file; none where the run was not captured."""
        return [] if self.capture is None else self.capture.frames

    @cached_property
    def packets(self) -> list[Packet]:
        """The capture as a table."""
        with no_cycle_search():
            return table(self.frames, self.epoch_unix_s)


def open_run(run: RunResult | str | Path) -> Evidence:
    """A run by its result or its directory. Raises QuicpipeLabError."""
    if isinstance(run, RunResult):
        if run.run_dir is None:
            raise QuicpipeLabError("this result has no run_dir: its run left no files")
        run = run.run_dir
    directory = Path(run)
    found = read_run(directory)
    warnings = []
    if found.result is None:
        warnings.append("the run has no result: it was killed, or could not be run")
    if not found.events:
        warnings.append("the run has no events: what its programs said is not known")
    held = capture_in(directory)
    if held is not None and not held.is_whole:
        warnings.append(f"the capture breaks off after {len(held.frames)} frames")
    return Evidence(found, held, tuple(warnings))


def capture_in(directory: Path) -> Capture | None:
    """The capture, or what its recorder had written of it when the run was killed."""
    if (directory / "capture.pcapng").exists():
        return pcapng.read(directory / "capture.pcapng")
    spool = directory / "capture.spool"
    if not spool.exists():
        return None
    spooled = capture.read_spool(spool)
    # The secrets are gathered at a run's end, and stand in a file a program until then.
    try:
        secrets = b"".join(path.read_bytes() for path in sorted((directory / "keys").glob("*.log")))
    except OSError as error:
        raise QuicpipeLabError(f"cannot read {error.filename}: {error.strerror}") from None
    return Capture(spooled.frames, spooled.interfaces, secrets, spooled.dropped is not None)
