"""Drives the relay machine on a real socket until a signal ends it: synchronous, one thread.

SIGUSR1 has it tell what has become of datagrams so far, SIGUSR2 switches the kernel's part off and
on again.

With poll(2) itself: for two descriptors, what ``selectors`` adds is a fifth of what it costs to
forward a lone datagram.
"""

import select
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

from quicpipe_lab.protocol.pacing import CLOSING_S
from quicpipe_lab.protocol.relay import Relay
from quicpipe_lab.protocol.relay_events import report
from quicpipe_lab.shell.event_log import EventLog
from quicpipe_lab.shell.relay_accelerator import RelayAccelerator
from quicpipe_lab.shell.relay_socket import RelayTransport
from quicpipe_lab.shell.relay_status import table

_MANY_SIGNALS = 4096
_ENDS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class RelayLoop:
    """``run`` returns after SIGTERM, SIGINT, SIGHUP or ``stop``, when every client was told."""

    def __init__(
        self,
        relay: Relay,
        opened: socket.socket,
        transport: RelayTransport,
        log: EventLog,
        *,
        accelerator: RelayAccelerator | None = None,
        show: Callable[[str], None] = lambda _: None,
    ) -> None:
        """``show``: what a person who asks by SIGUSR1 is told."""
        self._relay = relay
        self._socket = opened
        self._transport = transport
        self._log = log
        self._accelerator = accelerator
        self._show = show
        self._stopping = False
        self._asked: list[int] = []
        self._timer_s: float | None = None
        self._accounting_s: float | None = None

    def stop(self) -> None:
        """Make ``run`` return. Only from the loop's own thread or a signal handler."""
        self._stopping = True

    def run(self, on_ready: Callable[[], None]) -> None:
        """Serve. ``on_ready`` is called once signals lead to an orderly end."""
        waker, wakes = socket.socketpair()
        waker.setblocking(False)
        wakes.setblocking(False)
        before = {
            number: signal.signal(number, self._on_signal)
            for number in (*_ENDS, signal.SIGUSR1, signal.SIGUSR2)
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN  # nohup
        }
        before_fd = signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        try:
            with waker, wakes:
                poller = select.poll()
                poller.register(self._socket, select.POLLIN)
                poller.register(wakes, select.POLLIN)
                if self._accelerator is not None:
                    poller.register(self._accelerator, select.POLLIN)
                on_ready()
                while not self._stopping:
                    ready = poller.poll(self._wait_ms())
                    self._turn()
                    if self._accelerator is not None:
                        self._accelerate(self._accelerator, ready)
                    if self._asked:
                        self._answer(wakes)
            self._end()
        finally:
            signal.set_wakeup_fd(before_fd)
            for number, handler in before.items():
                signal.signal(number, handler)

    # Parts

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del frame
        if number in (signal.SIGUSR1, signal.SIGUSR2):
            self._asked.append(number)
        else:
            self._stopping = True

    def _wait_ms(self) -> float | None:
        due = [one for one in (self._timer_s, self._accounting_s) if one is not None]
        return max(0.0, (min(due) - time.monotonic()) * 1000) if due else None

    def _turn(self) -> None:
        """Whatever there is to do now."""
        relay = self._relay
        touched = self._transport.receive(relay, time.monotonic)
        if self._timer_s is not None and self._timer_s <= (now := time.monotonic()):
            relay.handle_timer(now)
            touched = True
        if touched:
            # Forwarding alone moves no timer, and asking for it is not free.
            self._flush(time.monotonic())
            self._timer_s = relay.get_timer()
            if self._accelerator is not None:
                self._accounting_s = self._accelerator.get_timer(time.monotonic())

    def _accelerate(self, accelerator: RelayAccelerator, ready: list[tuple[int, int]]) -> None:
        if any(number == accelerator.fileno() for number, _ in ready):
            accelerator.take_rejected()
        if self._accounting_s is not None and self._accounting_s <= (now := time.monotonic()):
            accelerator.handle_timer(self._relay, now)
            self._accounting_s = accelerator.get_timer(now)

    def _answer(self, wakes: socket.socket) -> None:
        """Whatever signals asked for."""
        with suppress(BlockingIOError):
            wakes.recv(_MANY_SIGNALS)
        while self._asked:
            number = self._asked.pop(0)
            if number == signal.SIGUSR2 and self._accelerator is not None:
                self._accelerator.switch()
            status = self._status()
            self._log.write("status", **status)
            self._show(table(status))

    def _status(self) -> dict[str, Any]:
        """What has become of datagrams, in userspace and in the kernel."""
        status: dict[str, Any] = {"datagrams": self._relay.counted}
        if self._accelerator is not None:
            status["xdp"] = self._accelerator.status()
        return status

    def _flush(self, now: float) -> None:
        datagrams = self._relay.datagrams_to_send(now)
        if datagrams:
            self._transport.send(datagrams)
        while (event := self._relay.next_event()) is not None:
            name, data = report(event)
            self._log.write(name, **data)

    def _end(self) -> None:
        self._relay.close()
        now = time.monotonic()
        self._flush(now)
        self._relay.handle_timer(now + CLOSING_S)
        self._flush(now)
        self._log.write("stopped", **self._status())
