"""Hosts with several links and addresses: the same on the kernel and in the simulator."""

from collections.abc import Iterator

import pytest

from quicpipe_lab.errors import LocalProtocolError
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


def test_a_switch_moves_what_has_no_source_of_its_own(scene: Scene) -> None:
    anywhere, wifi = scene.udp("phone"), scene.udp("phone", WIFI)
    server = scene.udp("server", SERVER)
    assert answered(anywhere, server, server.address).host == HOME
    for router, seen_at in (("lte", CARRIER), ("core", CABLE), ("home", HOME)):
        scene.net.switch("phone", router)
        assert answered(anywhere, server, server.address).host == seen_at
        assert answered(wifi, server, server.address).host == HOME, "the others stay up"


def test_a_cut_is_where_the_ways_part_by_the_link_in_use(scene: Scene) -> None:
    """And is restored there, whichever link is in use then."""
    wifi, anywhere = scene.udp("phone", WIFI), scene.udp("phone")
    server = scene.udp("server", SERVER)
    scene.net.switch("phone", "core")
    scene.net.cut("phone", "server")
    anywhere.send(b"lost", server.address)
    assert answered(wifi, server, server.address).host == HOME
    assert server.receive_now() == []
    scene.net.switch("phone", "home")
    scene.net.restore("phone", "server")
    cable = scene.udp("phone", CABLE)
    assert answered(cable, server, server.address).host == CABLE


@pytest.mark.parametrize(
    ("host", "to", "problem"),
    [
        (
            "phone",
            "carrier",
            "'phone' has no link to 'carrier', but to 'home' and 'lte' and 'core'",
        ),
        ("tablet", "carrier", "'tablet' is no host with several links"),
        ("nobody", "home", "nobody"),
    ],
)
def test_where_nobody_can_switch_to(scene: Scene, host: str, to: str, problem: str) -> None:
    with pytest.raises(LocalProtocolError, match=problem):
        scene.net.switch(host, to)


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
