"""Drives the relay machine on a real socket until a signal ends it: synchronous, one thread.

With poll(2) itself: for two descriptors, what ``selectors`` adds is a fifth of what it costs to
forward a lone datagram.
"""

import select
import signal
import socket
import time
from collections.abc import Callable
from types import FrameType

from quicpipe_lab.protocol.pacing import CLOSING_S
from quicpipe_lab.protocol.relay import Relay
from quicpipe_lab.protocol.relay_events import report
from quicpipe_lab.shell.event_log import EventLog
from quicpipe_lab.shell.relay_socket import RelayTransport


class RelayLoop:
    """``run`` returns after SIGTERM, SIGINT or ``stop``; every client has then been told."""

    def __init__(
        self, relay: Relay, opened: socket.socket, transport: RelayTransport, log: EventLog
    ) -> None:
        self._relay = relay
        self._socket = opened
        self._transport = transport
        self._log = log
        self._stopping = False
        self._timer_s: float | None = None

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
            for number in (signal.SIGTERM, signal.SIGINT)
        }
        before_fd = signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        try:
            with waker, wakes:
                poller = select.poll()
                poller.register(self._socket, select.POLLIN)
                poller.register(wakes, select.POLLIN)
                on_ready()
                while not self._stopping:
                    poller.poll(self._wait_ms())
                    self._turn()
            self._end()
        finally:
            signal.set_wakeup_fd(before_fd)
            for number, handler in before.items():
                signal.signal(number, handler)

    # Parts

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._stopping = True

    def _wait_ms(self) -> float | None:
        if self._timer_s is None:
            return None
        return max(0.0, (self._timer_s - time.monotonic()) * 1000)

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
        self._log.write("stopped", datagrams=self._relay.counted)
