"""Runs a scenario on the real kernel: real processes in namespaces, watched from outside."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from quicpipe_lab.backends.base import Observer
from quicpipe_lab.backends.netns.actor import OOB_FD, Actor
from quicpipe_lab.backends.netns.certification import Certification
from quicpipe_lab.backends.netns.lab import Lab
from quicpipe_lab.backends.netns.reactor import Reactor
from quicpipe_lab.backends.netns.recording import Recording
from quicpipe_lab.backends.netns.summary import RunRecord, summarize
from quicpipe_lab.backends.netns.transfer import EchoMismatchError, Transfer
from quicpipe_lab.errors import QuicpipeLabError, ScenarioError
from quicpipe_lab.model import scenario as script
from quicpipe_lab.model.event import Event
from quicpipe_lab.model.result import Clock, RunResult
from quicpipe_lab.model.scenario import Outcome, Scenario

RELAY_PORT = 443
"""HTTP/3's own port, which even strict firewalls let out."""
START_WITHIN_S = 15.0
"""For each program to come up, on a machine that is busy with other things."""
END_WITHIN_S = 10.0
PROGRESS_INTERVAL_S = 0.1


@dataclass(frozen=True)
class NetnsBackend:
    """The Backend. ``fork_labs``: see Lab; ``capture``: whether runs are captured."""

    fork_labs: bool = False
    capture: bool = True
    name: str = "netns"

    def run(
        self, scenario: Scenario, run_dir: Path, observe: Observer, *, certify: bool = False
    ) -> RunResult:
        """See Backend.run."""
        with ExitStack() as stack:
            return _Run(self, scenario, run_dir, observe, stack).execute(certify)


BACKEND = NetnsBackend()


class _RunFailedError(Exception):
    """The scenario cannot go on; the text is the result's ``failure``."""


