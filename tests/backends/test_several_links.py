"""Hosts with several links and addresses: the same on the kernel and in the simulator."""

from collections.abc import Iterator

import pytest

from quicpipe_lab.model.address import TransportAddress
from tests.backends.several_links import (
    CABLE,
    CARRIER,
    HOME,
    LTE,
    LTE_GATEWAY,
    SERVER,
    WIFI,
    Endpoint,
    Scene,
    scene_on,
)


@pytest.fixture(scope="module", params=["sim", pytest.param("netns", marks=pytest.mark.netns)])
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    with scene_on(request.param) as made:
        yield made


def answered(sender: Endpoint, target: Endpoint, to: TransportAddress) -> TransportAddress:
    """Who a datagram comes from, whose answer has come back."""
    sender.send(b"there", to)
    data, source = target.receive()
    assert data == b"there"
    target.send(b"back", source)
    assert sender.receive() == (b"back", to)
    return source


@pytest.mark.parametrize(
    ("host", "seen_at"),
    [(WIFI, HOME), (LTE, CARRIER), (CABLE, CABLE), (None, HOME)],
    ids=["wifi", "lte", "cable", "any"],
)
def test_what_is_sent_from_an_address_leaves_by_its_link(
    scene: Scene, host: str | None, seen_at: str
) -> None:
    phone, server = scene.udp("phone", host), scene.udp("server", SERVER)
    assert answered(phone, server, server.address).host == seen_at


def test_the_router_of_a_link_that_stands_by_is_its_neighbour(scene: Scene) -> None:
    """Without a source of its own, what goes to the other link's network goes by that link."""
    assert scene.ping("phone", LTE_GATEWAY) == LTE_GATEWAY


def test_a_link_that_stands_by_answers(scene: Scene) -> None:
    assert scene.ping("lte", LTE) == LTE


def test_a_link_that_stands_by_listens(scene: Scene) -> None:
    """To whoever its NAT lets in, of whom the way out through it has been seen."""
    phone, server = scene.udp("phone", LTE), scene.udp("server", SERVER)
    seen_at = answered(phone, server, server.address)
    server.send(b"later", seen_at)
    assert phone.receive() == (b"later", server.address)


def test_a_cut_of_one_link_leaves_the_other(scene: Scene) -> None:
    wifi, cable = scene.udp("phone", WIFI), scene.udp("phone", CABLE)
    server = scene.udp("server", SERVER)
    scene.net.cut("phone", "core")
    cable.send(b"lost", server.address)
    assert answered(wifi, server, server.address).host == HOME
    assert server.receive_now() == []
    scene.net.restore("core", "phone")
    assert answered(cable, server, server.address).host == CABLE


def test_a_link_that_stands_by_behaves_and_is_counted(scene: Scene) -> None:
    phone, server = scene.udp("phone", LTE), scene.udp("server", SERVER)
    before = scene.net.link_counters()["phone", "lte"].delivered
    answered(phone, server, server.address)
    assert scene.net.link_counters()["phone", "lte"].delivered == before + 1


def test_all_nats_are_certified(scene: Scene) -> None:
    """Also the one that nothing but a link that stands by leads to."""
    found = {one.name: one for one in scene.certify()}
    assert {name: one.host for name, one in found.items()} == {
        "home": "phone",
        "carrier": "tablet",
        "lte": "phone/lte",
    }
    assert all(one.ok for one in found.values()), found
