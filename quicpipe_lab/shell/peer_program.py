"""The programs ``quicpipe-lab dial`` and ``quicpipe-lab accept``."""

import asyncio
import os
import signal
import ssl
import sys
from collections.abc import Callable, Coroutine
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.logger import QuicLogger

from quicpipe_lab.errors import QuicpipeLabError, RemoteProtocolError
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.protocol.accepter import AccepterConfig
from quicpipe_lab.protocol.dialer import DialerConfig
from quicpipe_lab.protocol.endpoint import ALPN
from quicpipe_lab.protocol.events import (
    Connected,
    EndpointEvent,
    InitialReady,
    MailboxAnswered,
    RelayRegistered,
)
from quicpipe_lab.protocol.quic import standard_configuration
from quicpipe_lab.protocol.relay_leg import RelayTrust, Request, standard_request
from quicpipe_lab.protocol.wire import Envelope
from quicpipe_lab.shell import oob, pipe
from quicpipe_lab.shell.certificates import fingerprint, identity
from quicpipe_lab.shell.event_log import EventLog
from quicpipe_lab.shell.peer import Peer, PeerStream, accept, dial
from quicpipe_lab.shell.trace_files import keylog_file, qlog_file
from quicpipe_lab.shell.udp import local_address_towards, open_socket, resolve

HELLO_INTERVAL_S = 1.0
FILE_POLL_S = 0.05


@dataclass(frozen=True)
class PeerOptions:
    """What both programs take; the field names are those of the options."""

    relay: str | None = None
    relay_fingerprint: str | None = None
    relay_ca: Path | None = None
    relay_insecure: bool = False
    token: str | None = None
    bind: str = "0.0.0.0:0"
    oob: str = "-"
    pipe: bool = False
    alpn: str = ALPN
    direct: bool = True
    direct_after: int = 0
    idle_timeout: float = 60.0
    node: str = ""
    events: str | None = None
    qlog: Path | None = None
    keylog: Path | None = None
    # dial
    peer_fingerprint: str | None = None
    insecure: bool = False
    server_name: str | None = None
    # accept
    certificate_dir: Path | None = None
    ephemeral: bool = False
    echo: bool = False


PIN_HINT = "; pin its certificate with --relay-fingerprint HEX, or say --relay-insecure"


def run_dial(options: PeerOptions) -> int:
    """The dialer. Exit status 0 after an orderly end, 1 where the connection failed."""
    if options.peer_fingerprint is None and not options.insecure:
        raise QuicpipeLabError(
            "whom to trust? give --peer-fingerprint HEX (the accepter prints it), or --insecure"
        )
    return _run(_dial(options), options)


def run_accept(options: PeerOptions) -> int:
    """The accepter. Exit status as run_dial's."""
    return _run(_accept(options), options)


def _run(program: Coroutine[Any, Any, None], options: PeerOptions) -> int:
    """Run to the end, or until SIGINT or SIGTERM, with an orderly close in each case."""

    async def until_signal() -> int:
        task = asyncio.ensure_future(program)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, task.cancel)
        try:
            await task
        except asyncio.CancelledError:
            return 130
        except RemoteProtocolError as error:
            unpinned = options.relay_fingerprint is None and "TLS with the relay" in str(error)
            print(f"quicpipe-lab: {error}{PIN_HINT if unpinned else ''}", file=sys.stderr)
            return 1
        return 0

    return asyncio.run(until_signal())


async def _dial(options: PeerOptions) -> None:
    channel = oob.Channel.parse(options.oob)
    with ExitStack() as stack:
        relay = _relay_address(options.relay, None)
        run = _Run(options, relay, stack)
        config = DialerConfig(
            **run.shared,
            peer_fingerprint=_hex(options.peer_fingerprint),
            server_name=options.server_name,
        )
        async with dial(config, run.sock, run.observe) as peer:
            try:
                packet = (await peer.event(InitialReady)).packet
                envelope = Envelope(packet, run.shared["relay_authority"])
                await _publish(channel, envelope, peer, options)
                await peer.event(Connected)
                stream = peer.open_stream()
                if options.pipe:
                    await _join(stream, lambda: pipe.copy_in(0, stream), 1)
                else:
                    await _say_hello(stream)
            finally:
                run.log_statistics(peer)


