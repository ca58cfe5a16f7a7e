"""The actors of a simulated scenario: what the three programs do, without processes.

Each is a machine of protocol/ with its driver, and reports to the journal in the programs' words.
"""

from collections.abc import Callable
from typing import Any

from quicpipe_lab.backends.journal import Journal
from quicpipe_lab.backends.sim.application import Application
from quicpipe_lab.backends.sim.clock import Clock
from quicpipe_lab.backends.sim.driver import Driver
from quicpipe_lab.model.event import Event, as_json, describe
from quicpipe_lab.protocol.accepter import Accepter
from quicpipe_lab.protocol.dialer import Dialer
from quicpipe_lab.protocol.events import (
    Closed,
    Connected,
    EndpointEvent,
    InitialReady,
    RelayRefused,
    RelayRegistered,
    StreamBroken,
    StreamData,
    StreamRefused,
)
from quicpipe_lab.protocol.pacing import CLOSE_LINGER_S, CLOSE_REPEATS, CLOSING_S, GAVE_UP
from quicpipe_lab.protocol.relay import Relay
from quicpipe_lab.protocol.relay_events import report

Ended = Callable[["SimActor"], None]


class SimActor:
    """What all three have. ``ended`` is called once, when ``exit_status`` is known."""

    def __init__(
        self, role: str, node: str, driver: Driver, clock: Clock, journal: Journal, ended: Ended
    ) -> None:
        self.role = role
        self.node = node
        self.exit_status: int | None = None
        self._driver = driver
        self._clock = clock
        self._journal = journal
        self._ended = ended
        self._complaint = ""

    def complaint(self) -> str:
        """See script.Actor."""
        return self._complaint

    def kill(self) -> None:
        """As SIGKILL would. Nothing, where it has ended."""
        self._driver.close()
        if self.exit_status is None:
            self.exit_status = -9

    def _log(self, name: str, data: dict[str, Any]) -> None:
        self._journal.take(Event(self._clock.now, self.node, name, as_json(data)))

    def _end(self, status: int) -> None:
        self._driver.close()
        if self.exit_status is None:
            self.exit_status = status
            self._ended(self)


class RelayActor(SimActor):
    """``quicpipe-lab relay``."""

    def __init__(self, machine: Relay, node: str, **shared: Any) -> None:
        super().__init__("relay", node, **shared)
        self.machine = machine
        self._driver.drive(machine, self._report)

    def stop(self) -> None:
        """As SIGTERM makes it: in good order."""
        self.machine.close()
        self._driver.turn()
        self.machine.handle_timer(self._clock.now + CLOSING_S)
        self._driver.turn()
        self._log("stopped", {"datagrams": self.machine.counted})
        self._end(0)

    def _report(self) -> bool:
        while (event := self.machine.next_event()) is not None:
            self._log(*report(event))
        return False


class PeerActor(SimActor):
    """``quicpipe-lab dial`` or ``accept``, from the moment in which it has its socket.

    ``packet``: what the accepter got out of band. ``initial_ready`` is called with what the dialer
    has for that channel.
    """

    def __init__(
        self,
        role: str,
        machine: Dialer | Accepter,
        application: Application,
        node: str,
        packet: bytes = b"",
        initial_ready: Callable[[bytes], None] = lambda _: None,
        **shared: Any,
    ) -> None:
        super().__init__(role, node, **shared)
        self.machine = machine
        self._application = application
        self._packet = packet
        self._initial_ready = initial_ready
        self._is_leaving = False
        self._driver.drive(machine, self._after_turn)

    def start(self) -> None:
        """Connect to the relay."""
        self.machine.start(self._clock.now)
        self._driver.turn()

    def nudge(self) -> None:
        """There is something new for the application to do."""
        moved = self._application.move()
        if self._leave_where_over() or moved:
            self._driver.turn()

    # Parts

    def _after_turn(self) -> bool:
        moved = False
        while (event := self.machine.next_event()) is not None:
            self._take(event)
            if isinstance(event, RelayRegistered) and isinstance(self.machine, Accepter):
                moved = self._accept(self.machine)
        if self._is_leaving:
            return False
        moved = self._application.move() or moved
        return self._leave_where_over() or moved

    def _accept(self, machine: Accepter) -> bool:
        """Once, when the relay forwards to us."""
        packet, self._packet = self._packet, b""
        if packet:
            machine.accept(packet, self._clock.now)
        return bool(packet)

    def _take(self, event: EndpointEvent) -> None:
        application = self._application
        match event:
            case StreamData():
                application.take(event.stream_id, event.data, event.ended)
                return
            case Connected():
                application.connected()
            case StreamBroken():
                application.broken(event.stream_id, event.error_code)
            case StreamRefused():
                application.refused(event.stream_id, event.error_code)
            case Closed():
                application.closed(event)
            case RelayRefused() if self.machine.registered is None:
                application.problem = event.describe()
        name, data = describe(event)
        self._journal.take(Event(self._clock.now, self.node, name, data))
        if isinstance(event, InitialReady):
            self._initial_ready(event.packet)

    def _leave_where_over(self) -> bool:
        """Say goodbye, once, where nothing is left to do; whether it was now."""
        problem = self._application.problem
        if self._is_leaving or (problem is None and not self._application.is_over):
            return False
        self._is_leaving = True
        self._log("statistics", self.machine.statistics)
        if problem is None:
            self.machine.close()
        else:
            # The other side must not take what it has for the whole.
            self._complaint = problem
            self.machine.close(GAVE_UP, "the other side gave up")
        for number in range(1, CLOSE_REPEATS + 1):
            self._clock.after(number * CLOSE_LINGER_S / CLOSE_REPEATS, self._repeat_close)
        self._clock.after(CLOSE_LINGER_S, self._end, 0 if problem is None else 1)
        return True

    def _repeat_close(self) -> None:
        if self.exit_status is None:
            self.machine.repeat_close()
            self._driver.turn()
