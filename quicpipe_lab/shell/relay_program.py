"""``quicpipe-lab relay``: the program around the loop."""

import os
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from aioquic.quic.logger import QuicFileLogger

from quicpipe_lab.errors import BackendUnavailableError, QuicpipeLabError
from quicpipe_lab.protocol.relay import Relay
from quicpipe_lab.protocol.relay_limits import RelayLimits
from quicpipe_lab.shell.certificates import fingerprint, load_or_create
from quicpipe_lab.shell.event_log import EventLog
from quicpipe_lab.shell.relay_loop import RelayLoop
from quicpipe_lab.shell.relay_socket import OwnAddresses, PlainTransport, from_socket, open_socket


@dataclass(frozen=True, slots=True)
class RelayOptions:
    """What the command line says. ``events``: see EventLog; ``qlog``: a directory."""

    certificate_directory: Path
    host: str = "0.0.0.0"
    port: int = 0
    token: str | None = None
    strict: bool = False
    node: str = "relay"
    events: str | None = None
    qlog: Path | None = None
    keylog: Path | None = None
    xdp: str | None = None
    limits: RelayLimits = field(default_factory=RelayLimits)


def run_relay(options: RelayOptions) -> int:
    """Serve until a signal ends it; the exit status. Raises QuicpipeLabError before that."""
    if options.xdp is not None:
        raise BackendUnavailableError(
            f"the XDP filter for {options.xdp} is not part of this version", "leave out --xdp"
        )
    if options.strict and not options.token:
        raise QuicpipeLabError("a strict relay needs a bearer token: give --token as well")
    with ExitStack() as stack:
        log = stack.enter_context(EventLog(options.events, options.node))
        certificate, private_key = load_or_create(options.certificate_directory)
        qlog = _qlog(options.qlog)
        keylog = _keylog(options.keylog, stack)
        opened = stack.enter_context(open_socket(options.host, options.port))
        address = from_socket(opened.getsockname())
        relay = Relay(
            certificate=certificate,
            private_key=private_key,
            random=os.urandom,
            own_addresses=OwnAddresses(address),
            limits=options.limits,
            token=options.token,
            strict=options.strict,
            qlog=qlog,
            keylog=keylog,
        )
        loop = RelayLoop(relay, opened, PlainTransport(opened), log)

        def tell() -> None:
            identity = fingerprint(certificate)
            # The first line is the original's, to the letter.
            print(f"addr: {address}\nfingerprint: {identity}", flush=True)
            log.write("ready", address=address, fingerprint=identity, pid=os.getpid())

        loop.run(tell)
    return 0


def _qlog(directory: Path | None) -> QuicFileLogger | None:
    if directory is None:
        return None
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise QuicpipeLabError(f"qlog {directory}: {error.strerror or error}") from None
    return QuicFileLogger(str(directory))


def _keylog(path: Path | None, stack: ExitStack) -> TextIO | None:
    if path is None:
        return None
    try:
        return stack.enter_context(path.open("a", buffering=1))
    except OSError as error:
        raise QuicpipeLabError(f"keylog {path}: {error.strerror or error}") from None
