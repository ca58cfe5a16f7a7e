"""The relay's mailbox: one short message from whoever knows a name to whoever else does.

A second way for the dialer's first datagram to reach the accepter. Clients derive the name from a
secret and encrypt the message; the relay only keeps it, once, for a short time.
"""

import re
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from quicpipe_lab.protocol.relay_limits import RelayLimits
from quicpipe_lab.protocol.wire import RequestError

MAILBOX_PATH = "/v1/mailbox/"
"""The name follows: 16 to 64 URL-safe characters."""

_NAME = re.compile(r"[A-Za-z0-9_-]{16,64}")


@dataclass(frozen=True, slots=True)
class _Message:
    body: bytes
    expires_s: float


Waiter = TypeVar("Waiter", bound=Hashable)


@dataclass(frozen=True, eq=False)
class _Waiting(Generic[Waiter]):
    name: str
    who: Waiter
    expires_s: float


def mailbox_name(path: str) -> str:
    """The name in a path that begins with MAILBOX_PATH. Raises RequestError with 400."""
    name = path.removeprefix(MAILBOX_PATH)
    if not _NAME.fullmatch(name):
        raise RequestError(400, "a mailbox's name is 16 to 64 URL-safe characters")
    return name


class Mailbox(Generic[Waiter]):
    """The machine. Whoever waits is any hashable value; it comes back when its answer is due."""

    def __init__(self, limits: RelayLimits) -> None:
        self._limits = limits
        self._messages: dict[str, _Message] = {}
        # Both queues are in order of time, as every message and every wait lasts equally long.
        self._keeping: deque[tuple[float, str]] = deque()
        self._waiting: deque[_Waiting[Waiter]] = deque()
        self._by_name: dict[str, list[_Waiting[Waiter]]] = {}
        self._by_who: dict[Waiter, _Waiting[Waiter]] = {}

    def put(self, name: str, body: bytes, now: float) -> Waiter | None:
        """Leave a message; answers who was waiting and gets it at once, or None.

        The first writer wins (409). Of several who wait the last one gets it: the others may be
        the remains of a client that was killed and started again.
        """
        if len(body) > self._limits.mailbox_message_bytes:
            raise RequestError(413, f"over {self._limits.mailbox_message_bytes} bytes")
        if not body:
            raise RequestError(400, "the message is empty")
        self._drop_expired(now)
        if name in self._messages:
            raise RequestError(409, "a message is there already")
        if name in self._by_name:
            waiting = self._by_name[name][-1]
            self.forget(waiting.who)
            return waiting.who
        if len(self._messages) >= self._limits.mailbox_messages:
            raise RequestError(503, "the mailbox is full")
        expires_s = now + self._limits.mailbox_keep_s
        self._messages[name] = _Message(body, expires_s)
        self._keeping.append((expires_s, name))
        return None

    def take(self, name: str, who: Waiter, now: float) -> bytes | None:
        """The message, which is then gone; None where ``who`` now waits for it."""
        self._drop_expired(now)
        message = self._messages.pop(name, None)
        if message is not None:
            return message.body
        if len(self._by_who) >= self._limits.mailbox_waiters:
            raise RequestError(503, "too many are waiting")
        waiting = _Waiting(name, who, now + self._limits.mailbox_wait_s)
        self._waiting.append(waiting)
        self._by_name.setdefault(name, []).append(waiting)
        self._by_who[who] = waiting
        return None

    def forget(self, who: Waiter) -> None:
        """``who`` waits no longer."""
        waiting = self._by_who.pop(who, None)
        if waiting is not None:
            others = self._by_name[waiting.name]
            others.remove(waiting)
            if not others:
                del self._by_name[waiting.name]

    def get_timer(self) -> float | None:
        """When the next wait is over. Messages need no timer: who looks finds them expired."""
        while self._waiting and not self._is_current(self._waiting[0]):
            self._waiting.popleft()
        return self._waiting[0].expires_s if self._waiting else None

    def handle_timer(self, now: float) -> list[Waiter]:
        """Those who have waited in vain."""
        self._drop_expired(now)
        vain: list[Waiter] = []
        while (due := self.get_timer()) is not None and due <= now:
            waiting = self._waiting.popleft()
            self.forget(waiting.who)
            vain.append(waiting.who)
        return vain

    def _drop_expired(self, now: float) -> None:
        """Drop messages that nobody has fetched in time."""
        while self._keeping and self._keeping[0][0] <= now:
            expires_s, name = self._keeping.popleft()
            message = self._messages.get(name)
            if message is not None and message.expires_s == expires_s:
                del self._messages[name]

    def _is_current(self, waiting: _Waiting[Waiter]) -> bool:
        return self._by_who.get(waiting.who) is waiting
