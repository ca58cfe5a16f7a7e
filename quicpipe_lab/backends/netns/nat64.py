"""NAT64 in a lab: TAYGA translates between the versions, the NAT's own rules do all the rest.

TAYGA (RFC 7915, without state) gives each inside host the IPv4 address that it would have had, and
takes it away again on the way back. To the NAT's rules the host is one like any other, behind
another interface; so every behaviour that a NAT may have a NAT64 may have as well.
"""

import os
import shutil
import time
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from quicpipe_lab.backends.ending import ending
from quicpipe_lab.backends.netns.blueprint import Tun
from quicpipe_lab.backends.netns.process import Ask, Process
from quicpipe_lab.errors import BackendUnavailableError, QuicpipeLabError
from quicpipe_lab.model.ipv6 import Ipv6Addresses
from quicpipe_lab.model.nat import Ipv6Behavior
from quicpipe_lab.model.nat64 import LAB_PREFIX
from quicpipe_lab.model.topology import Nat, Topology

if TYPE_CHECKING:
    from quicpipe_lab.backends.netns.lab import Lab

INTERFACE = "nat64"
_OWN_ADDRESS = IPv4Address("192.0.0.8")
"""What its ICMP errors come from: RFC 7600's dummy address, made for that."""
_CONFIG_FD = 3
_START_WITHIN_S = 10.0
_POLL_S = 0.001
_WHERE = "/usr/local/sbin:/usr/sbin:/sbin"
"""Not on the path of everybody."""


def nat64s(topology: Topology) -> list[str]:
    """The NATs that are such."""
    return [node.name for node in topology.of_kind(Nat) if node.behavior.ipv6 is Ipv6Behavior.NAT64]


def tun_of(topology: Topology, node: str, number: int) -> Tun:
    """What is routed to the translator of a NAT64."""
    hosts = [f"{uplink.lower_address}/32" for uplink in topology.children(node)]
    return Tun(INTERFACE, number, [*hosts, f"{_OWN_ADDRESS}/32"], [str(LAB_PREFIX)])


def configuration(topology: Topology, node: str) -> str:
    """tayga.conf(5)."""
    ipv6 = Ipv6Addresses(topology).uplinks
    lines = [f"tun-device {INTERFACE}", f"ipv4-addr {_OWN_ADDRESS}", f"prefix {LAB_PREFIX}"]
    lines += [
        f"map {uplink.lower_address} {ipv6[uplink.lower].lower_address}"
        for uplink in topology.children(node)
    ]
    return "\n".join(lines) + "\n"


def find_translator() -> str:
    """The program. Raises BackendUnavailableError."""
    found = shutil.which("tayga") or shutil.which("tayga", path=_WHERE)
    if found is None:
        raise BackendUnavailableError(
            "NAT64 needs TAYGA, which is not installed",
            "sudo systemctl mask tayga; sudo apt-get install tayga (masked, or Debian's package"
            " sets up a NAT64 for the host itself)",
        )
    return found


def start_translators(lab: "Lab", ask: Ask) -> None:
    """One on each NAT64, translating from here on. They end with the lab."""
    program = find_translator()
    started = [_start(lab, program, node) for node in nat64s(lab.topology)]
    try:
        for process, said in started:
            _await_readiness(process, said, ask)
    finally:
        for process, said in started:
            process.close()
            os.close(said)


def _start(lab: "Lab", program: str, node: str) -> tuple[Process, int]:
    """And what it says, in memory: without ``-d`` it would be in the system's log."""
    config, said = (os.memfd_create(name) for name in ("tayga.conf", "tayga.log"))
    try:
        os.write(config, configuration(lab.topology, node).encode())
        argv = [program, "-d", "--nodetach", "--config", f"/dev/fd/{_CONFIG_FD}"]
        fds = {_CONFIG_FD: config}
        return lab.spawn(node, argv, stdout=said, stderr=said, extra_fds=fds), said
    except BaseException:
        os.close(said)
        raise
    finally:
        os.close(config)


def _await_readiness(process: Process, said: int, ask: Ask) -> None:
    """Until it has opened the device, that has no carrier, and what is sent to it is lost."""
    end_s = time.monotonic() + _START_WITHIN_S
    request = {"request": "has-carrier", "node": process.node, "interface": INTERFACE}
    while not ask(request, [])[0]["has_carrier"]:
        if (status := process.poll()) is not None:
            text = os.pread(said, 65536, 0).decode("utf-8", "replace")
            raise QuicpipeLabError(f"tayga ended {ending(status, text)}")
        if time.monotonic() > end_s:
            raise QuicpipeLabError(f"tayga did not start within {_START_WITHIN_S:g} s")
        time.sleep(_POLL_S)
