"""Runs a scenario on the real kernel: real processes in namespaces, watched from outside."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from quicpipe_lab.backends.base import NO_STRANGER, Observer
from quicpipe_lab.backends.carried import RELAY_PORT, carried
from quicpipe_lab.backends.journal import Journal
from quicpipe_lab.backends.netns.actor import OOB_FD, Actor
from quicpipe_lab.backends.netns.certification import Certification
from quicpipe_lab.backends.netns.lab import Lab, Process
from quicpipe_lab.backends.netns.reactor import Reactor
from quicpipe_lab.backends.netns.recording import Recording
from quicpipe_lab.backends.netns.xdp_link import require_root
from quicpipe_lab.backends.script import END_WITHIN_S, Script
from quicpipe_lab.backends.summary import RunRecord, summarize
from quicpipe_lab.backends.transfer import Transfer
from quicpipe_lab.errors import BackendUnavailableError, QuicpipeLabError, UnsupportedBehaviorError
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.model.event import Event
from quicpipe_lab.model.interface import interface_name
from quicpipe_lab.model.result import Clock, RunResult
from quicpipe_lab.model.scenario import Attack, RestartRelay, Scenario, Xdp
from quicpipe_lab.traffic.outages import outages

CANNOT = 3
"""The exit status of a program that this machine cannot run."""
_CERTIFYING = 0.5
"""Of a scenario's deadline, which runs meanwhile: what looking at the NATs may take of it."""


@dataclass(frozen=True)
class NetnsBackend:
    """The Backend. ``fork_labs``: see Lab; ``capture``: whether runs are captured."""

    fork_labs: bool = False
    capture: bool = True
    name: str = "netns"

    def run(
        self,
        scenario: Scenario,
        run_dir: Path,
        observe: Observer,
        *,
        certify: bool = False,
        stop_fd: int | None = None,
    ) -> RunResult:
        """See Backend.run."""
        if scenario.attack is not None:
            _refuse(scenario.attack)
        if scenario.xdp is not Xdp.OFF:
            require_root()
        with ExitStack() as stack:
            run = _Run(self, scenario, run_dir, observe, stack)
            if stop_fd is not None:
                run.stop_by(stop_fd)
            return run.execute(certify)


BACKEND = NetnsBackend()


def _refuse(attack: Attack) -> NoReturn:
    raise UnsupportedBehaviorError(f"{attack}: {NO_STRANGER}; use --backend sim")


