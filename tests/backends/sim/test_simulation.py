"""Time under control: steps, events, conditions, the way back, tables over time."""

import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest

from quicpipe_lab import simulate
from quicpipe_lab.backends import base
from quicpipe_lab.backends.event_names import event_names
from quicpipe_lab.backends.sim.simulation import Simulation
from quicpipe_lab.errors import LocalProtocolError, ScenarioError
from quicpipe_lab.evidence import open_run
from quicpipe_lab.model.event import PEER_EVENTS, name_of
from quicpipe_lab.protocol.direct_states import State
from quicpipe_lab.protocol.endpoint import Endpoint
from quicpipe_lab.protocol.events import EndpointEvent, StreamData
from quicpipe_lab.resources import find_scenario, folder

ELSEWHERE = [sys.executable, str(Path(__file__).parent / "elsewhere.py")]


def test_however_it_is_driven_it_is_the_same_run(tmp_path: Path) -> None:
    scenario = find_scenario("public-to-nat")
    at_once = base.run(scenario, backend="sim", run_dir=tmp_path, certify=False)
    lines = (tmp_path / "events.jsonl").read_text().splitlines()
    simulation = simulate("public-to-nat")
    for time_s in (0.01, 0.0505, 0.051):
        simulation.run_to(time_s)
        assert simulation.now == time_s
    while simulation.step():
        pass
    assert simulation.is_over
    assert [event.dumps() for event in simulation.events] == lines
    result = simulation.run()
    assert result.run_dir is None
    assert (result.times_s, result.bytes) == (at_once.times_s, at_once.bytes)


def test_to_an_event_and_back(tmp_path: Path) -> None:
    with Simulation(find_scenario("nat-to-nat"), run_dir=tmp_path) as simulation:
        started = simulation.run_until("punch-started", node="alice")
        assert started is not None
        assert started.t_s == simulation.now
        alice = simulation.machine("alice")
        assert isinstance(alice, Endpoint)
        assert alice.direct.state is State.PUNCHING
        changed = simulation.run_until("path-changed")
        assert changed is not None
        assert alice.is_direct == (changed.node == "alice")
        simulation.rewind(started.t_s)
        assert simulation.events[-1] == started or started in simulation.events
        assert simulation.machine("alice") is not alice
        again = simulation.run_until("path-changed")
        assert again == changed
        assert simulation.run_until("port-search-started") is None
        assert simulation.is_over
        result = simulation.run()
        assert result.ok
    found = open_run(tmp_path)
    assert (found.warnings, found.run.result) == ((), result)
    assert found.frames


@pytest.mark.parametrize(
    ("name", "node", "says"),
    [
        ("punch-startd", None, r"'punch-startd'; did you mean 'punch-started'\?"),
        (
            "x",
            None,
            "no event is called 'x'; there are attacked, bound, .*transfer-st",
        ),
        ("bound", "alice", r"no event of 'alice' is called 'bound'; .*punch-started"),
        ("connected", "alcie", r"no node 'alcie' reports events; did you mean 'alice'\?"),
        ("connected", "core", "no node 'core' reports events: alice, bob, relay, lab do"),
    ],
)
def test_a_name_that_no_event_has_is_refused_at_once(
    name: str, node: str | None, says: str
) -> None:
    simulation = simulate("nat-to-nat")
    with pytest.raises(LocalProtocolError, match=says):
        simulation.run_until(name, node=node)
    assert simulation.now == 0.0
    assert not simulation.is_over


@pytest.mark.parametrize("scenario", ["nat-to-nat", "udp-blocked", "port-search", "long-way"])
def test_every_event_has_a_name_that_is_known(scenario: str) -> None:
    simulation = simulate(scenario)
    simulation.run()
    said = {(event.node, event.name) for event in simulation.events}
    known = event_names(simulation.scenario)
    assert said <= {(node, name) for node, names in known.items() for name in names}


def test_the_model_knows_what_peers_report() -> None:
    """Two programs' own, and all that the machines tell; but streams carry what is the users'."""
    told = {name_of(one) for one in get_args(EndpointEvent)} - {name_of(StreamData)}
    assert set(PEER_EVENTS) == told | {"ready", "statistics"}


