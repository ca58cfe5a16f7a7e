"""Runs a scenario in virtual time: the same machines and the same script, and no kernel."""

import json
import random
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from quicpipe_lab.backends.base import Observer
from quicpipe_lab.backends.carried import carried
from quicpipe_lab.backends.journal import Journal
from quicpipe_lab.backends.script import Script, Story, drive
from quicpipe_lab.backends.sim.actor import PeerActor, RelayActor, SimActor
from quicpipe_lab.backends.sim.application import Pipe
from quicpipe_lab.backends.sim.cast import Cast
from quicpipe_lab.backends.sim.clock import Clock as VirtualClock
from quicpipe_lab.backends.sim.identities import EPOCH
from quicpipe_lab.backends.sim.invariants import (
    LIVENESS,
    TIMER,
    InvariantBrokenError,
    Invariants,
    Machine,
)
from quicpipe_lab.backends.sim.liveness import Liveness
from quicpipe_lab.backends.sim.network import Network
from quicpipe_lab.backends.sim.node import FrameSeen, Observe
from quicpipe_lab.backends.sim.recording import Recording
from quicpipe_lab.backends.sim.stranger import Stranger
from quicpipe_lab.backends.summary import RunRecord, summarize
from quicpipe_lab.backends.transfer import Transfer
from quicpipe_lab.errors import UnsupportedBehaviorError
from quicpipe_lab.model.event import Event
from quicpipe_lab.model.result import Clock, RunResult
from quicpipe_lab.model.scenario import Attack, Outcome, Scenario, Xdp, in_use
from quicpipe_lab.protocol.sources import Sources, drawn_from
from quicpipe_lab.traffic.outages import outages


@dataclass(frozen=True)
class SimBackend:
    """The Backend. ``capture``: whether runs are captured; ``qlog``: whether aioquic's are kept;
    ``watch``: whether the invariants are. ``cast`` makes the actors."""

    capture: bool = True
    qlog: bool = True
    watch: bool = True
    cast: type[Cast] = Cast
    name: str = "sim"

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
        del stop_fd  # nothing here waits
        with ExitStack() as stack:
            run = SimRun(self, scenario, run_dir, observe, stack, certify=certify)
            with drawn_from(run.sources):
                drive(run.story(), run.run_until)
            return run.result()


BACKEND = SimBackend()


def _both(observers: list[Observe]) -> Observe | None:
    """One that tells them all; None where there is none, which saves making the frames."""
    if len(observers) < 2:
        return observers[0] if observers else None

    def see(frame: FrameSeen) -> None:
        for one in observers:
            one(frame)

    return see


