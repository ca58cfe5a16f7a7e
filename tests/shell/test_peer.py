"""dial and accept as an asyncio program uses them, over loopback and a relay's process."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from quicpipe_lab.errors import LocalProtocolError, RemoteProtocolError
from quicpipe_lab.model.address import TransportAddress, split_host_port
from quicpipe_lab.protocol.accepter import AccepterConfig
from quicpipe_lab.protocol.dialer import Dialer, DialerConfig
from quicpipe_lab.protocol.events import Connected, InitialReady, RelayRegistered
from quicpipe_lab.protocol.relay_leg import RelayTrust
from quicpipe_lab.shell import peer_program
from quicpipe_lab.shell.certificates import identity
from quicpipe_lab.shell.peer import Peer, PeerStream, accept, dial
from quicpipe_lab.shell.udp import open_socket, resolve
from tests.shell.test_peer_program import DEADLINE_S, Programs

CERTIFICATE, PRIVATE_KEY = identity(None, "test", ephemeral=True)
LOOPBACK = TransportAddress("127.0.0.1", 0)


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[str]:
    programs = Programs(tmp_path)
    _, address, _ = programs.relay("--ephemeral")
    yield address
    programs.end()


@asynccontextmanager
async def couple(relay: str, *, alpn: str = "x") -> AsyncIterator[tuple[Peer, Peer]]:
    """A dialer and an accepter, connected."""
    shared = {
        "relay": resolve(relay),
        "relay_authority": relay,
        "relay_trust": RelayTrust(insecure=True),
        "random": os.urandom,
        "alpn": alpn,
    }
    accepting = AccepterConfig(**shared, certificate=CERTIFICATE, private_key=PRIVATE_KEY)  # type: ignore[arg-type]
    async with (
        asyncio.timeout(DEADLINE_S),
        dial(DialerConfig(**shared), open_socket(LOOPBACK)) as alice,  # type: ignore[arg-type]
        accept(accepting, open_socket(LOOPBACK)) as bob,
    ):
        await bob.event(RelayRegistered)
        packet = (await alice.event(InitialReady)).packet
        bob.machine.accept(packet, bob.now)  # type: ignore[attr-defined]
        bob.turn_soon()
        await asyncio.gather(alice.event(Connected), bob.event(Connected))
        yield alice, bob


async def echo(stream: PeerStream) -> None:
    while data := await stream.read():
        stream.write(data)
        await stream.drain()
    stream.write_eof()
    await stream.acknowledged()


async def exchange(stream: PeerStream, payload: bytes) -> bytes:
    async def send() -> None:
        stream.write(payload)
        stream.write_eof()

    async def receive() -> bytes:
        return b"".join([data async for data in reading(stream)])

    _, echoed = await asyncio.gather(send(), receive())
    await stream.acknowledged()
    return echoed


async def reading(stream: PeerStream) -> AsyncIterator[bytes]:
    while data := await stream.read():
        yield data


def test_streams_are_many_at_once_and_forgotten_afterwards(relay: str) -> None:
    async def main() -> None:
        async with couple(relay) as (alice, bob):
            for _ in range(3):
                streams = [alice.open_stream() for _ in range(5)]
                assert len({one.stream_id for one in streams}) == 5
                payloads = [os.urandom(100_000) for _ in streams]
                exchanges = [
                    asyncio.ensure_future(exchange(one, payload))
                    for one, payload in zip(streams, payloads, strict=True)
                ]
                echoes = [asyncio.ensure_future(echo(await bob.accept_stream())) for _ in streams]
                assert await asyncio.gather(*exchanges) == payloads
                await asyncio.gather(*echoes)
            probe = alice.open_stream()
            probe.write(b"!")
            await (await bob.accept_stream()).read()
            await probe.acknowledged()
            assert len(alice._streams) <= 2
            assert len(bob._streams) <= 2

    asyncio.run(main())


def test_a_slow_reader_loses_nothing(relay: str) -> None:
    """More than a window and the reader's own buffer hold, on a stream that waits."""

    async def main() -> None:
        async with couple(relay) as (alice, bob):
            payload = os.urandom(8_000_000)
            slow = alice.open_stream()
            sending = asyncio.ensure_future(exchange(slow, payload))
            there = await bob.accept_stream()
            while alice.machine.unacknowledged_bytes(slow.stream_id) > len(payload) - 1_500_000:
                await slow.moved()
            echoing = asyncio.ensure_future(echo(there))
            assert await sending == payload
            await echoing

    asyncio.run(main())


