"""What the XDP tests do in a network namespace of their own: ``xdp_scene.py SCENE [SOURCE]``."""

import sys
from pathlib import Path

from pyroute2 import IPRoute

from quicpipe_lab.backends.netns.syscalls import CLONE_NEWNET, unshare
from quicpipe_lab.errors import QuicpipeLabError
from quicpipe_lab.resources import folder
from quicpipe_lab.shell.xdp import Mode, Program


def passing() -> Program:
    return Program(folder("xdp") / "quicpipe_pass.c", "quicpipe_pass")


def modes(ip: IPRoute) -> None:
    """Print the interface's mode before, between and after."""
    program = passing()
    print(_mode(ip))
    for mode in (Mode.NATIVE, Mode.GENERIC):
        program.attach("probe", mode)
        print(_mode(ip))
        program.detach("probe")
        print(_mode(ip))


def twice(_: IPRoute) -> None:
    program = passing()
    program.attach("probe", Mode.GENERIC)
    try:
        program.attach("probe", Mode.GENERIC)
    except QuicpipeLabError as error:
        print(error)


def broken(_: IPRoute) -> None:
    try:
        Program(Path(sys.argv[2]), "f")
    except QuicpipeLabError as error:
        print(error)


def code(_: IPRoute) -> None:
    """What the compiler makes of the program that lets everything pass, in hexadecimal."""
    print(passing().code("quicpipe_pass").hex())


def _mode(ip: IPRoute) -> str | None:
    (link,) = ip.get_links(ifname="probe")
    mode: str | None = link.get_nested("IFLA_XDP", "IFLA_XDP_ATTACHED")
    return mode


def main() -> None:
    unshare(CLONE_NEWNET)
    with IPRoute() as ip:
        ip.link("add", ifname="probe", kind="veth", peer="probe-peer")
        {one.__name__: one for one in (modes, twice, broken, code)}[sys.argv[1]](ip)


main()
