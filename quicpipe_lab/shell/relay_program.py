"""``quicpipe-lab relay``: the program around the loop."""

import os
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from quicpipe_lab.errors import BackendUnavailableError, QuicpipeLabError
from quicpipe_lab.protocol.relay import Relay
from quicpipe_lab.protocol.relay_limits import RelayLimits
from quicpipe_lab.shell import batch
from quicpipe_lab.shell.certificates import fingerprint, identity
from quicpipe_lab.shell.event_log import EventLog
from quicpipe_lab.shell.relay_batch import BatchTransport
from quicpipe_lab.shell.relay_loop import RelayLoop
from quicpipe_lab.shell.relay_socket import (
    OwnAddresses,
    PlainTransport,
    RelayTransport,
    from_socket,
    open_socket,
)
from quicpipe_lab.shell.trace_files import keylog_file, qlog_file


@dataclass(frozen=True, slots=True)
class RelayOptions:
    """What the command line says. ``events``: see EventLog; ``qlog``: a directory.

    ``offload``: let the kernel join and split runs of datagrams (GRO and GSO), which is faster;
    a capture on a virtual interface then shows a run as one packet of up to 64 kB.
    """

    certificate_directory: Path | None = None
    ephemeral: bool = False
    host: str = "0.0.0.0"
    port: int = 0
    token: str | None = None
    strict: bool = False
    node: str = "relay"
    events: str | None = None
    qlog: Path | None = None
    keylog: Path | None = None
    xdp: str | None = None
    offload: bool = True
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
        certificate, private_key = identity(
            options.certificate_directory, "relay", options.ephemeral
        )
        qlog = stack.enter_context(qlog_file(options.qlog, options.node))
        keylog = stack.enter_context(keylog_file(options.keylog))
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
        transport: RelayTransport
        if batch.is_available():
            transport = BatchTransport(opened, offload=options.offload)
        else:
            transport = PlainTransport(opened)
        loop = RelayLoop(relay, opened, transport, log)

        def tell() -> None:
            pinned = fingerprint(certificate)
            # The first line is the original's, to the letter.
            print(f"addr: {address}\nfingerprint: {pinned}", flush=True)
            log.write("ready", address=address, fingerprint=pinned, pid=os.getpid())

        loop.run(tell)
    return 0
