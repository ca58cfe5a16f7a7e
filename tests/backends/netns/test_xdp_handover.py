"""Datagrams that are relayed while the kernel's part comes and goes: each arrives, and once."""

import select
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from quicpipe_lab.backends.netns.lab import Lab
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.model.event import Event
from quicpipe_lab.model.topology import CORE, Host, Link, Relay, Topology
from quicpipe_lab.protocol.connection_id import ConnectionIdGenerator
from tests.backends.netns.remote import Sockets, sockets_of
from tests.backends.netns.restless_relay import LIMIT_PER_S
from tests.bench._relay_load import RECEIVER_KEY, SENDER_KEY, register

pytestmark = [pytest.mark.netns, pytest.mark.bpf]

PORT = 4433
COUNT = 6_000
PER_S = 6_000
"""Below what userspace forwards in Python on a busy machine, and far below the rate at which the
filter begins to drop what is bound nowhere."""
IDS = 4
DEADLINE_S = 20
RECEIVE_BUFFER_BYTES = 16 << 20


@pytest.fixture
def lab() -> Iterator[Lab]:
    names = ("relay", "sender", "receiver")
    nodes = (Relay("relay"), Host("sender"), Host("receiver"))
    links = tuple(Link((CORE, name)) for name in names)
    with Lab(Topology("handover", nodes, links), xdp=True) as lab:
        yield lab


def run_through(
    sender: socket.socket, receiver: socket.socket, server: TransportAddress
) -> Counter[int]:
    """Send numbered datagrams evenly to the receiver's IDs in turn; how often each came."""
    ids = ConnectionIdGenerator(RECEIVER_KEY, relay_leg=False)
    heads = [b"\x41" + ids.at(1 + index) for index in range(IDS)]
    seen: Counter[int] = Counter()
    began_s = time.monotonic()
    sent = 0
    heard_s = began_s
    while len(seen) < COUNT and time.monotonic() - max(heard_s, began_s + COUNT / PER_S) < 1:
        due = min(COUNT, int((time.monotonic() - began_s) * PER_S))
        for number in range(sent, due):
            sender.sendto(heads[number % IDS] + number.to_bytes(4, "big") + bytes(80), server)
        sent = max(sent, due)
        while select.select([receiver], [], [], 0.001)[0]:
            data = receiver.recv(2048)
            heard_s = time.monotonic()
            if data[0] == 0x41 and data[1:13] in {head[1:] for head in heads}:
                seen[int.from_bytes(data[13:17], "big")] += 1
            if sent < COUNT and (heard_s - began_s) * PER_S > sent + 8:
                break
    return seen


@pytest.mark.parametrize(
    ("what", "mode"),
    [
        ("bindings", "native"),
        ("port", "generic"),
        ("interface", "native"),
        ("interface", "generic"),
    ],
)
def test_no_datagram_is_lost_or_doubled(what: str, mode: str, lab: Lab, tmp_path: Path) -> None:
    seen, xdp, userspace = relay_restlessly(what, mode, lab, tmp_path)
    assert seen == Counter(range(COUNT))
    assert xdp["datagrams"]["forwarded"] + userspace == COUNT
    # Both had their share, and often in turn.
    assert xdp["datagrams"]["forwarded"] > COUNT / 20
    if what == "bindings":  # the first packet each time
        assert userspace >= xdp["restored"] > 10
    else:
        assert userspace > COUNT / 20


def test_a_sender_is_kept_to_its_rate_by_both_together(lab: Lab, tmp_path: Path) -> None:
    seen, xdp, userspace = relay_restlessly("limits", "native", lab, tmp_path)
    # At first the kernel lets everything pass, a tenth of a second or what a busy machine makes of
    # it; then what was too much is paid back, and userspace lets pass what may.
    assert xdp["datagrams"]["forwarded"] > LIMIT_PER_S / 20
    assert userspace > 0
    assert len(seen) == xdp["datagrams"]["forwarded"] + userspace
    assert LIMIT_PER_S / 2 < len(seen) < 2.4 * LIMIT_PER_S  # in a second, and a little
    assert xdp["datagrams"]["rate_limited"] == COUNT - xdp["datagrams"]["forwarded"]


def relay_restlessly(
    what: str, mode: str, lab: Lab, directory: Path
) -> tuple[Counter[int], dict[str, Any], int]:
    """What came, what the kernel says of itself, and how many userspace forwarded."""
    server = TransportAddress(str(lab.topology.uplinks["relay"].lower_address), PORT)
    events = directory / "events"
    argv = [sys.executable, "-m", "tests.backends.netns.restless_relay", what, mode]
    argv += [str(directory / "id"), str(events), server.host, str(PORT)]
    with (directory / "log").open("wb") as log:
        root = Path(__file__).parents[3]
        process = lab.spawn("relay", argv, stdout=log.fileno(), stderr=log.fileno(), cwd=root)
    end_s = time.monotonic() + DEADLINE_S
    while not (events.exists() and '"ready"' in events.read_text()):
        assert process.poll() is None, (directory / "log").read_text()
        assert time.monotonic() < end_s
        select.select([process.exit_fd], [], [], 0.02)
    with sockets_of(lab) as sockets:
        seen = run_through(*registered(sockets, server), server)
    process.send_signal(signal.SIGTERM)
    assert process.wait(DEADLINE_S) == 0, (directory / "log").read_text()
    process.close()
    stopped = Event.loads(events.read_text().splitlines()[-1])
    return seen, stopped.data["xdp"], stopped.data["datagrams"]["forwarded"]


def registered(sockets: Sockets, server: TransportAddress) -> tuple[socket.socket, socket.socket]:
    sender, receiver = sockets.udp("sender"), sockets.udp("receiver")
    receiver.setsockopt(socket.SOL_SOCKET, 33, RECEIVE_BUFFER_BYTES)  # SO_RCVBUFFORCE
    register(sender, server, SENDER_KEY, 1)
    register(receiver, server, RECEIVER_KEY, IDS)
    return sender, receiver
