"""Plays a scenario's steps on whatever stage a backend has built: the same on all of them.

The stage starts the actors, lets things happen and knows how much longer; what is done in which
order, what is waited for and for how long, what is noted, and when a run has failed, stands here.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from typing import Any, NamedTuple, Protocol

from quicpipe_lab.backends.ending import ending
from quicpipe_lab.backends.journal import Journal
from quicpipe_lab.backends.transfer import EchoMismatchError, Transfer
from quicpipe_lab.errors import QuicpipeLabError
from quicpipe_lab.model import scenario as model
from quicpipe_lab.model.event import Event
from quicpipe_lab.model.link_model import LinkCounters
from quicpipe_lab.model.nat_certificate import Certificate
from quicpipe_lab.model.scenario import Outcome, Scenario
from quicpipe_lab.model.scenario_data import STEP_NAMES

START_WITHIN_S = 15.0
"""For each program to come up, on a machine that is busy with other things."""
END_WITHIN_S = 10.0
PROGRESS_INTERVAL_S = 0.1


class RunFailedError(Exception):
    """The scenario cannot go on; the text is the result's ``failure``. ``invariant``: the name of
    the one that was broken, if one was."""

    invariant: str | None = None


class Actor(Protocol):
    """One of a scenario's three programs, or what stands for it."""

    role: str

    @property
    def exit_status(self) -> int | None:
        """None while it runs."""
        ...

    def complaint(self) -> str:
        """What it said of its end to a person, in one line; empty where that was nothing."""
        ...


class Stage(Protocol):
    """What differs between backends. Times are on the run's clock: seconds since it began."""

    @property
    def now(self) -> float:
        """The run's clock."""
        ...

    def begin(self) -> None:
        """Start relay, accepter and dialer, with ``Script.until`` to wait for what they need."""
        ...

    def run_until(self, holds: Callable[[], bool], end_s: float) -> bool:
        """Let things happen until a condition holds, True, or until ``end_s``, False."""
        ...

    def alarm(self, delay_s: float, action: Callable[[], None]) -> None:
        """Call once, ``delay_s`` from now."""
        ...

    def cut(self, one: str, other: str) -> None:
        """Nothing passes between two nodes any more: see model.scenario.Cut."""
        ...

    def restore(self, one: str, other: str) -> None:
        """Undo ``cut``."""
        ...

    def reboot(self, node: str) -> float:
        """A NAT or firewall forgets all. Since when it was off."""
        ...

    def switch(self, node: str, to: str) -> None:
        """A host uses another of its links, that to the router ``to``."""
        ...

    def restart_relay(self) -> None:
        """Kill the relay and start it anew, without waiting until it is ready."""
        ...

    def attack(self, attack: model.Attack) -> None:
        """A stranger sends what is not his to send."""
        ...

    def feed(self, transfer: Transfer) -> None:
        """Give a transfer's bytes to the dialer from now on, as it takes them."""
        ...

    def end_input(self) -> None:
        """The dialer has got all that it will ever get."""
        ...

    def actor(self, role: str) -> Actor:
        """``relay``, ``accept`` or ``dial``, once it was started."""
        ...

    def stop_relay(self) -> None:
        """Ask the relay to end in good order."""
        ...

    def stop_actors(self) -> None:
        """Whatever still runs is ended at once; whatever was still said is heard."""
        ...


class Wait(NamedTuple):
    """What a story asks for: let things happen until ``holds``, or until ``end_s``."""

    holds: Callable[[], bool]
    end_s: float


Story = Generator[Wait, bool, None]
"""Goes on when it is told whether what it waited for has come to hold."""


def drive(story: Story, run_until: Callable[[Callable[[], bool], float], bool]) -> None:
    """Give a story all that it waits for. What is raised meanwhile is raised within it."""
    with suppress(StopIteration):
        wait = next(story)
        while True:
            try:
                met = run_until(*wait)
            except BaseException as error:
                wait = story.throw(error)
            else:
                wait = story.send(met)


