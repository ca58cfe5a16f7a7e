"""The programs ``quicpipe-lab dial`` and ``quicpipe-lab accept``."""

import asyncio
import os
import re
import signal
import ssl
import sys
import threading
from collections.abc import Callable, Coroutine
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from socket import AF_INET6
from typing import Any, ParamSpec, TextIO, TypeVar, cast

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.logger import QuicLogger

from quicpipe_lab.errors import QuicpipeLabError, RemoteProtocolError
from quicpipe_lab.model.address import TransportAddress, split_host_port
from quicpipe_lab.protocol.accepter import AccepterConfig
from quicpipe_lab.protocol.dialer import DialerConfig
from quicpipe_lab.protocol.endpoint_config import ALPN
from quicpipe_lab.protocol.events import (
    Connected,
    EndpointEvent,
    InitialReady,
    MailboxAnswered,
    RelayLost,
    RelayRegistered,
)
from quicpipe_lab.protocol.port_search import SearchLimits
from quicpipe_lab.protocol.relay_leg import (
    RelayTrust,
    Request,
    relay_configuration,
    standard_request,
)
from quicpipe_lab.protocol.wire import Envelope, is_bearer_token
from quicpipe_lab.shell import oob, pipe
from quicpipe_lab.shell.certificates import fingerprint, identity
from quicpipe_lab.shell.event_log import EventLog
from quicpipe_lab.shell.nat64 import open_towards
from quicpipe_lab.shell.peer import Peer, PeerStream, accept, dial
from quicpipe_lab.shell.trace_files import keylog_file, qlog_file
from quicpipe_lab.shell.udp import family_of, resolve

P = ParamSpec("P")
T = TypeVar("T")

HELLO_INTERVAL_S = 1.0
FILE_POLL_S = 0.05
MAILBOX_INTERVAL_S = 1.0
PATIENCE_S = 3.0
"""So long a relay may be silent before a person is told."""


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
    search: bool = False
    search_rate: float = 200.0
    idle_timeout: float = 60.0
    connect_timeout: float = 30.0
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
    """The dialer. Exit status 0 after an orderly end, 1 where the connection failed, 128 and the
    signal's number where one ended it."""
    if options.peer_fingerprint is None and not options.insecure:
        raise QuicpipeLabError(
            "whom to trust? give --peer-fingerprint HEX (the accepter prints it), or --insecure"
        )
    return _run(_dial, options)


def run_accept(options: PeerOptions) -> int:
    """The accepter. Exit status as run_dial's."""
    return _run(_accept, options)


Program = Callable[[PeerOptions, EventLog], Coroutine[Any, Any, None]]


def _run(program: Program, options: PeerOptions) -> int:
    """Run to the end, or until a signal, with an orderly close in each case."""
    _check(options)
    # Opened before the loop runs: a FIFO may block, and Ctrl-C must still work.
    with EventLog(options.events, options.node) as log:
        return asyncio.run(_until_signal(program(options, log), options))