class _Run:
    """One run, and the script's Stage. ``execute`` is its story."""

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
        self._stack = stack
        self._reactor = Reactor()
        stack.callback(self._reactor.close)
        self._journal = stack.enter_context(Journal(self.record, run_dir, observe))
        self._script = Script(scenario, self._journal, self)
        self._into_dialer = self._from_dialer = -1

    def stop_by(self, stop_fd: int) -> None:
        """See Backend.run."""

        def stop() -> None:
            raise KeyboardInterrupt

        self._reactor.watch_reading(stop_fd, stop)

    def execute(self, certify: bool) -> RunResult:
        """Build, play, take down, gather."""
        self._lab = lab = self._stack.enter_context(
            Lab(self.scenario.topology, fork=self.backend.fork_labs, seed=self.scenario.seed)
        )
        self._script.note("lab-up", epoch_unix_s=self.record.clock.epoch_unix_s)
        self._certification = None
        if certify:  # goes on while the lab gets ready
            within_s = _CERTIFYING * self.scenario.deadline_s
            self._certification = Certification(lab, within_s=within_s)
            self._stack.callback(self._certification.close)
        if self.scenario.xdp is not Xdp.OFF:  # and so does the filter
            native = self.scenario.xdp is Xdp.ON
            lab.prepare_xdp_peer(self.scenario.relay, native=native)
            self._stack.callback(self.stop_actors)
            self._start_relay()
        recording = None
        if self.backend.capture:
            recording = self._stack.enter_context(Recording(lab, self.run_dir))
        self._script.play()
        if recording is not None:
            recording.stop()
        self._script.note_links(lab.link_counters())
        lab.down()
        self._script.note("lab-down")
        secrets = self._gather_keys()
        if recording is not None:
            out_of_band = carried(self.scenario, self._journal)
            off = outages(self.record.events, self.scenario.relay, self.record.clock.epoch_unix_s)
            self.record.capture = recording.write(out_of_band, secrets, off)
        self._script.note("done")
        return summarize(self.scenario, self.record, self.run_dir, self.backend.name)

    @property
    def now(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self.started_s

    # Starting

    def begin(self) -> None:
        """See Stage.begin."""
        if self._certification is not None:
            certification = self._certification
            self._script.judge(lambda: certification.finish(self._await_prober))
        relay = self.actors.get("relay") or self._start_relay()
        pinned = ["--relay-fingerprint", self._fingerprint(relay)]

        accepter_reads, into_accepter = os.pipe()
        self._reactor.own(into_accepter)
        accepter = self._start(
            self.scenario.accepter,
            [
                "accept",
                *self._relay_of(self.scenario.accepter),
                *pinned,
                *self._oob,
                *self._search,
                "--echo",
                "--ephemeral",
            ],
            oob=accepter_reads,
        )
        trust = [*pinned, "--peer-fingerprint", self._fingerprint(accepter)]
        trust += self._relay_of(self.scenario.dialer)
        from_dialer, dialer_writes = os.pipe()
        self._reactor.own(from_dialer)
        self._reactor.watch_reading(from_dialer, lambda: self._carry(from_dialer, into_accepter))
        self._start_dialer(trust, dialer_writes)

    def _await_prober(self, process: Process, within_s: float) -> None:
        """Under the scenario's deadline, as everything."""
        exit_fd = process.exit_fd
        self._reactor.watch_reading(exit_fd, lambda: self._reactor.unwatch(exit_fd))
        try:
            self._script.until(
                lambda: process.poll() is not None, within_s, "the NATs to be measured"
            )
        finally:
            self._reactor.unwatch(exit_fd)

    def _relay_of(self, peer: str) -> list[str]:
        return ["--relay", str(TransportAddress(self.scenario.relay_host(peer), RELAY_PORT))]

    def _start_relay(self) -> Actor:
        host, *others = self.scenario.relay_hosts
        bind = str(TransportAddress("::" if others else host, RELAY_PORT))
        # A capture shows what the wire would carry: each datagram by itself.
        command = ["relay", "--bind", bind, "--no-offload", *self._certificate, *self._relay_xdp]
        return self._start(self.scenario.relay, command)

    @property
    def _certificate(self) -> list[str]:
        """In a file only where a relay that is started anew has to find it again."""
        steps = (*self.scenario.steps, *(one.step for one in self.scenario.meanwhile))
        if any(isinstance(step, RestartRelay) for step in steps):
            return ["--certificate-dir", str(self._keys)]
        return ["--ephemeral"]

    @property
    def _relay_xdp(self) -> list[str]:
        if self.scenario.xdp is Xdp.OFF:
            return []
        topology, relay = self.scenario.topology, self.scenario.relay
        interface = interface_name(topology, relay, topology.uplinks[relay].upper)
        mode = "native" if self.scenario.xdp is Xdp.ON else "generic"
        return ["--xdp", interface, "--xdp-next-hop", "back", "--xdp-mode", mode]

    def _start_dialer(self, trust: list[str], oob: int) -> None:
        direct_after = str(self.scenario.direct_after_bytes)
        dialer_reads, self._into_dialer = os.pipe()
        self._from_dialer, dialer_writes = os.pipe()
        self._reactor.own(self._into_dialer, self._from_dialer)
        for descriptor in (self._into_dialer, self._from_dialer):
            os.set_blocking(descriptor, False)
        self._start(
            self.scenario.dialer,
            ["dial", *trust, *self._oob, *self._search, "--pipe", "--direct-after", direct_after],
            stdin=dialer_reads,
            stdout=dialer_writes,
            oob=oob,
        )
        self._reactor.watch_reading(self._from_dialer, self._take_echo)

    def _start(self, node: str, command: list[str], **descriptors: int) -> Actor:
        """A program at a node; the descriptors are its own from here on."""
        role = command[0]
        for folder in ("programs", "keys", "qlog"):
            (self.run_dir / folder).mkdir(exist_ok=True)
        logs = ["--qlog", f"{self.run_dir}/qlog", "--keylog", f"{self._keys}/{node}.log"]
        log = self.run_dir / "programs" / f"{node}.{role}.log"
        if role not in self.actors:
            log.unlink(missing_ok=True)  # an earlier run's
        try:
            actor = Actor(self._lab, node, [*command, *logs], log=log, **descriptors)
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
        return str(self._script.ready(actor.node, actor.role).data["fingerprint"])

    @property
    def _search(self) -> list[str]:
        return ["--search"] if self.scenario.search else []

    @property
    def _oob(self) -> list[str]:
        return ["--oob", f"/dev/fd/{OOB_FD}"]

    # While it plays

    def run_until(self, holds: Callable[[], bool], end_s: float) -> bool:
        """See Stage.run_until."""
        return self._reactor.run_until(holds, self.started_s + end_s)

    def alarm(self, delay_s: float, action: Callable[[], None]) -> None:
        """See Stage.alarm."""
        self._reactor.alarm(delay_s, action)

    def cut(self, one: str, other: str) -> None:
        """See Stage.cut."""
        self._lab.cut(one, other)

    def restore(self, one: str, other: str) -> None:
        """See Stage.restore."""
        self._lab.restore(one, other)

    def reboot(self, node: str) -> float:
        """See Stage.reboot."""
        self._lab.preload()  # or the time that it takes would be the router's
        since_s = self.now
        self._lab.reboot(node)
        return since_s

    def switch(self, node: str, to: str) -> None:
        """See Stage.switch."""
        self._lab.preload()
        self._lab.switch(node, to)

    def restart_relay(self) -> None:
        """See Stage.restart_relay. A process that has ended has given its port back."""
        self._end_now([self.actors["relay"]])
        self._start_relay()

    def attack(self, attack: Attack) -> None:
        """See Stage.attack. No run that has one begins."""
        _refuse(attack)

    def actor(self, role: str) -> Actor:
        """See Stage.actor."""
        return self.actors[role]

    def _read_events(self, actor: Actor) -> None:
        if not actor.read_events(self._merge):
            self._reactor.unwatch(actor.events_fd)
            if not self._script.is_ending:
                with suppress(QuicpipeLabError):  # it has closed its log, and lives on
                    actor.process.wait(END_WITHIN_S)
                _raise_inability(actor)
                self._script.ended_early(actor)

    def _merge(self, event: Event) -> None:
        """A program's event, on the run's clock instead of its own."""
        self._journal.take(replace(event, t_s=event.t_s - self.started_s))

    # Data

    def _carry(self, source: int, target: int) -> None:
        """Out of band, from the dialer's pipe to the accepter's."""
        packet = os.read(source, 65536)
        self._reactor.close(source)
        if not packet:
            return  # the dialer ended before it had one

        def deliver(packet: bytes) -> None:
            with suppress(BrokenPipeError):
                os.write(target, packet)
            self._reactor.close(target)

        self._script.carry(packet, deliver)

    def feed(self, transfer: Transfer) -> None:
        """See Stage.feed."""
        self._reactor.watch_writing(self._into_dialer, lambda: self._feed_dialer(transfer))

    def _feed_dialer(self, transfer: Transfer) -> None:
        try:
            transfer.sent_bytes += os.write(self._into_dialer, transfer.next_chunk())
        except BrokenPipeError:
            self._reactor.unwatch(self._into_dialer)  # its end is noticed elsewhere
        if transfer.is_sent:
            self._reactor.unwatch(self._into_dialer)

    def _take_echo(self) -> None:
        data = os.read(self._from_dialer, 262144)
        if data:
            self._script.take_echo(data)
        else:
            self._reactor.unwatch(self._from_dialer)

    # Ending

    def end_input(self) -> None:
        """See Stage.end_input."""
        self._reactor.close(self._into_dialer)

    def stop_relay(self) -> None:
        """See Stage.stop_relay."""
        self.actors["relay"].process.send_signal(signal.SIGTERM)

    def stop_actors(self) -> None:
        """See Stage.stop_actors. Twice is fine."""
        actors = list(self.actors.values())
        self.actors.clear()
        self._end_now(actors)

    def _end_now(self, actors: list[Actor]) -> None:
        """Killed, waited for, heard to their last word, and closed."""
        for actor in actors:
            actor.process.send_signal(signal.SIGKILL)  # nothing, where it has ended
        for actor in actors:
            self._reactor.unwatch(actor.events_fd)
            self._reactor.unwatch(actor.process.exit_fd)
            try:
                actor.process.wait(END_WITHIN_S)
                actor.read_rest(self._merge)
            finally:
                actor.close()

    @property
    def _keys(self) -> Path:
        """What is secret while the run goes on."""
        return self.run_dir / "keys"

    def _gather_keys(self) -> bytes:
        """One SSLKEYLOGFILE for the whole run, as Wireshark wants it."""
        parts = sorted(self._keys.glob("*.log"))
        text = "".join(part.read_text(encoding="ascii") for part in parts)
        (self.run_dir / "keys.log").write_text(text, encoding="ascii")
        for part in (*parts, *self._keys.glob("*.pem")):
            part.unlink()
        with suppress(OSError):
            self._keys.rmdir()
        return text.encode()


def _raise_inability(actor: Actor) -> None:
    """What this machine cannot do is no outcome of the scenario. Raises BackendUnavailableError."""
    if actor.process.poll() == CANNOT:
        problem, _, remedy = actor.complaint().rpartition("; ")
        raise BackendUnavailableError(problem or f"the {actor.role} cannot run here", remedy)
