"""A NAT that is rebooted under traffic: no mapping outlives it."""

import threading
from itertools import pairwise

import pytest

from quicpipe_lab.backends.netns.lab import Lab
from quicpipe_lab.resources import find_topology
from tests.backends.netns.remote import sockets_of

pytestmark = pytest.mark.netns

REBOOTS = 20


def test_no_mapping_outlives_a_reboot_under_traffic() -> None:
    """Each time the sender, who never stops, comes from another port than before."""
    with Lab(find_topology("two-homes")) as lab, sockets_of(lab) as sockets:
        sender, receiver = sockets.udp("alice"), sockets.udp("relay")
        there = (str(lab.topology.uplinks["relay"].lower_address), receiver.getsockname()[1])
        word, is_over = b"0", threading.Event()

        def send() -> None:
            while not is_over.is_set():
                sender.sendto(word, there)

        def port() -> int:
            """Of the next datagram that was sent from now on."""
            nonlocal word
            word = str(int(word) + 1).encode()
            while True:
                data, source = receiver.recvfrom(64)
                if data == word:
                    return int(source[1])

        thread = threading.Thread(target=send)
        thread.start()
        try:
            ports = [port()]
            for _ in range(REBOOTS):
                lab.reboot("nat-a")
                ports.append(port())
        finally:
            is_over.set()
            thread.join()
    assert all(one != other for one, other in pairwise(ports)), ports
