"""The lab without asyncio."""

import sys

import pytest

from quicpipe_lab.api import BlockingLab
from quicpipe_lab.errors import LocalProtocolError

pytestmark = pytest.mark.netns

SEND = """
import socket, sys, time
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
while True:
    sock.sendto(b"here", ("relay", 9999))
    time.sleep(0.01)
"""
TELL_PORTS = """
import socket
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("", 9999))
port = None
while True:
    _, (_, seen) = sock.recvfrom(100)
    if seen != port:
        port = seen
        print(port, flush=True)
"""


def test_a_nat_that_is_rebooted_gives_another_port() -> None:
    with BlockingLab("two-homes") as lab:
        told = lab["relay"].start([sys.executable, "-c", TELL_PORTS])
        lab["alice"].start([sys.executable, "-c", SEND])
        told.wait_for(r"^\d+\n")
        lab.reboot("nat-a")
        told.wait_for(r"^\d+\n\d+\n")
        with pytest.raises(LocalProtocolError, match="'alice' is no NAT and no firewall"):
            lab.reboot("alice")