async def _accept(options: PeerOptions) -> None:
    channel = oob.Channel.parse(options.oob)
    certificate, private_key = identity(options.certificate_dir, "accepter", options.ephemeral)
    with ExitStack() as stack:
        print(f"fingerprint: {fingerprint(certificate)}", file=sys.stderr, flush=True)
        log = stack.enter_context(EventLog(options.events, options.node))
        log.write("ready", fingerprint=fingerprint(certificate))
        envelope = None
        if channel.kind != "mailbox":
            envelope = await _read_local(channel)
        relay = _relay_address(options.relay, envelope)
        run = _Run(options, relay, stack, log)
        config = AccepterConfig(**run.shared, certificate=certificate, private_key=private_key)
        async with accept(config, run.sock, run.observe) as peer:
            try:
                await peer.event(RelayRegistered)
                envelope = envelope or await _fetch(channel, peer, options)
                peer.machine.accept(envelope.packet, peer.now)  # type: ignore[attr-defined]
                peer.turn_soon()
                await peer.event(Connected)
                stream = await peer.accept_stream()
                if options.echo:
                    await pipe.echo(stream)
                    await _acknowledged(stream, peer)
                elif options.pipe:
                    await _join(stream, lambda: pipe.copy_in(0, stream), 1)
                else:
                    await pipe.copy_out(stream, 1)
            finally:
                run.log_statistics(peer)


class _Run:
    """What both programs set up the same way."""

    def __init__(
        self,
        options: PeerOptions,
        relay: tuple[TransportAddress, str],
        stack: ExitStack,
        log: EventLog | None = None,
    ) -> None:
        address, authority = relay
        bind = resolve(options.bind)
        if ":" in address.host and bind == ("0.0.0.0", bind.port):
            bind = TransportAddress("::", bind.port)
        self.sock = stack.enter_context(open_socket(bind))
        port = self.sock.getsockname()[1]
        self.log = log or stack.enter_context(EventLog(options.events, options.node))
        keylog = stack.enter_context(keylog_file(options.keylog))
        qlog = stack.enter_context(qlog_file(options.qlog, options.node or "peer"))
        trust = RelayTrust(
            fingerprint=_hex(options.relay_fingerprint),
            insecure=options.relay_insecure or options.insecure,
        )
        self.shared: dict[str, Any] = {
            "relay": address,
            "relay_authority": authority,
            "relay_trust": trust,
            "relay_quic": _relay_configuration(options, trust, authority, qlog, keylog),
            "random": os.urandom,
            "host_addresses": [local_address_towards(address, port)],
            "alpn": options.alpn,
            "direct": options.direct,
            "direct_after_bytes": options.direct_after,
            "idle_timeout_s": options.idle_timeout,
            "qlog": qlog,
            "keylog": keylog,
            "request_hook": lambda registration: standard_request(registration, options.token),
        }

    def observe(self, event: EndpointEvent) -> None:
        """Into the event log."""
        self.log.record(event)

    def log_statistics(self, peer: Peer) -> None:
        """The last event: bytes by path and the round trip of the path in use."""
        machine = peer.machine
        self.log.write(
            "statistics",
            bytes=machine.bytes,
            direct=machine.is_direct,
            rtt_s=machine.peer_rtt_s,
        )


async def _join(
    stream: PeerStream, send: Callable[[], Coroutine[Any, Any, None]], out: int
) -> None:
    """Both directions, until both have ended."""
    with suppress(BrokenPipeError):
        await asyncio.gather(send(), pipe.copy_out(stream, out))
    await _acknowledged(stream, stream.peer)


