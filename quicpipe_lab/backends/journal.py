"""Everything that happens in a run, as it happens: into the record, the log and the watcher."""

from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from quicpipe_lab.backends.base import Observer
from quicpipe_lab.backends.summary import RunRecord
from quicpipe_lab.errors import ScenarioError
from quicpipe_lab.model.event import Event


class Journal:
    """Writes ``events.jsonl`` within a ``with`` block, unless there is no ``run_dir``, and answers
    what was said last.

    Every event that it takes is on the run's clock. Raises ScenarioError where ``run_dir`` cannot
    be written in.
    """

    def __init__(self, record: RunRecord, run_dir: Path | None, observe: Observer) -> None:
        self.record = record
        self.observe = observe
        self._last: dict[tuple[str, str], Event] = {}
        self._log: TextIO | None = None
        if run_dir is None:
            return
        try:
            self._log = (run_dir / "events.jsonl").open("w", encoding="utf-8")
        except OSError as error:
            raise ScenarioError("run_dir", f"cannot write in {run_dir}: {error.strerror}") from None

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._log is not None:
            self._log.close()

    def take(self, event: Event) -> None:
        """One more has happened."""
        self.record.events.append(event)
        self._last[event.node, event.name] = event
        if self._log is not None:
            self._log.write(event.dumps() + "\n")
            self._log.flush()
        self.observe(event)

    def note(self, t_s: float, name: str, **data: Any) -> None:
        """An event of the lab itself."""
        self.take(Event(t_s, "lab", name, data))

    def last(self, node: str, name: str) -> Event | None:
        """The newest event of a name that a node reported."""
        return self._last.get((node, name))

    def is_direct(self, node: str) -> bool:
        """Whether a peer's last word on its path is the direct one."""
        changed = self.last(node, "path-changed")
        return changed is not None and bool(changed.data["direct"])
