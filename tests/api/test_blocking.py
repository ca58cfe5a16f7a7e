"""The lab without asyncio."""

import sys

import pytest

from quicpipe_lab.api import BlockingLab
from quicpipe_lab.errors import LocalProtocolError

pytestmark = pytest.mark.netns

SEND = """
import socket
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("", 7000))
sock.sendto(b"here", ("relay", 9999))
"""
TELL_PORTS = """
import socket
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("", 9999))
print("ready", flush=True)
while True:
    _, (_, seen) = sock.recvfrom(100)
    print(seen, flush=True)
"""
TELL_HOSTS = TELL_PORTS.replace("_, (_, seen)", "_, (seen, _)")


def test_a_host_that_switches_is_seen_elsewhere() -> None:
    with BlockingLab("phone-and-home") as lab:
        told = lab["relay"].start([sys.executable, "-c", TELL_HOSTS])
        told.wait_for(r"ready\n")
        for router in ("carrier", "nat-a", "carrier"):
            lab.switch("alice", router)
            lab["alice"].run([sys.executable, "-c", SEND])
        told.wait_for(r"ready\n(\S+)\n(?!\1)(\S+)\n\1\n")
        with pytest.raises(LocalProtocolError, match="'bob' is no host with several links"):
            lab.switch("bob", "nat-b")


def test_a_nat_that_is_rebooted_gives_another_port() -> None:
    with BlockingLab("two-homes") as lab:
        told = lab["relay"].start([sys.executable, "-c", TELL_PORTS])
        told.wait_for(r"ready\n")
        for reboots in (False, False, True):
            if reboots:
                lab.reboot("nat-a")
            lab["alice"].run([sys.executable, "-c", SEND])
        told.wait_for(r"ready\n(\d+)\n\1\n(?!\1\n)\d+\n")
        with pytest.raises(LocalProtocolError, match="'alice' is no NAT and no firewall"):
            lab.reboot("alice")