def test_a_unidirectional_stream_is_nobodys(relay: str) -> None:
    async def main() -> None:
        async with couple(relay) as (alice, bob):
            alice.machine.send_stream_data(2, b"one way")
            alice.turn_soon()
            stream = alice.open_stream()
            stream.write(b"both ways")
            assert (await bob.accept_stream()).stream_id == stream.stream_id

    asyncio.run(main())


def test_a_stream_that_breaks_off_raises_after_what_has_come(relay: str) -> None:
    async def main() -> None:
        async with couple(relay) as (alice, bob):
            stream = alice.open_stream()
            stream.write(b"the beginning")
            there = await bob.accept_stream()
            assert await there.read() == b"the beginning"
            assert alice.machine._peer is not None
            alice.machine._peer.reset_stream(stream.stream_id, 7)
            alice.turn_soon()
            with pytest.raises(RemoteProtocolError, match="gave the stream up"):
                await there.read()

    asyncio.run(main())


def test_a_refused_stream_stops_its_writer(relay: str) -> None:
    async def main() -> None:
        async with couple(relay) as (alice, bob):
            stream = alice.open_stream()
            stream.write(bytes(3_000_000))
            there = await bob.accept_stream()
            assert bob.machine._peer is not None
            bob.machine._peer.stop_stream(there.stream_id, 7)
            bob.turn_soon()
            await stream.drain()  # what is refused is waited for no more
            with pytest.raises(RemoteProtocolError, match="no more of the stream"):
                stream.write(b"more")

    asyncio.run(main())


def test_a_callbacks_mistake_ends_the_program(relay: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """asyncio would log it, and the program wait for ever."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError("a mistake")

    monkeypatch.setattr(Dialer, "receive_datagram", broken)
    options = peer_program.PeerOptions(relay=relay, insecure=True)
    with pytest.raises(ZeroDivisionError):
        peer_program.run_dial(options)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("relay.example:443", ("relay.example", 443)),
        ("relay.example", ("relay.example", 4433)),
        ("192.0.2.1:1", ("192.0.2.1", 1)),
        ("[2001:db8::1]:5", ("2001:db8::1", 5)),
        ("[2001:db8::1]", ("2001:db8::1", 4433)),
        ("2001:db8::1", ("2001:db8::1", 4433)),
        ("::1", ("::1", 4433)),
    ],
)
def test_host_and_port(text: str, expected: tuple[str, int]) -> None:
    assert split_host_port(text, 4433) == expected


@pytest.mark.parametrize(
    "text",
    ["", ":", ":1", "a:", "a:b", "a:-1", "a:65536", "[]:1", "[::1", "a:1:2", "a: 1", "a:\u0661"],
)
def test_what_is_no_host_and_port(text: str) -> None:
    with pytest.raises(Exception, match="HOST:PORT"):
        split_host_port(text, 4433)


def test_nobody_writes_before_there_is_a_peer(relay: str) -> None:
    async def main() -> None:
        accepting = AccepterConfig(
            relay=resolve(relay),
            relay_authority=relay,
            relay_trust=RelayTrust(insecure=True),
            random=os.urandom,
        )
        async with accept(accepting, open_socket(LOOPBACK)) as bob:
            with pytest.raises(LocalProtocolError):
                bob.open_stream()

    asyncio.run(main())
