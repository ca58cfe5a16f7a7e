"""scenario.json: its round trip with everything that a scenario can say, and what is refused."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quicpipe_lab import resources
from quicpipe_lab.errors import ScenarioError
from quicpipe_lab.model import link_presets, nat_presets
from quicpipe_lab.model.event import PEER_EVENTS
from quicpipe_lab.model.firewall import FirewallBehavior, UdpPolicy
from quicpipe_lab.model.link import BurstLoss, LinkBehavior
from quicpipe_lab.model.nat import FilteringBehavior
from quicpipe_lab.model.scenario import (
    Attack,
    Cut,
    Hostility,
    Idle,
    Meanwhile,
    Outcome,
    Reboot,
    RestartRelay,
    Restore,
    Scenario,
    Step,
    Switch,
    Transfer,
    WaitFor,
)
from quicpipe_lab.model.scenario_data import dump_scenario, scenario_from_data, scenario_to_data
from quicpipe_lab.model.topology import Firewall, Host, Link, Nat, Relay, Topology

_fractions = st.floats(0, 1)
_behaviors = st.none() | st.builds(
    LinkBehavior,
    delay_s=st.floats(0.001, 1),
    loss=_fractions,
    burst_loss=st.none()
    | st.builds(BurstLoss, _fractions, st.floats(0.01, 1), _fractions, _fractions),
    duplicate=_fractions,
    rate_bps=st.none() | st.floats(1, 1e12),
    mtu_bytes=st.integers(68, 65535),
)
_firewalls = st.builds(
    FirewallBehavior,
    filtering=st.sampled_from(FilteringBehavior),
    udp=st.sampled_from(UdpPolicy),
    state_lifetime_s=st.floats(0.001, 30 * 86400.0),
)
_nats = st.sampled_from(sorted(nat_presets.PRESETS)).map(nat_presets.PRESETS.__getitem__)


@st.composite
def _scenarios(draw: st.DrawFn) -> Scenario:
    nodes = (
        Host("alice"),
        Host("bob"),
        Relay("relay"),
        Nat("nat", draw(_nats)),
        Firewall("wall", draw(_firewalls)),
    )
    dual_stack = draw(st.booleans())
    standby = () if dual_stack else (Link(("alice", "wall"), draw(_behaviors)),)
    links = (
        Link(("core", "relay"), draw(_behaviors), draw(_behaviors)),
        Link(("core", "nat"), draw(_behaviors), None, "198.18.7.2/30"),
        Link(("wall", "core")),
        Link(("nat", "alice"), None, draw(_behaviors)),
        Link(("wall", "bob"), LinkBehavior(), LinkBehavior()),
        *standby,
    )
    steps: tuple[Step, ...] = (
        WaitFor(path=draw(st.sampled_from((Outcome.DIRECT, Outcome.RELAYED)))),
        Transfer(draw(st.integers(500, 1 << 20)), wait=False),
        WaitFor(echoed_bytes=500, within_s=draw(st.floats(0, 1e6))),
        Cut(("alice", "bob")),
        Restore(("bob", "alice")),
        WaitFor(transfer=True),
        WaitFor(event=draw(st.sampled_from(PEER_EVENTS))),
        WaitFor(settled=True),
        Transfer(1),
        Idle(draw(st.floats(0.001, 59))),
        Reboot(draw(st.sampled_from(("nat", "wall")))),
        RestartRelay(),
        Attack(draw(st.sampled_from(Hostility))),
        *([] if dual_stack else [Switch("alice", "wall"), Switch("alice", "nat")]),
    )
    return Scenario(
        name=draw(st.text()),
        topology=Topology(draw(st.text()), nodes, links, dual_stack),
        dialer="alice",
        accepter="bob",
        relay="relay",
        expect=draw(st.sampled_from(Outcome)),
        steps=steps,
        summary=draw(st.text()),
        oob_delay_s=draw(st.floats(0, 10)),
        seed=draw(st.integers(-(2**63), 2**63 - 1)),
        direct_after_bytes=draw(st.integers(0, 1 << 30)),
        search=draw(st.booleans()),
        connect_within_s=draw(st.floats(0, 1e6)),
        meanwhile=(
            Meanwhile(draw(st.floats(0, 100)), Cut(("core", "relay")), draw(st.floats(0, 9))),
            Meanwhile(0.25, Cut(("alice", "relay"))),
            Meanwhile(1, Reboot("nat")),
            Meanwhile(2, RestartRelay()),
            Meanwhile(3, Attack(Hostility.COPY)),
        ),
    )


@given(_scenarios())
def test_round_trip(scenario: Scenario) -> None:
    impossible = {Switch} if scenario.topology.dual_stack else set()
    assert {type(one) for one in scenario.steps} == set(get_args(Step)) - impossible
    text = dump_scenario(scenario)
    assert text.count("\n") == 1
    assert scenario_from_data(json.loads(text)) == scenario


@pytest.mark.parametrize("name", resources.scenario_names())
def test_round_trip_of_the_bundled_ones(name: str) -> None:
    scenario = resources.find_scenario(name)
    assert scenario_from_data(json.loads(dump_scenario(scenario))) == scenario


def test_presets_of_links_are_kept_in_full() -> None:
    scenario = resources.find_scenario("nat-to-nat")
    for preset in link_presets.PRESETS.values():
        links = tuple(replace(one, towards_lower=preset.down) for one in scenario.topology.links)
        changed = replace(scenario, topology=replace(scenario.topology, links=links))
        assert scenario_from_data(scenario_to_data(changed)) == changed


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": 99}, "not a scenario of format"),
        ({"name": 3}, "not a scenario"),
        ({"scenario": []}, "not a scenario"),
        ({"scenario": {}}, "topology: is missing"),
        ({"scenario": {"topology": "two-homes"}}, "does not stand inside"),
    ],
)
def test_what_is_refused(change: dict[str, Any], says: str) -> None:
    data = scenario_to_data(resources.find_scenario("nat-to-nat"))
    with pytest.raises(ScenarioError, match=says):
        scenario_from_data(data | change)
    with pytest.raises(ScenarioError, match="not a scenario"):
        scenario_from_data([])


@pytest.mark.parametrize("key", ["format", "name", "topology_name", "scenario"])
def test_what_lacks_a_part_is_no_scenario(key: str) -> None:
    data = scenario_to_data(resources.find_scenario("nat-to-nat"))
    del data[key]
    with pytest.raises(ScenarioError, match="not a scenario"):
        scenario_from_data(data)


def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path) -> None:
    fifo = tmp_path / "scenario.json"
    os.mkfifo(fifo)
    with pytest.raises(ScenarioError, match="it is not a regular file"):
        resources.find_scenario(str(fifo))


def test_numbers_that_no_machine_counts_are_refused() -> None:
    usual = resources.find_scenario("nat-to-nat")
    changes: dict[str, Any] = {"oob_delay_s": 1e300, "deadline_s": 1e300, "seed": 10**400}
    for field, value in changes.items():
        with pytest.raises(ScenarioError) as refused:
            replace(usual, **{field: value})
        assert refused.value.path == field


def test_a_wait_for_what_nobody_reports_is_refused_at_once() -> None:
    scenario = resources.find_scenario("nat-to-nat")
    for name, known in (
        ("lunch", "; there are ready, "),
        ("conected", "; did you mean 'connected'"),
    ):
        with pytest.raises(ScenarioError) as refused:
            replace(scenario, steps=(WaitFor(event=name),))
        assert str(refused.value).startswith(f"step[0].event: no peer reports {name!r}{known}")
