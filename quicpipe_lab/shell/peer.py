"""``dial`` and ``accept`` for asyncio programs: an endpoint machine on a socket, with streams.

async with dial(config) as peer:
    initial = await peer.event(InitialReady)
    ...                                   # carry initial.packet to the accepter, out of band
    await peer.event(Connected)
    stream = peer.open_stream()
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from quicpipe_lab.errors import QuicpipeLabError, RemoteProtocolError
from quicpipe_lab.protocol.accepter import Accepter, AccepterConfig
from quicpipe_lab.protocol.dialer import Dialer, DialerConfig
from quicpipe_lab.protocol.endpoint import Endpoint
from quicpipe_lab.protocol.events import (
    Closed,
    EndpointEvent,
    RelayRefused,
    StreamBroken,
    StreamData,
    StreamRefused,
)
from quicpipe_lab.protocol.pacing import (
    CLOSE_LINGER_S,
    CLOSE_REPEATS,
    GAVE_UP,
    HIGH_WATER_BYTES,
    READ_AHEAD_BYTES,
)
from quicpipe_lab.shell.udp import UdpDriver

E = TypeVar("E", bound=EndpointEvent)


class PeerStream:
    """A bidirectional stream. Reading and writing both pace themselves: who does not ``read`` is
    sent no more than a window, and ``drain`` waits while too much is under way."""

    def __init__(self, peer: "Peer", stream_id: int) -> None:
        self.peer = peer
        self.stream_id = stream_id
        self._reader = asyncio.StreamReader(READ_AHEAD_BYTES)
        # asyncio asks its transport to pause while the reader is full, and later to resume.
        self._reader.set_transport(_StreamTransport(self))
        self._room = asyncio.Event()
        self._ended = False
        self._broken: str | None = None
        self._refused: str | None = None

    async def read(self, max_bytes: int = 65536) -> bytes:
        """What has come, b"" at the stream's end. Raises RemoteProtocolError where it broke off
        before its end."""
        data = await self._reader.read(max_bytes)
        if not data and self._broken is not None:
            raise RemoteProtocolError(self._broken)
        return data

    def write(self, data: bytes) -> None:
        """Queue bytes. Raises RemoteProtocolError where the peer wants no more of them."""
        self._send(data, False)

    def write_eof(self) -> None:
        """No more bytes will follow."""
        self._send(b"", True)

    async def drain(self) -> None:
        """Wait until less than HIGH_WATER_BYTES are on their way."""
        while self.unacknowledged_bytes >= HIGH_WATER_BYTES:
            self.peer.raise_if_closed()
            await self.moved()

    async def acknowledged(self) -> None:
        """Wait until the peer has everything, or is gone because it had."""
        while self.unacknowledged_bytes and self.peer.closed is None:
            await self.moved()

    async def moved(self) -> None:
        """Wait until the machine has taken another turn."""
        self._room.clear()
        await self._room.wait()

    @property
    def unacknowledged_bytes(self) -> int:
        """Bytes written and not acknowledged yet; the stream's end counts as one."""
        return self.peer.machine.unacknowledged_bytes(self.stream_id)

    # For the Peer

    @property
    def is_over(self) -> bool:
        """Whether neither side has anything more to say on it."""
        return self._ended and self.peer.machine.is_finished(self.stream_id)

    def wake(self) -> None:
        """Something moved: whoever drains may look again."""
        self._room.set()

    def feed(self, data: bytes, ended: bool) -> None:
        """The peer sent something."""
        if data:
            self._reader.feed_data(data)
        if ended:
            self._ended = True
            self._reader.feed_eof()

    def break_off(self, problem: str | None) -> None:
        """Nothing more will come, unless the end has come before; ``problem``: why, or None where
        that counts as the end."""
        if not self._ended:
            self._broken = problem
            self.feed(b"", True)

    def refuse(self, problem: str) -> None:
        """The peer takes nothing more."""
        self._refused = problem

    def _send(self, data: bytes, end: bool) -> None:
        if self._refused is not None:
            raise RemoteProtocolError(self._refused)
        self.peer.machine.send_stream_data(self.stream_id, data, end)
        self.peer.turn_soon()


class _StreamTransport(asyncio.ReadTransport):
    """What a StreamReader knows of the stream that it is fed from."""

    def __init__(self, stream: PeerStream) -> None:
        super().__init__()
        self._stream = stream

    def pause_reading(self) -> None:
        self._stream.peer.machine.pause_stream(self._stream.stream_id)

    def resume_reading(self) -> None:
        self._stream.peer.machine.resume_stream(self._stream.stream_id)
        self._stream.peer.turn_soon()