async def _until_signal(program: Coroutine[Any, Any, None], options: PeerOptions) -> int:
    task = asyncio.ensure_future(program)
    loop = asyncio.get_running_loop()
    signals: list[int] = []
    failures: list[BaseException] = []

    def caught(number: int) -> None:
        signals.append(number)
        task.cancel()

    def failed(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        # A callback's own mistake would otherwise go unseen, and the program wait for ever.
        failures.append(context.get("exception") or RuntimeError(context["message"]))
        task.cancel()

    loop.set_exception_handler(failed)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            loop.add_signal_handler(number, caught, number)
    try:
        await task
    except asyncio.CancelledError:
        if failures:
            raise failures[0] from None
        return 128 + signals[0]
    except RemoteProtocolError as error:
        unpinned = options.relay_fingerprint is None and "TLS with the relay" in str(error)
        print(f"quicpipe-lab: {error}{PIN_HINT if unpinned else ''}", file=sys.stderr)
        return 1
    return 0


def _check(options: PeerOptions) -> None:
    """Raises QuicpipeLabError on what TLS, HTTP or a file name could not express."""
    rules = {
        "--idle-timeout": (1 <= options.idle_timeout <= 86400, "is 1 to 86400 seconds"),
        "--connect-timeout": (0 < options.connect_timeout <= 86400, "is above 0, to 86400 seconds"),
        "--direct-after": (options.direct_after >= 0, "is 0 or more bytes"),
        "--search-rate": (1 <= options.search_rate <= 1000, "is 1 to 1000 datagrams a second"),
        "--alpn": (_is_ascii(options.alpn, 255), "is 1 to 255 ASCII characters"),
        "--server-name": (_is_ascii(options.server_name, 253), "is an ASCII host name"),
        "--token": (
            options.token is None or is_bearer_token(options.token),
            "is ASCII without spaces",
        ),
        "--node": (not set(options.node) & set("/\0"), "names a file of --qlog: no slashes"),
    }
    for name, (holds, rule) in rules.items():
        if not holds:
            raise QuicpipeLabError(f"{name} {rule}")


def _is_ascii(text: str | None, longest: int) -> bool:
    return text is None or bool(re.fullmatch(rf"[!-~]{{1,{longest}}}", text))


async def _dial(options: PeerOptions, log: EventLog) -> None:
    channel = oob.Channel.parse(options.oob)
    with ExitStack() as stack:
        run = _Run(options, None, stack, log)
        config = DialerConfig(
            **run.shared,
            peer_fingerprint=_hex(options.peer_fingerprint),
            server_name=options.server_name,
        )
        async with dial(config, run.sock, run.observe) as peer:
            try:
                await _registered(peer, options)
                packet = (await peer.event(InitialReady)).packet
                envelope = Envelope(packet, run.shared["relay_authority"])
                await _publish(channel, envelope, peer, options)
                await peer.event(Connected)
                stream = peer.open_stream()
                if options.pipe:
                    await pipe.join(stream, 0, 1)
                    await stream.acknowledged()
                else:
                    await _say_hello(stream)
            finally:
                run.log_statistics(peer)


async def _accept(options: PeerOptions, log: EventLog) -> None:
    channel = oob.Channel.parse(options.oob)
    certificate, private_key = identity(options.certificate_dir, "accepter", options.ephemeral)
    with ExitStack() as stack:
        print(f"fingerprint: {fingerprint(certificate)}", file=sys.stderr, flush=True)
        log.write("ready", fingerprint=fingerprint(certificate))
        envelope = None
        if channel.kind != "mailbox":
            try:
                envelope = await _read_local(channel)
            except RemoteProtocolError as error:
                raise QuicpipeLabError(str(error)) from None  # whoever typed it is not a peer
        run = _Run(options, envelope, stack, log)
        config = AccepterConfig(**run.shared, certificate=certificate, private_key=private_key)
        async with accept(config, run.sock, run.observe) as peer:
            try:
                await _registered(peer, options)
                envelope = envelope or await _fetch(channel, peer, options)
                peer.machine.accept(envelope.packet, peer.now)  # type: ignore[attr-defined]
                peer.turn_soon()
                await peer.event(Connected)
                stream = await peer.accept_stream()
                if options.echo:
                    await pipe.echo(stream)
                elif options.pipe:
                    await pipe.join(stream, 0, 1)
                else:
                    await pipe.copy_out(stream, 1)
                    stream.write_eof()
                await stream.acknowledged()
            finally:
                run.log_statistics(peer)


class _Run:
    """What both programs set up the same way."""

    def __init__(
        self,
        options: PeerOptions,
        envelope: Envelope | None,
        stack: ExitStack,
        log: EventLog,
    ) -> None:
        address, bind, authority = _addresses(options, envelope)
        address, sock, host_addresses = open_towards(address, bind)
        self.sock = stack.enter_context(sock)
        self.log = log
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
            "host_addresses": host_addresses,
            "alpn": options.alpn,
            "direct": options.direct,
            "direct_after_bytes": options.direct_after,
            "search": SearchLimits(probes_per_s=options.search_rate) if options.search else None,
            "idle_timeout_s": options.idle_timeout,
            "qlog": qlog,
            "keylog": keylog,
            "request_hook": lambda registration: standard_request(registration, options.token),
        }

    def observe(self, event: EndpointEvent) -> None:
        """Into the event log; and a person must know why nothing happens."""
        self.log.record(event)
        if isinstance(event, RelayLost):
            _tell(
                f"no connection with the relay: {event.problem};"
                f" trying again in {event.retry_s:g} s"
            )

    def log_statistics(self, peer: Peer) -> None:
        """The last event."""
        self.log.write("statistics", **peer.machine.statistics)


async def _registered(peer: Peer, options: PeerOptions) -> None:
    """Wait for the relay to know us. Raises RemoteProtocolError where it does not answer in time;
    later on it may be away for as long as it likes."""
    relay, limit_s = peer.machine.config.relay, options.connect_timeout
    hint = f"no answer from the relay at {relay} yet, still trying"
    telling = asyncio.get_running_loop().call_later(PATIENCE_S, _tell, hint)
    try:
        async with asyncio.timeout(limit_s):
            await peer.event(RelayRegistered)
    except TimeoutError:
        raise RemoteProtocolError(
            f"no answer from the relay at {relay} in {limit_s:g} s (--connect-timeout);"
            " is it running, and is UDP let through to it?"
        ) from None
    finally:
        telling.cancel()


def _tell(text: str) -> None:
    print(f"quicpipe-lab: {text}", file=sys.stderr, flush=True)


