"""Routers that are rebooted and relays that are restarted: what is gone, what is there again."""

import threading
from itertools import pairwise
from pathlib import Path

import pytest

from quicpipe_lab.backends import base
from quicpipe_lab.backends.matrix import Cell
from quicpipe_lab.backends.netns.certification import Certification
from quicpipe_lab.backends.netns.lab import Lab
from quicpipe_lab.model.event import Event
from quicpipe_lab.model.nat import NatBehavior
from quicpipe_lab.model.scenario import (
    Meanwhile,
    Outcome,
    RestartRelay,
    Scenario,
    Transfer,
    WaitFor,
)
from quicpipe_lab.model.topology import Firewall, Nat
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


@pytest.mark.parametrize(
    "name",
    [
        "cgnat",
        "dual-stack-translated",
        "firewalls",
        pytest.param("nat64", marks=pytest.mark.nat64),
        "three-layers",
    ],
)
def test_every_kind_of_router_is_as_declared_after_a_reboot(name: str) -> None:
    with Lab(find_topology(name)) as lab:
        routers: list[Nat | Firewall] = [*lab.topology.of_kind(Nat)]
        for router in [*routers, *lab.topology.of_kind(Firewall)]:
            lab.reboot(router.name)
        certificates = Certification(lab).finish()
    assert [one.difference() for one in certificates] == [None] * len(certificates)
    assert certificates


def restarting(count: int) -> Scenario:
    """A relay that is restarted so often by the steps, and once beside them."""
    home = NatBehavior()
    steps = WaitFor(path=Outcome.DIRECT), Transfer(100_000), *[RestartRelay()] * count
    beside = (Meanwhile(0.0, RestartRelay()),)
    fields = vars(Cell("one", home, "other", home).scenario())
    return Scenario(**{**fields, "steps": steps, "meanwhile": beside, "expect": Outcome.DIRECT})


def test_a_restarted_relay_is_another_process_with_the_same_address_and_key(tmp_path: Path) -> None:
    result = base.run(restarting(5), backend="netns", run_dir=tmp_path, certify=False)
    assert result.ok, result.failure
    lines = (tmp_path / "events.jsonl").read_text().splitlines()
    ready = [one for one in map(Event.loads, lines) if (one.node, one.name) == ("relay", "ready")]
    assert len({one.data["pid"] for one in ready}) == len(ready) == 7
    assert len({(one.data["address"], one.data["fingerprint"]) for one in ready}) == 1
    assert (tmp_path / "programs" / "relay.relay.log").read_text().count("addr: ") == 7
    assert not (tmp_path / "keys").exists()
    assert not list(tmp_path.rglob("*.pem"))