class Peer:
    """One endpoint on one socket. ``observe`` is called with every event as it happens."""

    def __init__(
        self,
        machine: Endpoint,
        sock: socket.socket,
        observe: Callable[[EndpointEvent], None] = lambda _: None,
    ) -> None:
        self.machine = machine
        self.closed: Closed | None = None
        self.refused: RelayRefused | None = None
        self._observe = observe
        self._seen: dict[type[Any], EndpointEvent] = {}
        self._waiters: list[tuple[type[Any], asyncio.Future[EndpointEvent]]] = []
        self._streams: dict[int, PeerStream] = {}
        self._incoming: asyncio.Queue[PeerStream] = asyncio.Queue()
        self._over = asyncio.Event()
        self._turn_due = False
        self._driver = UdpDriver(machine, sock, self._dispatch)

    @property
    def now(self) -> float:
        """The machine's clock."""
        return self._driver.now

    def start(self) -> None:
        """Connect to the relay."""
        self.machine.start(self.now)
        self._driver.turn()

    def open_stream(self) -> PeerStream:
        """A new stream to the peer."""
        return self._add_stream(self.machine.open_stream())

    async def accept_stream(self) -> PeerStream:
        """The next bidirectional stream that the peer opened."""
        getter = asyncio.ensure_future(self._incoming.get())
        closed = asyncio.ensure_future(self.event(Closed))
        done, pending = await asyncio.wait((getter, closed), return_when="FIRST_COMPLETED")
        for task in pending:
            task.cancel()
        if getter in done:
            return getter.result()
        raise RemoteProtocolError(closed.result().describe())

    async def event(self, kind: type[E]) -> E:
        """The first event of a kind since the start, waited for if need be.

        Raises RemoteProtocolError where the relay refuses or the peer closes first.
        """
        seen = self._seen.get(kind)
        if isinstance(seen, kind):
            return seen
        return await self.next_event(kind)

    async def next_event(self, kind: type[E]) -> E:
        """The next event of a kind from now on; otherwise as event()."""
        self.raise_if_closed()
        future: asyncio.Future[EndpointEvent] = asyncio.get_running_loop().create_future()
        self._waiters.append((kind, future))
        event = await future
        assert isinstance(event, kind)
        return event

    async def wait_closed(self) -> Closed:
        """Wait for the connection's end, whatever it is like."""
        await self._over.wait()
        assert self.closed is not None
        return self.closed

    def raise_if_closed(self) -> None:
        """RemoteProtocolError with the reason, where the connection is over."""
        if self.refused is not None and self.machine.registered is None:
            raise RemoteProtocolError(self.refused.describe())
        if self.closed is not None:
            raise RemoteProtocolError(self.closed.describe())

    def turn_soon(self) -> None:
        """Let the machine send once the caller has done all it does now: fewer, fuller packets."""
        if not self._turn_due:
            self._turn_due = True
            asyncio.get_running_loop().call_soon(self._turn)

    async def close(self, error_code: int = 0, reason: str = "") -> None:
        """Say goodbye to peer and relay, and close the socket."""
        self.machine.close(error_code, reason)
        self._driver.turn()
        try:
            for _ in range(CLOSE_REPEATS):
                await asyncio.sleep(CLOSE_LINGER_S / CLOSE_REPEATS)
                self.machine.repeat_close()
                self._driver.turn()
        finally:
            self._driver.close()

    def _turn(self) -> None:
        self._turn_due = False
        self._driver.turn()

    def _add_stream(self, stream_id: int) -> PeerStream:
        stream = self._streams[stream_id] = PeerStream(self, stream_id)
        return stream

    def _dispatch(self) -> None:
        while (event := self.machine.next_event()) is not None:
            match event:
                case StreamData():
                    self._stream_data(event)
                    continue
                case StreamBroken(stream_id, code) if stream_id in self._streams:
                    problem = f"the peer gave the stream up (error {code:#x})"
                    self._streams[stream_id].break_off(problem)
                case StreamRefused(stream_id, code) if stream_id in self._streams:
                    problem = f"the peer wants no more of the stream (error {code:#x})"
                    self._streams[stream_id].refuse(problem)
                case Closed():
                    self.closed = event
                    self._over.set()
                    for stream in self._streams.values():
                        # Some end the connection where they might have ended the stream.
                        stream.break_off(event.describe() if event.error_code else None)
                case RelayRefused():
                    self.refused = event
            self._seen.setdefault(type(event), event)
            self._observe(event)
            self._wake(event)
        for stream in list(self._streams.values()):
            stream.wake()
            if stream.is_over:
                del self._streams[stream.stream_id]

    def _stream_data(self, event: StreamData) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is None:
            if event.stream_id & 2:
                return  # unidirectional (RFC 9000, 2.1): there is nobody here for it
            stream = self._add_stream(event.stream_id)
            self._incoming.put_nowait(stream)
        stream.feed(event.data, event.ended)

    def _wake(self, event: EndpointEvent) -> None:
        failed = isinstance(event, Closed) or (
            isinstance(event, RelayRefused) and self.machine.registered is None
        )
        waiting, self._waiters = self._waiters, []
        for kind, future in waiting:
            if future.done():
                continue
            if isinstance(event, kind):
                future.set_result(event)
            elif failed:
                try:
                    self.raise_if_closed()
                except QuicpipeLabError as error:
                    future.set_exception(error)
            else:
                self._waiters.append((kind, future))


@asynccontextmanager
async def dial(
    config: DialerConfig,
    sock: socket.socket,
    observe: Callable[[EndpointEvent], None] = lambda _: None,
) -> AsyncIterator[Peer]:
    """Open a connection to an accepter. The packet for it comes as InitialReady."""
    async with _running(Peer(Dialer(config), sock, observe)) as peer:
        yield peer


@asynccontextmanager
async def accept(
    config: AccepterConfig,
    sock: socket.socket,
    observe: Callable[[EndpointEvent], None] = lambda _: None,
) -> AsyncIterator[Peer]:
    """Be ready for a dialer; give its packet to ``peer.machine.accept(packet, peer.now)``."""
    async with _running(Peer(Accepter(config), sock, observe)) as peer:
        yield peer


@asynccontextmanager
async def _running(peer: Peer) -> AsyncIterator[Peer]:
    peer.start()
    try:
        yield peer
    except BaseException:
        # The other side must not take what it has for the whole.
        await peer.close(GAVE_UP, "the other side gave up")
        raise
    await peer.close()
