"""Every preset goes up in one lab and is what it is called."""

import pytest

from quicpipe_lab.model.nat import FilteringBehavior, MappingBehavior, UnsolicitedReaction
from quicpipe_lab.model.nat_presets import PRESETS
from tests.backends.netns.nat_scene import Home, homes
from tests.backends.netns.remote import Sockets, port_of

pytestmark = pytest.mark.netns

EIF, ADF, APDF = FilteringBehavior
TOPOLOGY = homes(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_mapping_and_filtering(sockets: Sockets, name: str) -> None:
    """RFC 5780's tests, in short; presets have EIM or APDM."""
    behavior = PRESETS[name]
    home = Home(sockets, TOPOLOGY, name)
    inside, same_host = home.a(), sockets.udp("one")
    port = home.port(inside, home.one)
    if behavior.unsolicited is not UnsolicitedReaction.CONNTRACK:  # which it would confuse
        assert home.gets_in(home.two, inside, (home.wan, port)) is (behavior.filtering is EIF)
        let_in = home.gets_in(same_host, inside, (home.wan, port))
        assert let_in is (behavior.filtering is not APDF)
    ports = {port, home.port(inside, home.two), home.port(inside, home.one)}
    inside.sendto(b"third", (home.at(home.one)[0], port_of(same_host)))
    ports.add(same_host.recvfrom(100)[1][1])
    assert len(ports) == (1 if behavior.mapping is MappingBehavior.ENDPOINT_INDEPENDENT else 3)
