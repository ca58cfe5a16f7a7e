"""Drives one machine on one simulated socket: what shell/udp.py does, in virtual time."""

from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from quicpipe_lab.backends.sim.clock import Clock, Scheduled
from quicpipe_lab.backends.sim.network import SimHost
from quicpipe_lab.model.address import TransportAddress

TICK_S = 1e-6
"""Timers fire so much late: float rounding in loss detection otherwise re-arms one instant."""
WAKE_UP_S = 50e-6
"""From a datagram's arrival until its program runs, as on an idle machine. What arrives meanwhile
is taken together."""


class Machine(Protocol):
    """aioquic's calls, less events: those are for whoever owns the machine."""

    def receive_datagram(self, data: bytes, source: TransportAddress, now: float, /) -> None: ...
    def datagrams_to_send(self, now: float, /) -> list[tuple[bytes, TransportAddress]]: ...
    def get_timer(self) -> float | None: ...
    def handle_timer(self, now: float, /) -> None: ...


class Driver:
    """A socket from construction until ``close``, and from ``drive`` on its machine."""

    def __init__(
        self, clock: Clock, host: SimHost, port: int = 0, address: str | None = None
    ) -> None:
        self._clock = clock
        self._socket = host.bind(port, address, on_receive=self._receive)
        self._machine: Machine | None = None
        self._after_turn: Callable[[], bool] = lambda: False
        self._inbox: list[tuple[bytes, TransportAddress]] = []
        self._waking: Scheduled | None = None
        self._alarm: Scheduled | None = None
        self._is_closed = False

    @property
    def port(self) -> int:
        """Of its socket."""
        return self._socket.address.port

    def drive(self, machine: Machine, after_turn: Callable[[], bool]) -> None:
        """``after_turn`` takes the machine's events and does what follows from them; it says
        whether the machine has something to send again."""
        self._machine = machine
        self._after_turn = after_turn

    def turn(self) -> None:
        """Let the machine send and set its timer; call it after every call of the machine."""
        machine = self._driven
        while not self._is_closed:
            for data, to in machine.datagrams_to_send(self._clock.now):
                with suppress(OSError):  # no route: the network loses datagrams, and so may we
                    self._socket.send(data, to)
            if not self._after_turn():
                break
        if not self._is_closed:
            self._set_alarm()

    def close(self) -> None:
        """Stop driving and close the socket; twice is fine."""
        self._is_closed = True
        for one in (self._waking, self._alarm):
            if one is not None:
                one.cancel()
        self._socket.close()

    @property
    def _driven(self) -> Machine:
        assert self._machine is not None
        return self._machine

    def _receive(self, data: bytes, source: TransportAddress) -> None:
        self._inbox.append((data, source))
        if self._waking is None:
            self._waking = self._clock.at(self._clock.now + WAKE_UP_S, self._take)

    def _take(self) -> None:
        self._waking = None
        machine = self._driven
        inbox, self._inbox = self._inbox, []
        for data, source in inbox:
            machine.receive_datagram(data, source, self._clock.now)
        self.turn()

    def _set_alarm(self) -> None:
        """An alarm that goes off too early is set anew then: most timers are put off again and
        again, and never fire."""
        timer = self._driven.get_timer()
        alarm = self._alarm
        if timer is None:
            return
        at_s = max(timer, self._clock.now) + TICK_S
        if alarm is not None:
            if alarm.time_s <= at_s:
                return
            alarm.cancel()
        self._alarm = self._clock.at(at_s, self._alarmed)

    def _alarmed(self) -> None:
        self._alarm = None
        timer = self._driven.get_timer()
        if timer is not None and timer <= self._clock.now:
            self._driven.handle_timer(self._clock.now)
            self.turn()
        else:
            self._set_alarm()