async def _say_hello(stream: PeerStream) -> None:
    """As the original's example does. A signal is its orderly end."""
    try:
        stream.write(b"initial hello\n")
        while True:
            stream.write(b"hello\n")
            stream.peer.raise_if_closed()
            await asyncio.sleep(HELLO_INTERVAL_S)
    except asyncio.CancelledError:
        await stream.peer.close()
        raise


# Out of band


async def _publish(
    channel: oob.Channel, envelope: Envelope, peer: Peer, options: PeerOptions
) -> None:
    match channel.kind:
        case "stdio":
            # With --pipe standard output belongs to the stream.
            print(envelope.dumps(), file=sys.stderr if options.pipe else sys.stdout, flush=True)
        case "file":
            await _in_thread(oob.write_file, Path(channel.name), envelope)
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
        if not path.parent.is_dir():
            raise QuicpipeLabError(f"--oob {path}: there is no folder {path.parent}")
        while not path.exists():  # whichever of the peers is started first
            await asyncio.sleep(FILE_POLL_S)
        return await _in_thread(oob.read_file, path)
    # A scanned QR code is typed, pasted or piped in: the same line on standard input.
    return await _in_thread(oob.read_descriptor, 0)


async def _in_thread(function: Callable[P, T], *given: P.args, **named: P.kwargs) -> T:
    """As asyncio.to_thread, but a FIFO or terminal that blocks it for ever does not keep the
    program from ending."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(answer: T | None, error: Exception | None) -> None:
        if future.done():
            return  # cancelled
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(cast(T, answer))

    def run() -> None:
        answer, problem = None, None
        try:
            answer = function(*given, **named)
        except Exception as error:
            problem = error
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, answer, problem)

    threading.Thread(target=run, daemon=True).start()
    return await future


async def _fetch(channel: oob.Channel, peer: Peer, options: PeerOptions) -> Envelope:
    mailbox = oob.Mailbox(channel.name)
    while True:
        asked_at = peer.now
        answer = await _ask_relay(peer, "GET", mailbox.path, b"", options)
        if answer.status == 200:
            return mailbox.open(answer.body)
        if answer.status != 404:
            raise RemoteProtocolError(f"the relay's mailbox refused: {answer.status}")
        # Our relay holds the question until there is something; another may answer at once.
        await asyncio.sleep(max(0.0, asked_at + MAILBOX_INTERVAL_S - peer.now))


async def _ask_relay(
    peer: Peer, method: str, path: str, body: bytes, options: PeerOptions
) -> MailboxAnswered:
    headers = () if options.token is None else (("authorization", f"Bearer {options.token}"),)
    peer.machine.relay.request(Request(method, path, headers, body))
    peer.turn_soon()
    return await peer.next_event(MailboxAnswered)


# Settings


def _addresses(
    options: PeerOptions, envelope: Envelope | None
) -> tuple[TransportAddress, TransportAddress, str]:
    """The relay's address, our own of the same family, and the relay's name for HTTP."""
    text = options.relay or os.environ.get("QHOST") or (envelope and envelope.relay)
    if not text:
        raise QuicpipeLabError("which relay? give --relay HOST:PORT, or set QHOST")
    bind = resolve(options.bind)
    if bind.host in ("0.0.0.0", "::"):
        relay = resolve(text, default_port=443)
        bind = TransportAddress("::" if family_of(relay) == AF_INET6 else "0.0.0.0", bind.port)
    else:
        relay = resolve(text, default_port=443, family=family_of(bind))
    if relay.port == 0:
        raise QuicpipeLabError(f"relay {text!r}: nobody listens on port 0")
    return relay, bind, text


def _relay_configuration(
    options: PeerOptions,
    trust: RelayTrust,
    authority: str,
    qlog: QuicLogger | None,
    keylog: TextIO | None,
) -> QuicConfiguration:
    server_name, _ = split_host_port(authority, default_port=443)
    configuration = relay_configuration(server_name, qlog, keylog)
    if trust.fingerprint is None and not trust.insecure:
        configuration.verify_mode = ssl.CERT_REQUIRED
        if options.relay_ca is not None:
            _check_authorities(options.relay_ca)
            configuration.cafile = str(options.relay_ca)
    return configuration


def _check_authorities(file: Path) -> None:
    """Now, and not when the relay shows its certificate. Raises QuicpipeLabError."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)
    except ssl.SSLError:
        raise QuicpipeLabError(f"--relay-ca {file}: it holds no certificates (PEM)") from None
    except OSError as error:
        raise QuicpipeLabError(f"--relay-ca {file}: {error.strerror}") from None


def _hex(fingerprint_text: str | None) -> str | None:
    if fingerprint_text is None:
        return None
    text = fingerprint_text.replace(":", "").lower()
    if len(text) != 64 or set(text) - set("0123456789abcdef"):
        raise QuicpipeLabError("a fingerprint is SHA-256 in hex: 64 digits")
    return text
