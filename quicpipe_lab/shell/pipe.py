"""Joins file descriptors to a stream, in the manner of netcat."""

import asyncio
import os
import select
import stat
from contextlib import suppress

from quicpipe_lab.errors import QuicpipeLabError
from quicpipe_lab.protocol.pacing import CHUNK_BYTES
from quicpipe_lab.shell.peer import PeerStream


async def copy_in(descriptor: int, stream: PeerStream) -> None:
    """Everything that can be read from ``descriptor``, then the stream's end. Raises
    QuicpipeLabError where it cannot be read."""
    while data := await _read(descriptor):
        stream.write(data)
        await stream.drain()
    stream.write_eof()


async def copy_out(stream: PeerStream, descriptor: int) -> None:
    """Everything that the peer sends, until its end. Raises BrokenPipeError where nobody reads it
    any more, and QuicpipeLabError where it cannot be written."""
    while data := await stream.read(CHUNK_BYTES):
        await _write(descriptor, data)


async def echo(stream: PeerStream) -> None:
    """Send back what comes, until its end."""
    while data := await stream.read(CHUNK_BYTES):
        stream.write(data)
        await stream.drain()
    stream.write_eof()


async def join(stream: PeerStream, read_from: int, write_to: int) -> None:
    """Both directions, until both have ended, one has failed, or the peer is gone."""
    sending = asyncio.ensure_future(copy_in(read_from, stream))
    receiving = asyncio.ensure_future(copy_out(stream, write_to))
    gone = asyncio.ensure_future(stream.peer.wait_closed())
    try:
        running = {sending, receiving, gone}
        while sending in running or receiving in running:
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            if gone in done:
                # Nobody is left to send to, but what has come is still to be written.
                running.discard(sending)
    finally:
        for task in (sending, receiving, gone):
            task.cancel()
        await asyncio.gather(sending, receiving, gone, return_exceptions=True)


async def _read(descriptor: int) -> bytes:
    while True:
        if _can_be_watched(descriptor):
            await _ready(descriptor, write=False)
        try:
            return os.read(descriptor, CHUNK_BYTES)
        except BlockingIOError:
            continue  # somebody else shares the descriptor, and was faster
        except OSError as error:
            raise QuicpipeLabError(f"cannot read the input: {error.strerror}") from None


async def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    watched = _can_be_watched(descriptor)
    while view:
        if watched:
            await _ready(descriptor, write=True)
        # The descriptor may be shared and blocking; but when poll says writable, a pipe has room
        # for at least PIPE_BUF bytes, and so much never blocks.
        try:
            view = view[os.write(descriptor, view[: select.PIPE_BUF if watched else None]) :]
        except BlockingIOError:
            continue
        except BrokenPipeError:
            raise
        except OSError as error:
            raise QuicpipeLabError(f"cannot write the output: {error.strerror}") from None


def _can_be_watched(descriptor: int) -> bool:
    """Regular files are always ready, and epoll refuses them."""
    mode = os.fstat(descriptor).st_mode
    return not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)) and not _is_null(descriptor, mode)


def _is_null(descriptor: int, mode: int) -> bool:
    return stat.S_ISCHR(mode) and not os.isatty(descriptor)


async def _ready(descriptor: int, *, write: bool) -> None:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    add, remove = (
        (loop.add_writer, loop.remove_writer) if write else (loop.add_reader, loop.remove_reader)
    )

    def ready() -> None:
        if not future.done():
            future.set_result(None)

    add(descriptor, ready)
    try:
        await future
    finally:
        with suppress(OSError):
            remove(descriptor)
