"""Worker processes for simulations: they end at once when nobody wants their work any more.

That is for their parent alone to say, by closing a pipe or by ending: Ctrl-C and signals to the
whole group are held back from their first instruction on, for Python shows a traceback of whatever
it is importing when it is interrupted.
"""

import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from types import FrameType, TracebackType
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_HELD = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Simulators(ProcessPoolExecutor):
    """For so many simulations: as many as cores, unless ``jobs`` says otherwise.

    Left by an exception, as a context manager, it does not wait for work that has begun.
    """

    def __init__(self, jobs: int | None, tasks: int) -> None:
        # No forks, for whoever calls us may have threads; no forkserver, which leaves its folder in
        # /tmp where it is killed.
        context = get_context("spawn")
        self._is_wanted, ours = context.Pipe(duplex=False)
        self._end_of_work = ours
        with signals_held():  # also of multiprocessing's own process, which unlinks semaphores
            super().__init__(
                min(jobs or os.cpu_count() or 1, max(1, tasks)),
                mp_context=context,
                initializer=_be_a_worker,
                initargs=(self._is_wanted,),
            )

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Which starts a worker, where there may be one more."""
        with signals_held(), _main_unseen():
            return super().submit(fn, *args, **kwargs)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._end_of_work.close()
        self.shutdown(wait=True, cancel_futures=True)
        self._end_of_work.close()
        self._is_wanted.close()


@contextmanager
def signals_held() -> Iterator[None]:
    """They come after the block: processes that it starts inherit the mask, and none is left
    half-started. A thread without the mask may take them, so that handlers wait as well."""
    came: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        came.append(number)

    handlers: dict[int, Any] = {}
    mask = _block(_HELD)
    try:
        if threading.current_thread() is threading.main_thread():
            for number in _HELD:
                if callable(handler := signal.getsignal(number)):
                    handlers[number] = handler
                    signal.signal(number, note)
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number in came:
            signal.raise_signal(number)


@contextmanager
def _main_unseen() -> Iterator[None]:
    """A process that starts within the block does not import the caller's main module. It needs
    nothing of it, and of a script that does not ask for its ``__name__`` it would begin all anew.
    """
    main: dict[str, Any] = vars(sys.modules["__main__"])
    seen: dict[str, Any] = {name: main[name] for name in ("__spec__", "__file__") if name in main}
    main["__spec__"] = None
    main.pop("__file__", None)
    try:
        yield
    finally:
        main.update(seen)


def _block(signals: list[Any]) -> set[Any] | None:
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        return None
    return signal.pthread_sigmask(signal.SIG_BLOCK, signals)


def _be_a_worker(is_wanted: Connection) -> None:
    """End with what works are for: the parent, or its wish.

    What is imported stays, and need not be looked at again by each search for cycles.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def follow() -> None:
        parent = parent_process()
        wait([is_wanted] if parent is None else [is_wanted, parent.sentinel])
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    from quicpipe_lab.backends.sim import backend

    del backend
    gc.freeze()
