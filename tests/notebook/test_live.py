"""The live view drives a real lab: what a button sends is what these tests send."""

import asyncio
from collections.abc import Callable, Coroutine
from itertools import pairwise
from typing import Any

import pytest

from quicpipe_lab.api import Lab
from quicpipe_lab.errors import LocalProtocolError
from quicpipe_lab.model.event import Event
from quicpipe_lab.model.topology import Nat
from quicpipe_lab.notebook.board import board, hops, switches
from quicpipe_lab.notebook.live import LiveView
from quicpipe_lab.resources import find_topology, topology_names
from quicpipe_lab.shell.spool_tail import Arrival

_DEADLINE_S = 60.0
_PING = ["ping", "-c", "1", "-W", "1", "relay"]


class Watched(LiveView):
    """It keeps what would go to the browser."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab)
        self.seen: set[tuple[str, str, str]] = set()
        self._changed = asyncio.Event()
        self.observe(lambda _: self._changed.set())

    def send(self, content: Any, buffers: Any = None) -> None:
        self.seen |= {(one["from"], one["to"], one["kind"]) for one in content["hops"]}
        super().send(content, buffers)
        self._changed.set()

    def click(self, key: str) -> None:
        """As the browser does."""
        self._handle_custom_msg({"press": key}, [])

    async def until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            await self._changed.wait()
            self._changed.clear()


def play(story: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(_DEADLINE_S):
            await story

    asyncio.run(bounded())


@pytest.mark.netns
@pytest.mark.ping
def test_link_down_and_up_and_relay_off() -> None:
    async def story() -> None:
        async with Lab("two-homes") as lab:
            view = await Watched(lab).start()
            assert (await lab["alice"].run(_PING)).ok
            way = ["alice", "nat-a", "core", "relay"]
            there = {*pairwise(way), *pairwise(way[::-1])}
            await view.until(lambda: {(one, other) for one, other, _ in view.seen} >= there)
            for key, said in (("cut alice", "link nat-a - alice down"), ("cut relay", "relay off")):
                view.click(key)
                await view.until(lambda key=key: view.off == [key])
                assert view.told[-1].endswith(said)
                assert not (await lab["alice"].run(_PING)).ok
                view.click(key)
                await view.until(lambda: view.off == [])
                assert (await lab["alice"].run(_PING)).ok
            view.click("nonsense")
            await view.stop()
            await view.stop()

    play(story())


@pytest.mark.netns
def test_actors_go_direct_and_find_each_other_again_after_a_reboot() -> None:
    async def story() -> None:
        async with Lab("two-homes") as lab:
            view = await Watched(lab).start()
            await view.play()

            def told(text: str) -> int:
                return sum(line.endswith(text) for line in view.told)

            await view.until(lambda: told("(direct)") == 2)
            await view.until(lambda: ("nat-b", "bob", "direct") in view.seen)
            assert ("core", "relay", "relayed") in view.seen
            view.click("reboot nat-a")
            await view.until(lambda: told("nat-a has forgotten everything") == 1)
            await view.until(lambda: told("(direct)") >= 4)
            assert view.told[0].endswith("relay starts")

    play(story())


@pytest.mark.netns
def test_what_only_looks_like_an_event_is_told_as_it_is() -> None:
    """And the view goes on."""

    async def story() -> None:
        async with Lab("one-home") as lab:
            view = await Watched(lab).start()
            events = ['{"broken', '{"t_s": 1, "node": "alice", "event": "cut"}', "{\\377"]
            whole = Event(2.0, "alice", "connected").dumps()
            said = "\\n".join([*events, whole, ""])
            script = 'printf "$0" >&2; exec sleep 60'
            view.programs["alice"] = await lab["alice"].start(["sh", "-c", script, said])
            await view.until(lambda: len(view.told) >= 4)
            assert [one.split(" s  ", 1)[1] for one in view.told] == [
                'alice says {"broken',
                'alice says {"t_s": 1, "node": "alice", "event": "cut"}',
                "alice says {\ufffd",
                "alice connected through the relay",
            ]
            await view.stop()

    play(story())


@pytest.mark.netns
def test_view_outlives_its_lab() -> None:
    async def story() -> None:
        async with Lab("one-home") as lab:
            view = await Watched(lab).start()
        view.click("cut alice")
        await view.until(lambda: bool(view.told))
        assert view.told[-1].endswith("the lab is not up")
        with pytest.raises(LocalProtocolError, match="no switch 'nowhere'"):
            await view.press("nowhere")
        await view.stop()

    play(story())


@pytest.mark.parametrize("name", topology_names())
def test_every_topology_has_its_board(name: str) -> None:
    topology = find_topology(name)
    shown = board(topology)
    places = {(node["x"], node["y"]) for node in shown["nodes"]}
    assert len(places) == len(shown["nodes"]) == len(topology.nodes) + 1
    assert all(0 < x < shown["width"] and 0 < y < shown["height"] for x, y in places)
    keys = [one.key for one in switches(topology)]
    assert len(keys) == len(set(keys))
    assert {f"reboot {node.name}" for node in topology.of_kind(Nat)} <= set(keys)


def test_a_link_that_stands_by_is_on_the_board() -> None:
    topology = find_topology("phone-and-home")
    shown = board(topology)
    assert {("nat-a", "alice"), ("carrier", "alice")} <= {tuple(one) for one in shown["links"]}
    cuts = {one.key: one.nodes for one in switches(topology) if "alice" in one.nodes}
    assert cuts == {"cut alice": ("nat-a", "alice"), "cut alice/carrier": ("carrier", "alice")}
    (detail,) = (one["detail"] for one in shown["nodes"] if one["name"] == "alice")
    wifi, lte = topology.links_of("alice")
    assert detail == f"{wifi.lower_address}, {lte.lower_address}"
    (moved,) = hops(topology, [Arrival("alice", "carrier", b"")])
    assert (moved["from"], moved["to"]) == ("carrier", "alice")


def test_packets_are_told_apart() -> None:
    topology = find_topology("two-homes")
    relay, far = b"\xc6\x12\x00\x06", b"\xc6\x12\x00\x0e"

    def udp(source: bytes, target: bytes, protocol: int = 17) -> bytes:
        header = bytes([0x45, *[0] * 8, protocol, 0, 0]) + source + target
        return bytes(12) + b"\x08\x00" + header

    frames = [udp(relay, far), udp(far, relay), udp(far, far), udp(far, far, 1), b"", bytes(60)]
    arrivals = [Arrival("nat-a", "core", frame) for frame in frames]
    counted = hops(topology, [*arrivals, Arrival("nat-a", "lo", udp(far, far))])
    assert {one["kind"]: one["count"] for one in counted} == {
        "relayed": 2,
        "direct": 1,
        "other": 3,
    }
    assert {(one["from"], one["to"]) for one in counted} == {("core", "nat-a")}
