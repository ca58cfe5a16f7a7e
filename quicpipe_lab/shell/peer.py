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
from quicpipe_lab.protocol.events import Closed, EndpointEvent, RelayRefused, StreamData
from quicpipe_lab.shell.udp import UdpDriver

E = TypeVar("E", bound=EndpointEvent)

HIGH_WATER_BYTES = 1024 * 1024
"""A stream's writer waits in ``drain`` while so much is not acknowledged."""
CLOSE_LINGER_S = 0.05
"""How long an endpoint stays after its CONNECTION_CLOSE, to repeat it if the first was lost."""


class PeerStream:
    """A bidirectional stream. ``reader`` is asyncio's own; writing paces itself by ``drain``."""

    def __init__(self, peer: "Peer", stream_id: int) -> None:
        self.peer = peer
        self.stream_id = stream_id
        self.reader = asyncio.StreamReader()
        self._room = asyncio.Event()

    def write(self, data: bytes) -> None:
        """Queue bytes."""
        self.peer.machine.send_stream_data(self.stream_id, data)
        self.peer.turn_soon()

    def write_eof(self) -> None:
        """No more bytes will follow."""
        self.peer.machine.send_stream_data(self.stream_id, b"", end_stream=True)
        self.peer.turn_soon()

    async def drain(self) -> None:
        """Wait until less than HIGH_WATER_BYTES are on their way."""
        while self.unacknowledged_bytes >= HIGH_WATER_BYTES:
            self.peer.raise_if_closed()
            await self.moved()

    async def moved(self) -> None:
        """Wait until the machine has taken another turn."""
        self._room.clear()
        await self._room.wait()

    @property
    def unacknowledged_bytes(self) -> int:
        """Bytes written and not acknowledged yet."""
        return self.peer.machine.unacknowledged_bytes(self.stream_id)

    def wake(self) -> None:
        """Something moved: whoever drains may look again."""
        self._room.set()


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
        self._seen: list[EndpointEvent] = []
        self._waiters: list[tuple[type[Any], asyncio.Future[EndpointEvent]]] = []
        self._streams: dict[int, PeerStream] = {}
        self._incoming: asyncio.Queue[PeerStream] = asyncio.Queue()
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
        """The next stream that the peer opened."""
        getter = asyncio.ensure_future(self._incoming.get())
        closed = asyncio.ensure_future(self.event(Closed))
        done, pending = await asyncio.wait((getter, closed), return_when="FIRST_COMPLETED")
        for task in pending:
            task.cancel()
        if getter in done:
            return getter.result()
        raise RemoteProtocolError(describe(closed.result()))

    async def event(self, kind: type[E]) -> E:
        """The first event of a kind since the start, waited for if need be.

        Raises RemoteProtocolError where the relay refuses or the peer closes first.
        """
        for event in self._seen:
            if isinstance(event, kind):
                return event
        return await self.next_event(kind)

    async def next_event(self, kind: type[E]) -> E:
        """The next event of a kind from now on; otherwise as event()."""
        self.raise_if_closed()
        future: asyncio.Future[EndpointEvent] = asyncio.get_running_loop().create_future()
        self._waiters.append((kind, future))
        event = await future
        assert isinstance(event, kind)
        return event

    def raise_if_closed(self) -> None:
        """RemoteProtocolError with the reason, where the connection is over."""
        if self.refused is not None and self.machine.registered is None:
            raise RemoteProtocolError(f"the relay refused: {self.refused.problem}")
        if self.closed is not None:
            raise RemoteProtocolError(describe(self.closed))

    def turn_soon(self) -> None:
        """Let the machine send once the caller has done all it does now: fewer, fuller packets."""
        if not self._turn_due:
            self._turn_due = True
            asyncio.get_running_loop().call_soon(self._turn)

    async def close(self, error_code: int = 0, reason: str = "") -> None:
        """Say goodbye to peer and relay, and close the socket."""
        self.machine.close(error_code, reason)
        self._driver.turn()
        await asyncio.sleep(CLOSE_LINGER_S)
        self._driver.close()

    def _turn(self) -> None:
        self._turn_due = False
        self._driver.turn()

    def _add_stream(self, stream_id: int) -> PeerStream:
        stream = self._streams[stream_id] = PeerStream(self, stream_id)
        return stream

    def _dispatch(self) -> None:
        while (event := self.machine.next_event()) is not None:
            if isinstance(event, StreamData):
                self._stream_data(event)
                continue
            if isinstance(event, Closed):
                self.closed = event
                for stream in self._streams.values():
                    stream.reader.feed_eof()
            elif isinstance(event, RelayRefused):
                self.refused = event
            self._seen.append(event)
            self._observe(event)
            self._wake(event)
        for stream in self._streams.values():
            stream.wake()

    def _stream_data(self, event: StreamData) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is None:
            stream = self._add_stream(event.stream_id)
            self._incoming.put_nowait(stream)
        if event.data:
            stream.reader.feed_data(event.data)
        if event.ended:
            stream.reader.feed_eof()

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


def describe(closed: Closed) -> str:
    """One line for a person."""
    reason = closed.reason or f"error {closed.error_code:#x}"
    return f"the connection with the peer ended: {reason}"


@asynccontextmanager
async def dial(
    config: DialerConfig,
    sock: socket.socket,
    observe: Callable[[EndpointEvent], None] = lambda _: None,
) -> AsyncIterator[Peer]:
    """Open a connection to an accepter. The packet for it comes as InitialReady."""
    peer = Peer(Dialer(config), sock, observe)
    peer.start()
    try:
        yield peer
    finally:
        await peer.close()


@asynccontextmanager
async def accept(
    config: AccepterConfig,
    sock: socket.socket,
    observe: Callable[[EndpointEvent], None] = lambda _: None,
) -> AsyncIterator[Peer]:
    """Be ready for a dialer; give its packet to ``peer.machine.accept(packet, peer.now)``."""
    peer = Peer(Accepter(config), sock, observe)
    peer.start()
    try:
        yield peer
    finally:
        await peer.close()
