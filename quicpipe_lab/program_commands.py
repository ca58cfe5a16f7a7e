"""The three programs on the command line: ``relay``, ``dial`` and ``accept``."""

import argparse
import os
from pathlib import Path
from typing import Any

from quicpipe_lab.model.address import split_host_port


def add(commands: Any) -> None:
    """Add their parsers."""
    _add_relay(commands)
    _add_dial(commands)
    _add_accept(commands)


def _peer(arguments: argparse.Namespace) -> int:
    from quicpipe_lab.shell import peer_program

    _silence_libraries()
    given = {
        name: value
        for name, value in vars(arguments).items()
        if name in peer_program.PeerOptions.__dataclass_fields__
    }
    program = {"dial": peer_program.run_dial, "accept": peer_program.run_accept}
    return program[arguments.command](peer_program.PeerOptions(**given))


def _relay(arguments: argparse.Namespace) -> int:
    from quicpipe_lab.shell import relay_program

    _silence_libraries()
    host, port = split_host_port(arguments.bind)
    options = relay_program.RelayOptions(
        certificate_directory=arguments.certificate_dir,
        ephemeral=arguments.ephemeral,
        host=host,
        port=port,
        token=arguments.token,
        strict=arguments.strict,
        offload=arguments.offload,
        node=arguments.node or "relay",
        events=arguments.events,
        qlog=arguments.qlog,
        keylog=arguments.keylog,
        xdp=tuple(arguments.xdp or _xdp_interfaces()),
        xdp_mode=arguments.xdp_mode,
        xdp_next_hop=arguments.xdp_next_hop,
        xdp_capacity=arguments.xdp_capacity,
    )
    return relay_program.run_relay(options)


def _xdp_interfaces() -> list[str]:
    """What the environment says; the original's variable names one."""
    return [name for name in os.environ.get("QUICPIPE_XDP_IFACE", "").split(",") if name]


def _silence_libraries() -> None:
    """aioquic logs what a peer does wrong; a person gets one line of ours instead."""
    import logging

    logging.getLogger().addHandler(logging.NullHandler())


def positive(text: str) -> int:
    """A whole number of 1 or more, for argparse."""
    try:
        value = int(text)
    except ValueError:
        wanted = f"{text!r} is no whole number of 1 or more, as 1000"
        raise argparse.ArgumentTypeError(wanted) from None
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value


def _add_relay(commands: Any) -> None:
    parser = commands.add_parser("relay", help="forward QUIC packets between registered peers")
    parser.add_argument("--bind", default="0.0.0.0:0", metavar="HOST:PORT")
    parser.add_argument("--token", help="bearer token that clients must show")
    parser.add_argument("--strict", action="store_true", help="refuse to start without a token")
    parser.add_argument(
        "--xdp",
        metavar="IFACE",
        action="append",
        help="forward in the kernel on this interface; may be given again for others"
        " (default: $QUICPIPE_XDP_IFACE, several with commas)",
    )
    parser.add_argument(
        "--xdp-mode",
        choices=("native", "generic", "offload"),
        help="in the interface's driver, behind it, or in its hardware; default: native, where the"
        " driver cannot generic",
    )
    parser.add_argument(
        "--xdp-next-hop",
        choices=("back", "routes"),
        help="where the kernel sends to: back to the neighbour that a packet came from, right where"
        " all come from one, as from a gateway; or where the kernel's routes lead, which needs"
        " net.ipv4.conf.IFACE.forwarding; default: back on links with room for one neighbour only",
    )
    parser.add_argument(
        "--xdp-capacity",
        type=positive,
        default=4096,
        metavar="N",
        help="connection IDs that the kernel can know; others are forwarded by this program"
        " (default: 4096)",
    )
    parser.add_argument(
        "--no-offload",
        dest="offload",
        action="store_false",
        help="send and take every datagram by itself: costs more, and captures show each",
    )
    _add_certificate(parser)
    _add_logs(parser)
    parser.set_defaults(run=_relay)


def _add_dial(commands: Any) -> None:
    parser = commands.add_parser("dial", help="open a connection to a peer")
    _add_peer(parser)
    parser.add_argument(
        "--peer-fingerprint", metavar="HEX", help="SHA-256 of the accepter's certificate"
    )
    parser.add_argument("--insecure", action="store_true", help="trust any peer and any relay")
    parser.add_argument("--server-name", metavar="NAME", help="SNI of the peer connection")
    parser.set_defaults(run=_peer)


def _add_accept(commands: Any) -> None:
    parser = commands.add_parser("accept", help="accept one connection from a peer")
    _add_peer(parser)
    parser.add_argument("--echo", action="store_true", help="send back whatever the peer sends")
    _add_certificate(parser)
    parser.set_defaults(run=_peer)


def _add_peer(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--relay", metavar="HOST:PORT", help="the relay (default: $QHOST)")
    parser.add_argument("--relay-fingerprint", metavar="HEX", help="its certificate's SHA-256")
    parser.add_argument("--relay-ca", type=Path, metavar="FILE", help="who vouches for the relay")
    parser.add_argument("--relay-insecure", action="store_true", help="trust any relay")
    parser.add_argument("--token", help="bearer token for the relay")
    parser.add_argument("--bind", default="0.0.0.0:0", metavar="HOST:PORT")
    parser.add_argument(
        "--oob",
        default="-",
        metavar="CHANNEL",
        help="how the first packet travels: - (standard output or input), FILE, relay:NAME, qr",
    )
    parser.add_argument("--pipe", action="store_true", help="join standard input and output to it")
    parser.add_argument("--alpn", default="quicpipe-lab/1", metavar="NAME")
    parser.add_argument(
        "--no-direct", dest="direct", action="store_false", help="stay on the relay's path"
    )
    parser.add_argument(
        "--direct-after",
        type=int,
        default=0,
        metavar="BYTES",
        help="look for a direct path once so many have gone through the relay",
    )
    parser.add_argument(
        "--search",
        action="store_true",
        help="where punching fails, search the ports of the peer's NAT, if the peer says so too",
    )
    parser.add_argument(
        "--search-rate",
        type=float,
        default=200.0,
        metavar="N",
        help="probes a second in a port search; 2,048 at most are sent (default: 200)",
    )
    parser.add_argument("--idle-timeout", type=float, default=60.0, metavar="SECONDS")
    parser.add_argument(
        "--connect-timeout",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="give up where the relay does not answer for so long (default: 30)",
    )
    _add_logs(parser)


def _add_certificate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--certificate-dir",
        type=Path,
        metavar="DIR",
        help="holds or receives an Ed25519 key and certificate (default: the user's data folder)",
    )
    parser.add_argument(
        "--ephemeral", action="store_true", help="a certificate for this run only, never written"
    )


def _add_logs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--node", default="", metavar="NAME", help="name in logs")
    parser.add_argument("--events", metavar="FILE|fd:N", help="write events as JSON lines")
    parser.add_argument("--qlog", type=Path, metavar="DIR", help="write a qlog at the end")
    parser.add_argument("--keylog", type=Path, metavar="FILE", help="write TLS secrets")
