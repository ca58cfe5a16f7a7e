"""One connection for weeks on a direct path that comes and goes; in virtual time.

Each move uses up a connection ID of either side, and a relay binds so many of one owner only.
"""

import pytest

from quicpipe_lab.model.nat_presets import PRESETS
from quicpipe_lab.protocol.events import PathChanged, RelayLost, RelayRefused
from quicpipe_lab.protocol.relay_events import Bound, Registered, RelayEvent, Unbound
from quicpipe_lab.protocol.relay_leg import REGISTER_STEP, Request, standard_request
from quicpipe_lab.protocol.relay_limits import RelayLimits
from quicpipe_lab.protocol.wire import Registration
from tests.protocol.pair import Pair

HOME = PRESETS["home"]


def switch_there_and_back(pair: Pair, number: int) -> bool:
    """Go direct, and back when the path dies under what is being sent. False if it stays
    relayed."""
    if not pair.run_until_direct(60):
        return False
    pair.world.drop = lambda one, other, _: {one, other} == {"alice", "bob"}
    assert pair.echoed(number.to_bytes(4, "big") * 500)
    assert not pair.dialer.is_direct
    assert not pair.accepter.is_direct
    pair.world.drop = lambda *_: False
    return True


def relay_events(pair: Pair) -> list[RelayEvent]:
    events = []
    while (event := pair.relay.next_event()) is not None:
        events.append(event)
    return events


def give_nothing_back(registration: Registration) -> Request:
    """As a client that does not know ``first``, or to a relay that does not."""
    return standard_request(registration._replace(first=1))


def test_400_switches_and_no_end() -> None:
    pair = Pair(HOME, HOME).connect()
    took_s: list[float] = []
    bound = most_bound = 0
    for number in range(200):
        began = pair.world.now
        assert switch_there_and_back(pair, number)
        took_s.append(pair.world.now - began)
        for event in relay_events(pair):
            bound += len(event.connection_ids) if isinstance(event, Bound) else 0
            bound -= len(event.connection_ids) if isinstance(event, Unbound) else 0
            most_bound = max(most_bound, bound)
    for heard in pair.received.values():
        assert len(heard.of(PathChanged)) == 400
        assert not heard.of(RelayRefused)
    assert most_bound <= 2 * 2 * REGISTER_STEP  # of both peers
    assert max(took_s[-20:]) < 1.1 * max(took_s[:20])


@pytest.mark.parametrize("who", [("alice",), ("bob",), ("alice", "bob")])
def test_leaves_the_relay_only_while_it_will_know_the_way_back(who: tuple[str, ...]) -> None:
    pair = Pair(HOME, HOME)
    pair.replace_relay(RelayLimits(ids_per_owner=128))
    legs = [{"alice": pair.dialer, "bob": pair.accepter}[name].relay for name in who]
    for leg in legs:
        leg._request_hook = give_nothing_back
    pair.connect()
    rounds = 0
    while switch_there_and_back(pair, rounds):
        rounds += 1
    assert 50 < rounds < 64
    for name in who:
        assert pair.received[name].of(RelayRefused)[-1].status == 429
    assert pair.echoed(b"by way of the relay for ever")
    for leg in legs:
        leg._request_hook = standard_request
    assert switch_there_and_back(pair, rounds)  # or until the relay grants more


def test_a_relay_that_was_started_anew_binds_what_is_in_use() -> None:
    pair = Pair(HOME, HOME).connect()
    for number in range(40):
        assert switch_there_and_back(pair, number)
    assert pair.run_until_direct()
    pair.replace_relay()
    assert pair.world.run(60, lambda: pair.both(RelayLost))
    pair.world.run(10)
    registered = [event for event in relay_events(pair) if isinstance(event, Registered)]
    assert {event.address for event in registered} == {
        pair.dialer.relay.observed,
        pair.accepter.relay.observed,
    }
    assert max(event.num for event in registered) < 100
    assert switch_there_and_back(pair, 40)
