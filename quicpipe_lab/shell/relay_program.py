"""``quicpipe-lab relay``: the program around the loop."""

import os
import re
import socket
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from quicpipe_lab.errors import BackendUnavailableError, QuicpipeLabError
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.protocol.relay import Relay
from quicpipe_lab.protocol.relay_limits import RelayLimits
from quicpipe_lab.protocol.wire import is_bearer_token
from quicpipe_lab.shell import batch
from quicpipe_lab.shell.certificates import fingerprint, identity
from quicpipe_lab.shell.event_log import EventLog
from quicpipe_lab.shell.relay_accelerator import RelayAccelerator
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
    a capture on a virtual interface then shows a run as one packet of up to 64 kB. ``xdp``: the
    interfaces to forward on in the kernel; ``xdp_mode`` None is the best that each can do.
    ``xdp_next_hop``: ``back`` to the neighbour that a packet came from, or where ``routes`` lead;
    None is by what neighbours the interface can have.
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
    xdp: tuple[str, ...] = ()
    xdp_mode: str | None = None
    xdp_next_hop: str | None = None
    xdp_capacity: int = 4096
    offload: bool = True
    limits: RelayLimits = field(default_factory=RelayLimits)


def run_relay(options: RelayOptions) -> int:
    """Serve until a signal ends it; the exit status. Raises QuicpipeLabError before that."""
    if options.strict and not options.token:
        raise QuicpipeLabError("a strict relay needs a bearer token: give --token as well")
    if options.token is not None and not is_bearer_token(options.token):
        raise QuicpipeLabError("--token is ASCII without spaces")
    with ExitStack() as stack:
        log = stack.enter_context(EventLog(options.events, options.node))
        certificate, private_key = identity(
            options.certificate_directory, "relay", options.ephemeral
        )
        qlog = stack.enter_context(qlog_file(options.qlog, options.node))
        keylog = stack.enter_context(keylog_file(options.keylog))
        opened = stack.enter_context(open_socket(options.host, options.port))
        address = from_socket(opened.getsockname())
        accelerator = _accelerator(options, address, stack) if options.xdp else None
        relay = Relay(
            certificate=certificate,
            private_key=private_key,
            random=os.urandom,
            own_addresses=OwnAddresses(address),
            limits=options.limits,
            token=options.token,
            strict=options.strict,
            store=None if accelerator is None else accelerator.store,
            qlog=qlog,
            keylog=keylog,
        )
        transport: RelayTransport
        if batch.is_available():
            transport = BatchTransport(opened, offload=options.offload)
        else:
            transport = PlainTransport(opened)
        loop = RelayLoop(relay, opened, transport, log, accelerator=accelerator, show=_show)

        def tell() -> None:
            pinned = fingerprint(certificate)
            # The first line is the original's, to the letter.
            print(f"addr: {address}\nfingerprint: {pinned}", flush=True)
            more = {}
            if accelerator is not None:
                accelerator.start()
                more["xdp"] = accelerator.status()["interfaces"]
                for one in more["xdp"]:
                    print(f"xdp: {one['interface']} {one['mode']}: {one['reason']}", flush=True)
            log.write("ready", address=address, fingerprint=pinned, pid=os.getpid(), **more)

        loop.run(tell)
    return 0


def _accelerator(
    options: RelayOptions, address: TransportAddress, stack: ExitStack
) -> RelayAccelerator:
    """Compiled, loaded and attached. Raises BackendUnavailableError, QuicpipeLabError."""
    from quicpipe_lab.shell.xdp_filter import MAX_CAPACITY

    for interface in options.xdp:
        try:
            socket.if_nametoindex(interface)
        except OSError:
            raise QuicpipeLabError(f"--xdp {interface}: there is no such interface") from None
    if options.xdp_capacity > MAX_CAPACITY:
        raise QuicpipeLabError(f"--xdp-capacity: the filter holds up to {MAX_CAPACITY} IDs")
    if not _may_load_programs():
        raise BackendUnavailableError("--xdp needs root", "run it as root: sudo quicpipe-lab")
    try:
        return _load_filter(options, address, stack)
    except BackendUnavailableError:
        raise
    except QuicpipeLabError as error:
        raise BackendUnavailableError(
            str(error), "leave out --xdp: this program forwards as well"
        ) from None


def _load_filter(
    options: RelayOptions, address: TransportAddress, stack: ExitStack
) -> RelayAccelerator:
    from quicpipe_lab.shell.xdp import Mode
    from quicpipe_lab.shell.xdp_filter import Filter
    from quicpipe_lab.shell.xdp_hosts import OwnHosts
    from quicpipe_lab.shell.xdp_layout import Layer2

    kernel = stack.enter_context(Filter.open(capacity=options.xdp_capacity))
    hosts = OwnHosts(kernel, address, options.xdp)
    hosts.refresh()
    mode = None if options.xdp_mode is None else Mode(options.xdp_mode)
    layer2 = {None: None, "back": Layer2.SWAP, "routes": Layer2.ROUTED}[options.xdp_next_hop]
    attachments = []
    for interface in options.xdp:
        attachment = kernel.attach(interface, mode, layer2)
        if attachment.waits_for:
            reason = f"{attachment.reason}, or without that with --xdp-next-hop back"
            attachment = attachment._replace(reason=reason)
        attachments.append(attachment)
    return RelayAccelerator(
        kernel, address.port, options.limits.bindings, attachments, hosts.refresh
    )


def _may_load_programs() -> bool:
    """Asked first, for bcc says it in words of its own, and wrongly. See capabilities(7)."""
    status = Path("/proc/self/status")
    if not status.exists():
        return True  # where that is unknown, loading tells
    (effective,) = re.findall(r"CapEff:\s*([0-9a-f]+)", status.read_text())
    network, all_of_it, bpf = 1 << 12, 1 << 21, 1 << 39
    held = int(effective, 16)
    return bool(held & all_of_it) or held & (network | bpf) == network | bpf


def _show(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