async def _acknowledged(stream: PeerStream, peer: Peer) -> None:
    """Wait until the peer has everything, or is gone because it had."""
    while stream.unacknowledged_bytes and peer.closed is None:
        await stream.moved()


async def _say_hello(stream: PeerStream) -> None:
    """As the original's example does."""
    stream.write(b"initial hello\n")
    while True:
        stream.write(b"hello\n")
        stream.peer.raise_if_closed()
        await asyncio.sleep(HELLO_INTERVAL_S)


# Out of band


async def _publish(
    channel: oob.Channel, envelope: Envelope, peer: Peer, options: PeerOptions
) -> None:
    match channel.kind:
        case "stdio":
            # With --pipe standard output belongs to the stream.
            print(envelope.dumps(), file=sys.stderr if options.pipe else sys.stdout, flush=True)
        case "file":
            await asyncio.to_thread(oob.write_file, Path(channel.name), envelope)
        case "qr":
            oob.print_qr(envelope)
        case "mailbox":
            mailbox = oob.Mailbox(channel.name)
            answer = await _ask_relay(peer, "PUT", mailbox.path, mailbox.seal(envelope), options)
            if answer.status not in (200, 201, 204):
                raise RemoteProtocolError(
                    f"the relay's mailbox refused: {answer.status} "
                    f"{answer.body.decode('utf-8', 'replace').strip()}"
                )


async def _read_local(channel: oob.Channel) -> Envelope:
    if channel.kind == "file":
        path = Path(channel.name)
        while not path.exists():  # whichever of the peers is started first
            await asyncio.sleep(FILE_POLL_S)
        return await asyncio.to_thread(oob.read_file, path)
    # A scanned QR code is typed, pasted or piped in: the same line on standard input.
    return await asyncio.to_thread(oob.read_descriptor, 0)


async def _fetch(channel: oob.Channel, peer: Peer, options: PeerOptions) -> Envelope:
    mailbox = oob.Mailbox(channel.name)
    while True:
        answer = await _ask_relay(peer, "GET", mailbox.path, b"", options)
        if answer.status == 200:
            return mailbox.open(answer.body)
        if answer.status != 404:
            raise RemoteProtocolError(f"the relay's mailbox refused: {answer.status}")


async def _ask_relay(
    peer: Peer, method: str, path: str, body: bytes, options: PeerOptions
) -> MailboxAnswered:
    headers = () if options.token is None else (("authorization", f"Bearer {options.token}"),)
    peer.machine.relay.request(Request(method, path, headers, body))
    peer.turn_soon()
    return await peer.next_event(MailboxAnswered)


# Settings


def _relay_address(option: str | None, envelope: Envelope | None) -> tuple[TransportAddress, str]:
    """The relay's numeric address, and its name for HTTP."""
    text = option or os.environ.get("QHOST") or (envelope and envelope.relay)
    if not text:
        raise QuicpipeLabError("which relay? give --relay HOST:PORT, or set QHOST")
    return resolve(text, default_port=443), text


def _relay_configuration(
    options: PeerOptions,
    trust: RelayTrust,
    authority: str,
    qlog: QuicLogger | None,
    keylog: TextIO | None,
) -> QuicConfiguration:
    configuration = standard_configuration(
        is_client=True, alpn=[], idle_timeout_s=45.0, qlog=qlog, keylog=keylog
    )
    host = authority.rpartition(":")[0].strip("[]") or authority
    configuration.server_name = host
    if trust.fingerprint is None and not trust.insecure:
        configuration.verify_mode = ssl.CERT_REQUIRED
        if options.relay_ca is not None:
            configuration.cafile = str(options.relay_ca)
    return configuration


def _hex(fingerprint_text: str | None) -> str | None:
    if fingerprint_text is None:
        return None
    text = fingerprint_text.replace(":", "").lower()
    if len(text) != 64 or set(text) - set("0123456789abcdef"):
        raise QuicpipeLabError("a fingerprint is SHA-256 in hex: 64 digits")
    return text
