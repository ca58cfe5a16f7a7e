"""What probers need beside sockets: time, company and chance. The real ones, or others.

A simulator gives its own (backends/sim/prober.py), and the same prober runs in virtual time.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

from quicpipe_lab.errors import QuicpipeLabError
from quicpipe_lab.shell.stun import new_transaction

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class DatagramSocket(Protocol):
    """What is used of a UDP socket, with the socket module's meaning and errors."""

    def sendto(self, data: bytes, address: Any, /) -> int: ...
    def recvfrom(self, size_bytes: int, /) -> tuple[bytes, Any]: ...
    def settimeout(self, seconds: float | None, /) -> None: ...
    def getsockname(self) -> Any: ...
    def close(self) -> None: ...


MakeSocket = Callable[[int], DatagramSocket]
"""A UDP socket bound to a port (0: any) where the questions are to come from. Raises
CannotBindError."""


class CannotBindError(QuicpipeLabError):
    """Most often: another socket has the port."""


class Task(Protocol[T_co]):
    """What was submitted, and what comes of it."""

    def result(self) -> T_co: ...


class Pool(Protocol):
    """Does several things at a time, or one after the other."""

    def submit(self, act: Callable[..., T], /, *arguments: Any) -> Task[T]: ...


class Signal(Protocol):
    """As threading.Event."""

    def set(self) -> None: ...
    def wait(self, seconds: float, /) -> bool: ...


class Means(Protocol):
    """``pool``: for so many at a time. ``transaction``: that nobody can guess."""

    def now_s(self) -> float: ...
    def sleep(self, seconds: float, /) -> None: ...
    def pool(self, most: int, /) -> AbstractContextManager[Pool]: ...
    def signal(self) -> Signal: ...
    def transaction(self) -> bytes: ...


class RealMeans:
    """The machine's clock and threads."""

    def now_s(self) -> float:
        """CLOCK_MONOTONIC."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Do nothing for so long."""
        time.sleep(seconds)

    def pool(self, most: int) -> ThreadPoolExecutor:
        """Threads."""
        return ThreadPoolExecutor(most)

    def signal(self) -> threading.Event:
        """Between threads."""
        return threading.Event()

    def transaction(self) -> bytes:
        """From the kernel."""
        return new_transaction()


REAL = RealMeans()