class Script:
    """``story`` is the whole of a run, ``play`` one that goes through without a pause. Its failure,
    if any, is in the record afterwards."""

    def __init__(self, scenario: Scenario, journal: Journal, stage: Stage) -> None:
        self.scenario = scenario
        self.is_ending = False
        self._journal = journal
        self._record = journal.record
        self._stage = stage
        self._broken: str | None = None
        self._to_come: set[int] = set()
        self._progress_s = 0.0

    def play(self) -> None:
        """Raises nothing that a scenario can bring about."""
        drive(self.story(), self._stage.run_until)

    def story(self) -> Story:
        """Begin, walk the steps, end."""
        try:
            self._stage.begin()
            for index, one in enumerate(self.scenario.meanwhile):
                self._to_come.add(index)
                self._stage.alarm(one.at_s, partial(self._meddle, index, one))
            yield from self._wait(
                lambda: all(self._journal.last(peer, "connected") for peer in self._peers),
                self.scenario.connect_within_s + self.scenario.oob_delay_s,
                "the peers to connect through the relay",
            )
            for step in self.scenario.steps:
                yield from self._take_step(step)
            self.note("steps-done")
            self._note_missed()
            yield from self._end_actors()
        except (RunFailedError, EchoMismatchError) as error:
            self._record.failure, self._record.broken = str(error), error.invariant
            self.note("failed", problem=str(error))
        finally:
            self._stage.stop_actors()

    # For the stage

    def note(self, name: str, **data: Any) -> None:
        """An event of the lab itself, now."""
        self._journal.note(self._stage.now, name, **data)

    def until(self, holds: Callable[[], bool], within_s: float, what: str) -> None:
        """Let things happen until a condition holds. Raises RunFailedError."""
        drive(self._wait(holds, within_s, what), self._stage.run_until)

    def ready(self, node: str, role: str) -> Event:
        """Wait for a program to say that it is ready. Raises RunFailedError."""
        self.until(
            lambda: self._journal.last(node, "ready") is not None,
            START_WITHIN_S,
            f"the {role} to start",
        )
        event = self._journal.last(node, "ready")
        assert event is not None
        return event

    def ended_early(self, actor: Actor) -> None:
        """An actor has ended that was needed: whatever is waited for fails."""
        if self._broken is None:
            self._broken = f"the {actor.role} ended too early, {_ending(actor)}"

    def carry(self, packet: bytes, deliver: Callable[[bytes], None]) -> None:
        """The out-of-band channel, with its delay."""
        delay_s = self.scenario.oob_delay_s
        self.note("oob-sent", size_bytes=len(packet), delay_s=delay_s)

        def arrive() -> None:
            deliver(packet)
            self.note("oob-arrived")

        self._stage.alarm(delay_s, arrive)

    def take_echo(self, data: bytes) -> None:
        """The dialer has handed out what came back. Raises EchoMismatchError."""
        if not self._record.transfers:
            raise EchoMismatchError(f"{len(data)} bytes came before any were sent")
        transfer, now = self._record.transfers[-1], self._stage.now
        transfer.take(data, now)
        if transfer.is_complete or now - self._progress_s >= PROGRESS_INTERVAL_S:
            self._progress_s = now
            progress = {"echoed_bytes": transfer.echoed_bytes, "size_bytes": transfer.size_bytes}
            self._journal.observe(Event(now, self.scenario.dialer, "progress", progress))

    def judge(self, certify: Callable[[], Sequence[Certificate]]) -> None:
        """Nothing begins in a lab whose NATs are not what the scenario says. RunFailedError."""
        try:
            certificates = certify()
        except QuicpipeLabError as error:
            raise RunFailedError(str(error)) from None
        measured = [one for one in certificates if one.is_measured]
        self._record.certified = {one.name: one.summary() for one in measured}
        for one in certificates:
            if (difference := one.difference()) is not None:
                raise RunFailedError(difference)
            if (doubt := one.doubt()) is not None:
                self.note("uncertified", router=one.name, reason=doubt)
        if measured:
            self.note("certified", nats=[one.name for one in measured])

    def note_links(self, counters: Mapping[tuple[str, str], LinkCounters]) -> None:
        """What every link that behaves did with its packets."""
        for (source, target), one in counters.items():
            self.note("link-counters", between=[source, target], **asdict(one))

    # Waiting

    def _wait(self, holds: Callable[[], bool], within_s: float, what: str) -> Story:
        deadline_s = self.scenario.deadline_s
        end_s = min(self._stage.now + within_s, deadline_s)
        met = yield Wait(lambda: self._broken is not None or holds(), end_s)
        if self._broken is not None:
            raise RunFailedError(self._broken)
        if not met:
            limit = "the scenario's deadline" if end_s == deadline_s else f"{within_s:g} s"
            raise RunFailedError(f"waited in vain for {what} ({limit})")

    # The steps

    def _take_step(self, step: model.Step) -> Story:
        match step:
            case model.Transfer():
                self._begin_transfer(step.size_bytes)
                if step.wait:
                    yield from self._finish_transfer(self.scenario.deadline_s)
            case model.WaitFor():
                yield from self._wait_for(step)
            case model.Idle(seconds=seconds):
                yield from self._idle(seconds)
            case _:
                self._change(step)
                yield from self._relay_ready()

    def _meddle(self, index: int, one: model.Meanwhile) -> None:
        """Beside the steps. Programs that take their leave are left in peace."""
        if self.is_ending:
            return
        self._to_come.discard(index)
        self._change(one.step)
        if isinstance(one.step, model.Cut) and one.for_s is not None:
            self._stage.alarm(one.for_s, partial(self._change, model.Restore(one.step.between)))

    def _note_missed(self) -> None:
        """What was to be done beside the steps, and later than the last of them."""
        for index in sorted(self._to_come):
            one = self.scenario.meanwhile[index]
            self.note("missed", do=STEP_NAMES[type(one.step)], at_s=one.at_s)

    def _change(self, step: model.Step) -> None:
        """A step that takes no time."""
        match step:
            case model.Cut(between=(one, other)):
                self._stage.cut(one, other)
                self.note("cut", between=[one, other])
            case model.Restore(between=(one, other)):
                self._stage.restore(one, other)
                self.note("restored", between=[one, other])
            case model.Reboot(node=node):
                since_s = self._stage.reboot(node)
                self.note("rebooted", router=node, since_s=round(since_s, 6))
            case model.Switch(node=node, to=to):
                self._stage.switch(node, to)
                self.note("switched", host=node, to=to)
            case model.RestartRelay():
                self.note("relay-restarted")
                self._stage.restart_relay()
            case model.Attack():
                self.note("attacked", kind=str(step.kind))
                self._stage.attack(step)

    def _relay_ready(self) -> Story:
        """Where it was restarted, the new one has said so."""
        restarted = self._journal.last("lab", "relay-restarted")
        relay = self.scenario.relay

        def is_ready() -> bool:
            ready = self._journal.last(relay, "ready")
            return restarted is None or (ready is not None and ready.t_s >= restarted.t_s)

        yield from self._wait(is_ready, START_WITHIN_S, "the relay to start again")

    def _idle(self, seconds: float) -> Story:
        self.note("idle", seconds=seconds)
        end_s = min(self._stage.now + seconds, self.scenario.deadline_s)
        yield Wait(lambda: self._broken is not None, end_s)
        if self._broken is not None:
            raise RunFailedError(self._broken)
        if end_s == self.scenario.deadline_s:
            raise RunFailedError(f"idled in vain for {seconds:g} s (the scenario's deadline)")

    def _wait_for(self, step: model.WaitFor) -> Story:
        if step.transfer:
            yield from self._finish_transfer(step.within_s)
        elif step.echoed_bytes is not None:
            transfer, wanted = self._record.transfers[-1], step.echoed_bytes
            yield from self._wait(
                lambda: transfer.echoed_bytes >= wanted, step.within_s, f"{wanted} echoed bytes"
            )
        elif step.event is not None:
            name = step.event
            yield from self._wait(lambda: self._has_said(name), step.within_s, f"the event {name}")
        elif step.settled:
            yield from self._wait(
                lambda: self._all_direct(True) or self._has_given_up,
                step.within_s,
                "the punching to end",
            )
        elif step.path is not None:
            direct = step.path is Outcome.DIRECT
            yield from self._wait(
                lambda: self._all_direct(direct), step.within_s, model.in_use(step.path)
            )

    @property
    def _peers(self) -> tuple[str, str]:
        return self.scenario.dialer, self.scenario.accepter

    def _has_said(self, name: str) -> bool:
        return self._journal.last(self.scenario.dialer, name) is not None

    @property
    def _has_given_up(self) -> bool:
        failed = self._journal.last(self.scenario.dialer, "punch-failed")
        return failed is not None and not failed.data["searches_left"]

    def _all_direct(self, direct: bool) -> bool:
        return all(self._journal.is_direct(peer) == direct for peer in self._peers)

    def _begin_transfer(self, size_bytes: int) -> None:
        index = len(self._record.transfers)
        transfer = Transfer(size_bytes, f"{self.scenario.seed}/{index}", self._stage.now)
        self._record.transfers.append(transfer)
        self.note("transfer-started", index=index, size_bytes=size_bytes)
        self._stage.feed(transfer)

    def _finish_transfer(self, within_s: float) -> Story:
        transfer = self._record.transfers[-1]
        yield from self._wait(lambda: transfer.is_complete, within_s, "the transfer to complete")
        self.note(
            "transfer-complete",
            index=len(self._record.transfers) - 1,
            size_bytes=transfer.size_bytes,
            longest_gap_s=round(transfer.longest_gap_s, 6),
        )

    # Ending

    def _end_actors(self) -> Story:
        """The dialer's input ends: the stream ends both ways, and both programs with it."""
        self.is_ending = True
        self._stage.end_input()
        yield from self._end("dial")
        yield from self._end("accept")
        yield from self._relay_ready()
        self._stage.stop_relay()
        yield from self._end("relay")

    def _end(self, role: str) -> Story:
        actor = self._stage.actor(role)
        yield from self._wait(
            lambda: actor.exit_status is not None, END_WITHIN_S, f"the {role} to end"
        )
        if actor.exit_status != 0:
            raise RunFailedError(f"the {role} ended {_ending(actor)}")


def _ending(actor: Actor) -> str:
    status = actor.exit_status
    return "as it reports, and still runs" if status is None else ending(status, actor.complaint())
