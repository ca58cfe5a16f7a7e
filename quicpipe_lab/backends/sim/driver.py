"""Drives one machine on one simulated socket: what shell/udp.py does, in virtual time."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Protocol

from quicpipe_lab.backends.sim.clock import Clock, Scheduled
from quicpipe_lab.backends.sim.network import SimHost
from quicpipe_lab.backends.sim.udp_socket import UdpSocket
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.protocol.endpoint import Endpoint
from quicpipe_lab.protocol.machine import Machine

TICK_S = 1e-6
"""Timers fire so much late: float rounding in loss detection otherwise re-arms one instant."""
WAKE_UP_S = 50e-6
"""From a datagram's arrival until its program runs, as on an idle machine. What arrives meanwhile
is taken together."""


class Watch(Protocol):
    """Who looks at when a node's machine is called."""

    def woken(self, node: str, since_s: float, now: float) -> None:
        """It will be, for the first time since ``since_s``."""

    def fired(self, node: str, now: float) -> None:
        """It was, for its timer went off."""


class Driver:
    """A socket from construction until ``close``, and from ``drive`` on its machine."""

    def __init__(
        self,
        clock: Clock,
        host: SimHost,
        port: int = 0,
        address: str | None = None,
        *,
        watch: Watch | None = None,
    ) -> None:
        self._watch = watch
        self._called_s = clock.now
        self._clock = clock
        self._host = host
        self._socket = self._bind(0, port, address)
        self._extra: dict[int, UdpSocket] = {}
        self._machine: Machine | None = None
        self._after_turn: Callable[[], bool] = lambda: False
        self._inbox: list[tuple[int, bytes, TransportAddress]] = []
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
        self._called_s = self._clock.now
        while not self._is_closed:
            for data, to in machine.datagrams_to_send(self._clock.now):
                with suppress(OSError):  # no route: the network loses datagrams, and so may we
                    self._socket.send(data, to)
            if isinstance(machine, Endpoint):
                self._turn_extra(machine)
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
        for sock in (self._socket, *self._extra.values()):
            sock.close()

    @property
    def _driven(self) -> Machine:
        assert self._machine is not None
        return self._machine

    def _turn_extra(self, machine: Endpoint) -> None:
        """A port search's sockets; see protocol/endpoint.py."""
        wanted = machine.extra_sockets
        for via in sorted(self._extra.keys() - wanted):
            self._extra.pop(via).close()
        for via in sorted(wanted - self._extra.keys()):
            with suppress(OSError):  # no port is free
                self._extra[via] = self._bind(via)
        for via, data, to in machine.extra_datagrams_to_send():
            if via in self._extra:
                with suppress(OSError):
                    self._extra[via].send(data, to)

    def _bind(self, via: int, port: int = 0, address: str | None = None) -> UdpSocket:
        """On a network without IPv4 a program goes through its NAT64, as on a real one."""
        return self._host.bind(
            port,
            address,
            on_receive=partial(self._receive, via),
            through_nat64=address is None and not self._host.has_ipv4,
        )

    def _receive(self, via: int, data: bytes, source: TransportAddress) -> None:
        self._inbox.append((via, data, source))
        if self._waking is None:
            self._waking = self._clock.at(self._clock.now + WAKE_UP_S, self._take)

    def _take(self) -> None:
        self._waking = None
        machine = self._driven
        if self._watch is not None:
            self._watch.woken(self._host.name, self._called_s, self._clock.now)
        inbox, self._inbox = self._inbox, []
        for via, data, source in inbox:
            if via and isinstance(machine, Endpoint):
                machine.receive_datagram(data, source, self._clock.now, via)
            else:
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
            if self._watch is not None:
                self._watch.woken(self._host.name, self._called_s, self._clock.now)
            self._driven.handle_timer(self._clock.now)
            self.turn()
            if self._watch is not None:
                self._watch.fired(self._host.name, self._clock.now)
        else:
            self._set_alarm()