class SimRun:
    """One run, and the script's Stage. Without a ``run_dir`` it leaves no files.

    Raises UnsupportedBehaviorError. Whoever drives its story does so within
    ``drawn_from(sources)``.
    """

    def __init__(
        self,
        backend: SimBackend,
        scenario: Scenario,
        run_dir: Path | None,
        observe: Observer,
        stack: ExitStack,
        *,
        certify: bool = False,
    ) -> None:
        if scenario.xdp is not Xdp.OFF:
            raise UnsupportedBehaviorError(
                "the simulator has no kernel for --xdp to relay in: use --backend netns"
            )
        self.backend = backend
        self.scenario = scenario
        self.run_dir = run_dir
        self.clock = VirtualClock()
        epoch_s = int(EPOCH.timestamp())
        self._recording = Recording(scenario.topology, epoch_s) if backend.capture else None
        self._invariants = Invariants(scenario, self._machine) if backend.watch else None
        self._liveness = Liveness(scenario)
        self._stranger = Stranger(scenario) if Stranger.is_in(scenario) else None
        watchers = self._recording, self._invariants, self._stranger
        observers = [one.see for one in watchers if one is not None]
        self.network = Network(
            scenario.topology, self.clock, seed=scenario.seed, observe=_both(observers)
        )
        self.record = RunRecord(Clock("virtual", float(epoch_s)))
        self._watch = observe
        self._is_stirred = self._has_died = False
        self._journal = stack.enter_context(Journal(self.record, run_dir, self._observe))
        self._script = Script(scenario, self._journal, self)
        draw = random.Random(f"{scenario.seed}/machines").randbytes
        self.sources = Sources(draw, lambda: epoch_s + self.clock.now)
        self.cast = backend.cast(
            scenario,
            self.network,
            self._journal,
            draw,
            self._ended,
            with_qlog=backend.qlog,
            watch=self._invariants,
        )
        self.relay: RelayActor | None = None
        self.accepter: PeerActor | None = None
        self.dialer: PeerActor | None = None
        self._pipe: Pipe | None = None
        self._certify = certify

    def story(self) -> Story:
        """Play, and gather what is left."""
        self._script.note("lab-up", epoch_unix_s=self.record.clock.epoch_unix_s)
        yield from self._script.story()
        self._judge()
        self._script.note_links(self.network.link_counters())
        self._script.note("lab-down")
        if self.run_dir is not None:
            self._write_files(self.run_dir)
        self._script.note("done")

    def result(self) -> RunResult:
        """Once the story is over."""
        return summarize(self.scenario, self.record, self.run_dir, self.backend.name)

    # Stage

    @property
    def now(self) -> float:
        """See Stage.now."""
        return self.clock.now

    def begin(self) -> None:
        """See Stage.begin. What certifies looks at a network of its own, which is built from the
        same topology and seed: the one of the run stays untouched, and so does its clock."""
        if self._certify:
            from quicpipe_lab.backends.sim.prober import certify

            topology, seed = self.scenario.topology, self.scenario.seed
            self._script.judge(lambda: certify(topology, seed=seed))
        self.relay = self.cast.relay()
        self.cast.announce_accepter()
        self.dialer, self._pipe = self.cast.dialer(self._publish, self._take_echo)
        self.dialer.start()

    def run_until(self, holds: Callable[[], bool], end_s: float) -> bool:
        """See Stage.run_until. A condition is asked again only after something was noted, has come
        back or has ended: a datagram alone changes none."""
        self.stir()
        return self.clock.run_until(lambda: self.has_changed() and holds(), end_s)

    def stir(self) -> None:
        """Conditions are to be asked again."""
        self._is_stirred = True

    def has_changed(self) -> bool:
        """Whether anything that a condition may ask for has, since the last time."""
        changed, self._is_stirred = self._is_stirred, False
        return changed

    def alarm(self, delay_s: float, action: Callable[[], None]) -> None:
        """See Stage.alarm."""
        self.clock.after(delay_s, action)

    def cut(self, one: str, other: str) -> None:
        """See Stage.cut."""
        peers = self.scenario.dialer, self.scenario.accepter
        were_direct = all(self._journal.is_direct(peer) for peer in peers)
        self.network.cut(one, other)
        self._liveness.cut(one, other, self.now, were_direct=were_direct)

    def restore(self, one: str, other: str) -> None:
        """See Stage.restore."""
        self.network.restore(one, other)
        self._liveness.restore(one, other, self.now)

    def reboot(self, node: str) -> float:
        """See Stage.reboot."""
        self.network.router(node).reboot()
        self._liveness.disturb(self.now)
        return self.now

    def switch(self, node: str, to: str) -> None:
        """See Stage.switch."""
        self.network.switch(node, to)
        self._liveness.switch(node, to, self.now)

    def restart_relay(self) -> None:
        """See Stage.restart_relay."""
        assert self.relay is not None
        self.relay.kill()
        self.relay = self.cast.relay()
        self._liveness.disturb(self.now)
        if self._invariants is not None:
            self._invariants.relay_restarted()

    def attack(self, attack: Attack) -> None:
        """See Stage.attack."""
        assert self._stranger is not None
        for packet in self._stranger.burst(attack.kind):
            self.network.inject(packet)

    def feed(self, transfer: Transfer) -> None:
        """See Stage.feed."""
        assert self._pipe is not None
        assert self.dialer is not None
        self._pipe.feed(transfer)
        self.dialer.nudge()

    def end_input(self) -> None:
        """See Stage.end_input."""
        assert self._pipe is not None
        assert self.dialer is not None
        self._pipe.end_input()
        self.dialer.nudge()

    def actor(self, role: str) -> SimActor:
        """See Stage.actor."""
        return next(one for one in self._actors if one.role == role)

    def stop_relay(self) -> None:
        """See Stage.stop_relay."""
        assert self.relay is not None
        self.relay.stop()

    def stop_actors(self) -> None:
        """See Stage.stop_actors."""
        for one in self._actors:
            one.kill()

    # Parts

    @property
    def _actors(self) -> list[SimActor]:
        return [one for one in (self.relay, self.accepter, self.dialer) if one is not None]

    def _machine(self, node: str) -> Machine | None:
        actors = (self.relay, self.accepter, self.dialer)
        return next((one.machine for one in actors if one is not None and one.node == node), None)

    def _judge(self) -> None:
        """Whether a failure was anybody's fault."""
        record = self.record
        if record.failure is None or record.broken is not None or self._invariants is None:
            return
        for_direct = in_use(Outcome.DIRECT) in record.failure
        verdict = self._liveness.verdict(self.now, ended=self._has_died, for_direct=for_direct)
        if verdict is not None:
            record.broken = TIMER if self._invariants.has_stuck_timer(self.now) else LIVENESS
            record.failure = (
                f"invariant broken: {record.broken}: {record.failure}, though {verdict}"
            )

    def _judge_loss(self, event: Event, invariants: Invariants) -> None:
        verdict = self._liveness.relay_verdict(self.now)
        if verdict is not None and not invariants.may_give_up_relay(event.node, self.now):
            raise InvariantBrokenError(LIVENESS, f"{event.node} lost the relay, though {verdict}")

    def _publish(self, message: bytes) -> None:
        self._script.carry(message, self._start_accepter)

    def _start_accepter(self, message: bytes) -> None:
        self.accepter = self.cast.accepter(message)
        self.accepter.start()

    def _take_echo(self, data: bytes) -> None:
        self._is_stirred = True
        self._script.take_echo(data)

    def _ended(self, actor: SimActor) -> None:
        self._is_stirred = True
        if self._invariants is not None:
            self._invariants.ended(actor.node)
        if not self._script.is_ending:
            self._has_died = True
            self._script.ended_early(actor)

    def _observe(self, event: Event) -> None:
        self._is_stirred = True
        if self._invariants is not None:
            self._invariants.hear(event)
            if event.name == "relay-lost":
                self._judge_loss(event, self._invariants)
            elif event.name == "port-search-started" and event.node == self.scenario.dialer:
                self._liveness.search_began()
        self._watch(event)

    def _write_files(self, run_dir: Path) -> None:
        """As the programs and the recorder leave them."""
        traces = dict(sorted(self.cast.traces.items()))
        keys = "".join(one.keylog.getvalue() for one in traces.values())
        (run_dir / "keys.log").write_text(keys, encoding="ascii")
        for node, one in traces.items():
            if one.qlog is not None:
                folder = run_dir / "qlog"
                folder.mkdir(exist_ok=True)
                with (folder / f"{node}.qlog").open("w", encoding="utf-8") as file:
                    json.dump(one.qlog.to_dict(), file)
        if self._recording is not None:
            out_of_band = carried(self.scenario, self._journal)
            off = outages(self.record.events, self.scenario.relay, self.record.clock.epoch_unix_s)
            self.record.capture = self._recording.write(
                run_dir / "capture.pcapng", out_of_band, keys.encode("ascii"), off
            )