def test_until_a_condition_of_any_machine_holds() -> None:
    simulation = simulate("nat-to-nat")

    def has_two_filters(one: Simulation) -> bool:
        return len(one.table("nat-a").filters) == 2  # the relay, and now bob

    simulation.run_until(has_two_filters)
    started = [event.t_s for event in simulation.events if event.name == "punch-started"]
    assert simulation.now == pytest.approx(max(started), abs=0.001)
    for name, says in (("core", "no machine runs at 'core'"), ("moon", "no machine runs at")):
        with pytest.raises(LocalProtocolError, match=says):
            simulation.machine(name)
    with pytest.raises(LocalProtocolError, match="there is no NAT"):
        simulation.table("moon")


def test_tables_over_time_are_data() -> None:
    times_s = [0.0, 0.02, 0.1, 0.15]
    found = list(simulate("nat-to-nat").tables("nat-a", times_s))
    assert [time_s for time_s, _ in found] == times_s
    assert [len(table.filters) for _, table in found] == [1, 1, 2, 2]
    (mapping,) = found[-1][1].mappings  # EIM: one for all
    assert mapping.born_s == 0.0 < mapping.refreshed_s < mapping.expires_s


def test_tables_over_time_are_of_either_version() -> None:
    simulation = simulate("ipv6-to-ipv6")
    (router, *_) = simulation.scenario.topology.nats_above("alice")
    ((_, ipv6),) = simulation.tables(router.name, [0.5], 6)
    ((_, ipv4),) = simulation.tables(router.name, [0.5])
    simulation.run_to(0.5)
    assert ipv6 == simulation.table(router.name, 6)
    assert ipv6 != ipv4 == simulation.table(router.name)


def test_two_at_a_time_do_not_disturb_each_other() -> None:
    one, other = simulate("nat-to-nat"), simulate("nat-to-nat")
    while one.step() and other.step():
        pass
    assert one.run() == other.run()
    assert one.events == other.events


def test_where_something_raises_the_run_is_over_and_can_begin_anew() -> None:
    simulation = simulate("public-to-nat")
    simulation.network.clock.after(0.05, lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        simulation.run()
    assert simulation.is_over
    assert not simulation.step()
    with pytest.raises(LocalProtocolError, match=r"given up at 0\.05 s"):
        simulation.run()
    simulation.rewind(0.0)
    assert simulation.run().ok


def test_what_was_given_up_has_no_result() -> None:
    simulation = simulate("symmetric-to-symmetric")
    simulation.run_to(0.0005)
    simulation.close()
    assert simulation.is_over
    with pytest.raises(LocalProtocolError, match=r"given up at 0\.0005 s; rewind\(0\) begins"):
        simulation.run()
    simulation.rewind(0)
    result = simulation.run()
    simulation.close()
    assert simulation.run() == result  # it was over before


def test_what_is_no_time_is_refused() -> None:
    simulation = simulate("public-to-nat")
    wrong: list[Any] = [float("nan"), "1", None]
    for go in (simulation.run_to, simulation.rewind):
        for time_s in wrong:
            with pytest.raises(LocalProtocolError, match=f"{time_s!r} is no time to run to"):
                go(time_s)
    assert not simulation.is_over


def test_what_is_neither_a_scenario_nor_a_condition_nor_a_version_is_refused() -> None:
    nothing: Any = None
    with pytest.raises(ScenarioError, match="is one, or its name or path, not None"):
        simulate(nothing)
    simulation = simulate("nat-to-nat")
    with pytest.raises(LocalProtocolError, match="None is neither an event's name nor a cond"):
        simulation.run_until(nothing)
    with pytest.raises(LocalProtocolError, match="an IP version is 4 or 6, not 5"):
        simulation.table("nat-a", 5)


def test_a_scenario_may_be_a_path() -> None:
    by_path = simulate(folder("netns") / "scenarios" / "public-to-nat.toml")
    assert by_path.scenario == find_scenario("public-to-nat")
    assert simulate(Path("public-to-nat")).scenario == by_path.scenario


def test_without_what_only_linux_has() -> None:
    code = "from quicpipe_lab import simulate; print(simulate('public-to-nat').run().outcome)"
    done = subprocess.run([*ELSEWHERE, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "direct\n"), done.stderr