class _Run:
    """One run. ``execute`` is its story; the rest is what the story needs."""

    def __init__(
        self,
        backend: NetnsBackend,
        scenario: Scenario,
        run_dir: Path,
        observe: Observer,
        stack: ExitStack,
    ) -> None:
        self.backend = backend
        self.scenario = scenario
        self.run_dir = run_dir
        self.started_s = time.monotonic()
        self.record = RunRecord(Clock("CLOCK_MONOTONIC", time.time()))
        self.actors: dict[str, Actor] = {}
        self._observe = observe
        self._stack = stack
        self._reactor = Reactor()
        stack.callback(self._reactor.close)
        try:
            log = (run_dir / "events.jsonl").open("w", encoding="utf-8")
        except OSError as error:
            raise ScenarioError("run_dir", f"cannot write in {run_dir}: {error.strerror}") from None
        self._log = stack.enter_context(log)
        self._into_dialer = self._from_dialer = -1
        self._broken: str | None = None
        self._ending = False
        self._progress_s = 0.0

    def execute(self, certify: bool) -> RunResult:
        """Build, start, walk the steps, end, gather."""
        lab = self._stack.enter_context(
            Lab(self.scenario.topology, fork=self.backend.fork_labs, seed=self.scenario.seed)
        )
        self.note("lab-up")
        certification = None
        if certify:  # goes on while the lab gets ready
            certification = Certification(lab)
            self._stack.callback(certification.close)
        recording = None
        if self.backend.capture:
            recording = self._stack.enter_context(Recording(lab, self.run_dir))
        try:
            if certification is not None:
                self._certify(certification)
            self._start_actors(lab)
            for step in self.scenario.steps:
                self._take_step(step, lab)
            self.note("steps-done")
            self._end_actors()
        except (_RunFailedError, EchoMismatchError) as error:
            self.record.failure = str(error)
            self.note("failed", problem=str(error))
        finally:
            self._stop_actors()
        if recording is not None:
            recording.stop()
        self._note_links(lab)
        lab.down()
        self.note("lab-down")
        if recording is not None:
            self.record.capture = recording.write()
        self._gather_keys()
        self.note("done")
        return summarize(self.scenario, self.record, self.run_dir)

    def _note_links(self, lab: Lab) -> None:
        for (source, target), counters in lab.link_counters().items():
            self.note("link-counters", between=[source, target], **asdict(counters))

    def note(self, name: str, **data: Any) -> None:
        """An event of the lab itself."""
        self._take_event(Event(self.now, "lab", name, data))

    @property
    def now(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self.started_s

    # Starting

    def _certify(self, certification: Certification) -> None:
        """Nothing begins in a lab whose NATs are not what the scenario says."""
        try:
            certificates = certification.finish()
        except QuicpipeLabError as error:
            raise _RunFailedError(str(error)) from None
        self.record.certified = {one.nat: one.summary() for one in certificates}
        for one in certificates:
            if (difference := one.difference()) is not None:
                raise _RunFailedError(difference)
        if certificates:
            self.note("certified", nats=[one.nat for one in certificates])

    def _start_actors(self, lab: Lab) -> None:
        relay_host = self.scenario.topology.uplinks[self.scenario.relay].lower_address
        address = f"{relay_host}:{RELAY_PORT}"
        # A capture shows what the wire would carry: each datagram by itself.
        command = ["relay", "--bind", address, "--ephemeral", "--no-offload"]
        relay = self._start(lab, self.scenario.relay, command)
        to_relay = ["--relay", address, "--relay-fingerprint", self._fingerprint(relay)]

        accepter_reads, into_accepter = os.pipe()
        self._reactor.own(into_accepter)
        accepter = self._start(
            lab,
            self.scenario.accepter,
            ["accept", *to_relay, *self._oob, "--echo", "--ephemeral"],
            oob=accepter_reads,
        )
        trust = [*to_relay, "--peer-fingerprint", self._fingerprint(accepter)]
        from_dialer, dialer_writes = os.pipe()
        self._reactor.own(from_dialer)
        self._reactor.watch_reading(from_dialer, lambda: self._carry(from_dialer, into_accepter))
        self._start_dialer(lab, trust, dialer_writes)
        self._await(
            lambda: all(one.last("connected") for one in (self.dialer, self.accepter)),
            START_WITHIN_S + self.scenario.oob_delay_s,
            "the peers to connect through the relay",
        )

    def _start_dialer(self, lab: Lab, trust: list[str], oob: int) -> None:
        direct_after = str(self.scenario.direct_after_bytes)
        dialer_reads, self._into_dialer = os.pipe()
        self._from_dialer, dialer_writes = os.pipe()
        self._reactor.own(self._into_dialer, self._from_dialer)
        for descriptor in (self._into_dialer, self._from_dialer):
            os.set_blocking(descriptor, False)
        self._start(
            lab,
            self.scenario.dialer,
            ["dial", *trust, *self._oob, "--pipe", "--direct-after", direct_after],
            stdin=dialer_reads,
            stdout=dialer_writes,
            oob=oob,
        )
        self._reactor.watch_reading(self._from_dialer, self._take_echo)

    def _start(self, lab: Lab, node: str, command: list[str], **descriptors: int) -> Actor:
        """A program at a node; the descriptors are its own from here on."""
        role = command[0]
        for folder in ("programs", "keys", "qlog"):
            (self.run_dir / folder).mkdir(exist_ok=True)
        logs = ["--qlog", f"{self.run_dir}/qlog", "--keylog", f"{self.run_dir}/keys/{node}.log"]
        try:
            actor = Actor(
                lab,
                node,
                [*command, *logs],
                log=self.run_dir / "programs" / f"{node}.{role}.log",
                **descriptors,
            )
        finally:
            for descriptor in descriptors.values():
                os.close(descriptor)
        self.actors[role] = actor
        self._reactor.watch_reading(actor.events_fd, lambda: self._read_events(actor))
        exit_fd = actor.process.exit_fd
        self._reactor.watch_reading(exit_fd, lambda: self._reactor.unwatch(exit_fd))
        return actor

    def _fingerprint(self, actor: Actor) -> str:
        """What a program says of its certificate when it is ready."""
        self._await(
            lambda: actor.last("ready") is not None, START_WITHIN_S, f"the {actor.role} to start"
        )
        ready = actor.last("ready")
        assert ready is not None
        return str(ready.data["fingerprint"])

    @property
    def _oob(self) -> list[str]:
        return ["--oob", f"/dev/fd/{OOB_FD}"]

    # The steps

    def _take_step(self, step: script.Step, lab: Lab) -> None:
        match step:
            case script.Transfer():
                self._begin_transfer(step.size_bytes)
                if step.wait:
                    self._finish_transfer(self.scenario.deadline_s)
            case script.WaitFor():
                self._wait_for(step)
            case script.Cut(between=(one, other)):
                lab.cut(one, other)
                self.note("cut", between=[one, other])
            case script.Restore(between=(one, other)):
                lab.restore(one, other)
                self.note("restored", between=[one, other])

    def _wait_for(self, step: script.WaitFor) -> None:
        if step.transfer:
            self._finish_transfer(step.within_s)
        elif step.echoed_bytes is not None:
            transfer, wanted = self.record.transfers[-1], step.echoed_bytes
            self._await(
                lambda: transfer.echoed_bytes >= wanted, step.within_s, f"{wanted} echoed bytes"
            )
        elif step.event is not None:
            name = step.event
            self._await(
                lambda: self.dialer.last(name) is not None, step.within_s, f"the event {name}"
            )
        elif step.settled:
            self._await(
                lambda: self._both_direct or self.dialer.last("punch-failed") is not None,
                step.within_s,
                "the punching to end",
            )
        elif step.path is not None:
            direct = step.path is Outcome.DIRECT
            self._await(
                lambda: all(one.is_direct == direct for one in (self.dialer, self.accepter)),
                step.within_s,
                f"both peers to use the {step.path} path",
            )

    @property
    def _both_direct(self) -> bool:
        return self.dialer.is_direct and self.accepter.is_direct

    def _begin_transfer(self, size_bytes: int) -> None:
        index = len(self.record.transfers)
        transfer = Transfer(size_bytes, f"{self.scenario.seed}/{index}")
        self.record.transfers.append(transfer)
        self.note("transfer-started", index=index, size_bytes=size_bytes)
        self._reactor.watch_writing(self._into_dialer, self._feed_dialer)

    def _finish_transfer(self, within_s: float) -> None:
        transfer = self.record.transfers[-1]
        self._await(lambda: transfer.is_complete, within_s, "the transfer to complete")
        self.note(
            "transfer-complete",
            index=len(self.record.transfers) - 1,
            size_bytes=transfer.size_bytes,
            longest_gap_s=round(transfer.longest_gap_s, 6),
        )

    # Ending

    def _end_actors(self) -> None:
        """The dialer's input ends: the stream ends both ways, and both programs with it."""
        self._ending = True
        self._reactor.close(self._into_dialer)
        self._end(self.dialer)
        self._end(self.accepter)
        self.relay.process.send_signal(signal.SIGTERM)
        self._end(self.relay)

    def _end(self, actor: Actor) -> None:
        self._await(
            lambda: actor.process.poll() is not None, END_WITHIN_S, f"the {actor.role} to end"
        )
        status = actor.process.poll()
        if status != 0:
            raise _RunFailedError(f"the {actor.role} ended with {status}: {actor.complaint()}")

    def _stop_actors(self) -> None:
        """Whatever still runs is ended; whatever was still said is heard."""
        for actor in self.actors.values():
            actor.process.send_signal(signal.SIGKILL)  # nothing, where it has ended
        for actor in self.actors.values():
            self._reactor.unwatch(actor.events_fd)
            self._reactor.unwatch(actor.process.exit_fd)
            try:
                actor.process.wait(END_WITHIN_S)
                actor.read_rest(self._merge)
            finally:
                actor.close()

    def _gather_keys(self) -> None:
        """One SSLKEYLOGFILE for the whole run, as Wireshark wants it."""
        parts = sorted((self.run_dir / "keys").glob("*.log"))
        text = "".join(part.read_text(encoding="ascii") for part in parts)
        (self.run_dir / "keys.log").write_text(text, encoding="ascii")
        for part in parts:
            part.unlink()
        with suppress(OSError):
            (self.run_dir / "keys").rmdir()

    # Actors, and what they say

    @property
    def relay(self) -> Actor:
        """The relay's process."""
        return self.actors["relay"]

    @property
    def accepter(self) -> Actor:
        """The accepter's process."""
        return self.actors["accept"]

    @property
    def dialer(self) -> Actor:
        """The dialer's process."""
        return self.actors["dial"]

    def _read_events(self, actor: Actor) -> None:
        if not actor.read_events(self._merge):
            self._reactor.unwatch(actor.events_fd)
            if not self._ending and self._broken is None:
                with suppress(QuicpipeLabError):  # it has closed its log, and lives on
                    actor.process.wait(END_WITHIN_S)
                self._broken = f"the {actor.role} ended too early: {actor.complaint()}"

    def _merge(self, event: Event) -> None:
        """A program's event, on the run's clock instead of its own."""
        self._take_event(replace(event, t_s=event.t_s - self.started_s))

    def _take_event(self, event: Event) -> None:
        self.record.events.append(event)
        self._log.write(event.dumps() + "\n")
        self._log.flush()
        self._observe(event)

    # Data

    def _carry(self, source: int, target: int) -> None:
        """The out-of-band channel, with its delay."""
        packet = os.read(source, 65536)
        self._reactor.close(source)
        if not packet:
            return  # the dialer ended before it had one
        self.note("oob-sent", size_bytes=len(packet), delay_s=self.scenario.oob_delay_s)

        def arrive() -> None:
            with suppress(BrokenPipeError):
                os.write(target, packet)
            self._reactor.close(target)
            self.note("oob-arrived")

        self._reactor.alarm(self.scenario.oob_delay_s, arrive)

    def _feed_dialer(self) -> None:
        transfer = self.record.transfers[-1]
        try:
            transfer.send_some(self._into_dialer)
        except BrokenPipeError:
            self._reactor.unwatch(self._into_dialer)  # its end is noticed elsewhere
        if transfer.is_sent:
            self._reactor.unwatch(self._into_dialer)

    def _take_echo(self) -> None:
        data = os.read(self._from_dialer, 262144)
        if not data:
            self._reactor.unwatch(self._from_dialer)
            return
        if not self.record.transfers:
            raise EchoMismatchError(f"{len(data)} bytes came before any were sent")
        transfer = self.record.transfers[-1]
        transfer.take(data)
        if transfer.is_complete or self.now - self._progress_s >= PROGRESS_INTERVAL_S:
            self._progress_s = self.now
            progress = {"echoed_bytes": transfer.echoed_bytes, "size_bytes": transfer.size_bytes}
            self._observe(Event(self.now, self.scenario.dialer, "progress", progress))

    def _await(self, holds: Callable[[], bool], within_s: float, what: str) -> None:
        """Let things happen until a condition holds. Raises _RunFailedError."""
        deadline_s = self.started_s + self.scenario.deadline_s
        end_s = min(time.monotonic() + within_s, deadline_s)
        met = self._reactor.run_until(lambda: self._broken is not None or holds(), end_s)
        if self._broken is not None:
            raise _RunFailedError(self._broken)
        if not met:
            limit = "the scenario's deadline" if end_s == deadline_s else f"{within_s:g} s"
            raise _RunFailedError(f"waited in vain for {what} ({limit})")
