"""What a user gets for a wrong document: file, line and field, for every complaint there is."""

import os
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quicpipe_lab.errors import ScenarioError
from quicpipe_lab.model.link import LinkBehavior
from quicpipe_lab.model.load import (
    load_scenario,
    load_topology,
    scenario_from_toml,
    topology_from_toml,
)
from quicpipe_lab.model.nat import FilteringBehavior, MappingBehavior, PortAssignment
from quicpipe_lab.model.nat_presets import PRESETS
from quicpipe_lab.model.scenario import Cut, Outcome, Restore, Transfer, WaitFor
from quicpipe_lab.model.topology import Nat, Topology

TOPOLOGY = """\
summary = "two homes"
host = [{ name = "alice" }, { name = "bob" }]
relay = [{ name = "relay" }]
nat = [
  { name = "nat-a", preset = "home" }, # a comment with a {
  { name = "nat-b", mapping = "APDM", filtering = "ADF", port_assignment = "preserving" },
]

[[link]]
between = ["core", "relay"]

[[link]]
between = ["core", "nat-a"]
delay_s = 0.01
loss = 0.25

[[link]]
between = ["core", "nat-b"]
lower_address = "198.18.7.2/30"

[[link]]
between = ["nat-a", "alice"]

[[link]]
between = ["nat-b", "bob"]
"""

SCENARIO = """\
summary = "all there is"
topology = "two-homes"
roles = { dialer = "alice", accepter = "bob", relay = "relay" }
expect = "direct"
oob_delay_s = 0.5
seed = 7
deadline_s = 30
direct_after_bytes = 1200

[[step]]
do = "wait"
path = "direct"
within_s = 5

[[step]]
do = "transfer"
size_bytes = 1000
wait = false

[[step]]
do = "wait"
echoed_bytes = 500

[[step]]
do = "cut"
between = ["alice", "bob"]

[[step]]
do = "restore"
between = ["bob", "alice"]

[[step]]
do = "wait"
transfer = true

[[step]]
do = "wait"
event = "path-changed"
"""


def _find(name: str) -> Topology:
    if name != "two-homes":
        raise ScenarioError("", f"there is no topology {name!r}")
    return topology_from_toml(TOPOLOGY, name, "two-homes.toml")


def test_everything_that_a_topology_can_say() -> None:
    topology = _find("two-homes")
    behavior = {nat.name: nat.behavior for nat in topology.nodes if isinstance(nat, Nat)}
    assert behavior["nat-a"] == PRESETS["home"]
    assert behavior["nat-b"].mapping is MappingBehavior.ADDRESS_AND_PORT_DEPENDENT
    assert behavior["nat-b"].filtering is FilteringBehavior.ADDRESS_DEPENDENT
    assert behavior["nat-b"].port_assignment is PortAssignment.PRESERVING
    assert str(topology.uplinks["nat-b"].lower_address) == "198.18.7.2"
    link = topology.uplinks["nat-a"].link
    assert link.towards_lower == link.towards_upper == LinkBehavior(delay_s=0.01, loss=0.25)


def test_everything_that_a_scenario_can_say() -> None:
    scenario = scenario_from_toml(SCENARIO, "all", "all.toml", _find)
    assert (scenario.name, scenario.summary, scenario.seed) == ("all", "all there is", 7)
    assert (scenario.dialer, scenario.accepter, scenario.relay) == ("alice", "bob", "relay")
    assert (scenario.oob_delay_s, scenario.deadline_s) == (0.5, 30.0)
    assert scenario.expect is Outcome.DIRECT
    assert scenario.direct_after_bytes == 1200
    assert scenario.steps == (
        WaitFor(path=Outcome.DIRECT, within_s=5.0),
        Transfer(1000, wait=False),
        WaitFor(echoed_bytes=500),
        Cut(("alice", "bob")),
        Restore(("bob", "alice")),
        WaitFor(transfer=True),
        WaitFor(event="path-changed"),
    )


def test_a_topology_may_stand_inside_its_scenario() -> None:
    inline = TOPOLOGY.replace("[[link]]", "[[topology.link]]")
    head, links = inline.split("[[topology.link]]", 1)
    text = SCENARIO.replace('topology = "two-homes"\n', "")
    text = f"{text}[topology]\n{head}[[topology.link]]{links}"
    scenario = scenario_from_toml(text, "inline", "inline.toml", _find)
    assert scenario.topology.links == _find("two-homes").links


# What is replaced in the good document, by what, and the complaint.
BAD_TOPOLOGIES = [
    ("]]\n", "]\n", "t.toml: not TOML: "),
    ('name = "bob"', "name = 7", "t.toml:2: host[1].name: must be a string, not 7"),
    ('{ name = "bob" }', '"bob"', "t.toml:2: host[1]: must be a table, not 'bob'"),
    ('{ name = "bob" }', "{ }", "t.toml:2: host[1].name: is missing"),
    ('name = "bob" }', 'name = "bob", os = "x" }', "t.toml:2: host[1].os: there is no such field"),
    ('"bob" }', '"Bob" }', "t.toml:2: node 'Bob': a name is up to 32 lower-case letters"),
    ('"bob" }', '"core" }', "t.toml:2: node 'core': 'core' is the core router's own name"),
    ('"bob" }', '"nat-b" }', "t.toml:6: node 'nat-b': two nodes have this name"),
    ('{ name = "relay" }', "1", "t.toml:3: relay[0]: must be a table"),
    ('relay = [{ name = "relay" }]', "relay = 1", "t.toml:3: relay: must be a list, not 1"),
    ('"home"', '"hovel"', "t.toml:5: nat[0].preset: 'hovel' is none of home, full-cone"),
    ('"APDM"', '"EIF"', "t.toml:6: nat[1].mapping: 'EIF' is none of EIM, ADM, APDM"),
    ('"ADF"', '"EIM"', "t.toml:6: nat[1].filtering: 'EIM' is none of EIF, ADF, APDF"),
    ('"preserving"', '"odd"', "t.toml:6: nat[1].port_assignment: 'odd' is none of preserving"),
    (
        'preset = "home"',
        "mapping_lifetime_s = -1",
        "t.toml:5: nat[0].mapping_lifetime_s: must be a finite number of 0 or more, not -1",
    ),
    (
        'preset = "home"',
        "mapping_lifetime_s = 0",
        "t.toml:5: nat[0].mapping_lifetime_s: is above 0 and at most 2592000 (30 days)",
    ),
    (
        'preset = "home"',
        "port_block_size = 64",
        "t.toml:5: nat[0].port_block_size: belongs to port_assignment 'block' (RFC 7422)",
    ),
    (
        'preset = "home"',
        'port_assignment = "preserving-overloading", filtering = "EIF"',
        "t.toml:5: nat[0].filtering: RFC 4787 4.2.1:",
    ),
    (
        'preset = "home"',
        'port_assignment = "sequential", port_parity = true',
        "t.toml:5: nat[0].port_parity: RFC 4787 REQ-4:",
    ),
    (
        'preset = "home"',
        'port_range = [1024, "x"]',
        "t.toml:5: nat[0].port_range: must be the first and the last port",
    ),
    (
        'preset = "home"',
        'unsolicited = "conntrack"',
        "t.toml:5: nat[0].port_assignment: plain Linux",
    ),
    (
        'preset = "home"',
        'preset = "hom"',
        "t.toml:5: nat[0].preset: 'hom' is none of",
    ),
    ('["core", "nat-a"]', '["core"]', "t.toml:13: link[1].between: must be two names"),
    ('["core", "nat-a"]', '["core", 1]', "t.toml:13: link[1].between: must be two names"),
    (
        '["core", "nat-a"]',
        '["core", "nat-c"]',
        "t.toml:13: link[1].between[1]: there is no node 'nat-c'",
    ),
    (
        '["core", "nat-a"]',
        '["core", "core"]',
        "t.toml:13: link[1].between: a link joins two different nodes",
    ),
    ('["core", "nat-a"]', '["core", "alice"]', "t.toml:21: link[3]: 'alice' is a host: nothing"),
    ('["core", "nat-a"]', '["core", "nat-b"]', "t.toml:17: link[2]: 'nat-b' is reached twice"),
    (
        '\n[[link]]\nbetween = ["core", "nat-a"]\ndelay_s = 0.01\nloss = 0.25\n',
        "",
        "t.toml:2: node 'alice': no link leads from it to 'core'",
    ),
    ("0.01", "-0.01", "t.toml:14: link[1].delay_s: must be a finite number of 0 or more"),
    ("0.01", "inf", "t.toml:14: link[1].delay_s: must be a finite number of 0 or more"),
    ("0.01", "nan", "t.toml:14: link[1].delay_s: must be a finite number of 0 or more"),
    ("0.01", "9" * 400, "t.toml:14: link[1].delay_s: TOML's integers have 64 bits"),
    ("0.01", "9" * 5000, "t.toml: not TOML: "),
    ("0.01", "[" * 100_000, "t.toml: not TOML: it is nested too deeply"),
    ("0.01", '"fast"', "t.toml:14: link[1].delay_s: must be an integer or a number, not 'fast'"),
    ("0.01", "true", "t.toml:14: link[1].delay_s: must be an integer or a number, not True"),
    ("0.25", "1.5", "t.toml:15: link[1].loss: is a fraction from 0 to 1"),
    ("loss =", "losss =", "t.toml:15: link[1].losss: there is no such field"),
    ("198.18.7.2/30", "far away", "t.toml:19: link[2].lower_address: "),
    ("198.18.7.2/30", "198.18.7.2/24", "t.toml:19: link[2].lower_address: give a host address"),
    ("198.18.7.2/30", "198.18.7.0/30", "t.toml:19: link[2].lower_address: give a host address"),
    (
        '["core", "nat-a"]',
        '["core", "nat-a"]\nlower_address = "198.18.7.1/30"',
        "t.toml:20: link[2].lower_address: link[1] has an address of 198.18.7.0/30 already",
    ),
    ('summary = "two homes"', "colour = 1", "t.toml:1: colour: there is no such field"),
    ('summary = "two homes"', "summary = 1", "t.toml:1: summary: must be a string, not 1"),
]


@pytest.mark.parametrize(("good", "bad", "complaint"), BAD_TOPOLOGIES)
def test_bad_topology(good: str, bad: str, complaint: str) -> None:
    assert TOPOLOGY.count(good) >= 1
    with pytest.raises(ScenarioError) as caught:
        topology_from_toml(TOPOLOGY.replace(good, bad, 1), "t", "t.toml")
    assert str(caught.value).startswith(complaint)
    assert "\n" not in str(caught.value)


BAD_SCENARIOS = [
    ('summary = "', "summary = ", "s.toml: not TOML: "),
    ('topology = "two-homes"\n', "", "s.toml: topology: is missing"),
    ('"two-homes"', "3", "s.toml:2: topology: must be a string or a table, not 3"),
    ('"two-homes"', '"three"', "s.toml:2: topology: there is no topology 'three'"),
    ("roles = {", "rolls = {", "s.toml: roles: is missing"),
    ('dialer = "alice", ', "", "s.toml:3: roles.dialer: is missing"),
    ('dialer = "alice"', 'dialer = "eve"', "s.toml:3: roles.dialer: the topology has no node"),
    (
        'dialer = "alice"',
        'dialer = "alcie"',
        "s.toml:3: roles.dialer: the topology has no node 'alcie'; did you mean 'alice'?",
    ),
    (
        'between = ["alice", "bob"]',
        'between = ["alice", "bbo"]',
        "s.toml:26: step[3].between[1]: there is no node 'bbo'; did you mean 'bob'?",
    ),
    ('dialer = "alice"', 'dialer = "nat-a"', "s.toml:3: roles.dialer: 'nat-a' is a NAT and runs"),
    ('dialer = "alice"', 'dialer = "core"', "s.toml:3: roles.dialer: the topology has no node"),
    ('"bob", relay', '"alice", relay', "s.toml:3: roles: dialer, accepter and relay are three"),
    ('relay = "relay"', 'relay = "relay", x = 1', "s.toml:3: roles.x: there is no such field"),
    ('expect = "direct"', 'expect = "no"', "s.toml:4: expect: 'no' is none of direct, relayed"),
    ('expect = "direct"', "expect = 1", "s.toml:4: expect: must be a string, not 1"),
    ('expect = "direct"\n', "", "s.toml: expect: is missing"),
    ("oob_delay_s = 0.5", "oob_delay_s = -1", "s.toml:5: oob_delay_s: must be a finite number"),
    ("seed = 7", "seed = 7.5", "s.toml:6: seed: must be an integer, not 7.5"),
    ("seed = 7", f"seed = {10**400}", "s.toml:6: seed: TOML's integers have 64 bits"),
    ("seed = 7", f"seed = {'9' * 5000}", "s.toml: not TOML: a number has too many digits"),
    ("oob_delay_s = 0.5", "oob_delay_s = 1e300", "s.toml:5: oob_delay_s: is 0 to 5184000 seconds"),
    ("deadline_s = 30", "deadline_s = 1e300", "s.toml:7: deadline_s: is 0 to 5184000 seconds"),
    ("within_s = 5", "within_s = 1e300", "s.toml:13: step[0].within_s: is 0 to 5184000 seconds"),
    ("seed = 7", "seed = false", "s.toml:6: seed: must be an integer, not False"),
    ("deadline_s = 30", 'deadline_s = "30"', "s.toml:7: deadline_s: must be an integer or a"),
    ("bytes = 1200", "bytes = -1", "s.toml:8: direct_after_bytes: is 0 or more, not -1"),
    ("direct_after_bytes = 1200", "search = 1", "s.toml:8: search: must be true or false, not 1"),
    ("bytes = 1200", "bytes = {}", "s.toml:8: direct_after_bytes: must be an integer, not {}"),
    ("direct_after_bytes = 1200", "options = {}", "s.toml:8: options: there is no such field"),
    ('do = "wait"', 'do = "dance"', "s.toml:11: step[0].do: 'dance' is none of transfer, wait"),
    ('do = "wait"\n', "", "s.toml:10: step[0].do: is missing"),
    ('path = "direct"', 'path = "failed"', "s.toml:12: step[0].path: is direct or relayed"),
    ('path = "direct"', 'path = "x"', "s.toml:12: step[0].path: 'x' is none of direct, relayed"),
    ('path = "direct"\n', "", "s.toml:10: step[0]: a wait has one of path, echoed_bytes"),
    (
        'path = "direct"',
        'path = "direct"\nevent = "x"',
        "s.toml:10: step[0]: a wait has one of path, echoed_bytes",
    ),
    ('path = "direct"', "transfer = true", "s.toml:10: step[0]: no transfer is under way"),
    ("within_s = 5", "within_s = -5", "s.toml:13: step[0].within_s: must be a finite number"),
    ("within_s", "wihtin_s", "s.toml:13: step[0].wihtin_s: there is no such field"),
    ("= 1000", "= 0", "s.toml:17: step[1].size_bytes: must be above 0"),
    ("= 1000", "= 9999999999", "s.toml:17: step[1].size_bytes: must be at most 134217728"),
    ("= 1000", "= 1e3", "s.toml:17: step[1].size_bytes: must be an integer, not 1000.0"),
    ("wait = false", "wait = 0", "s.toml:18: step[1].wait: must be true or false, not 0"),
    ("wait = false", "wait = true", "s.toml:20: step[2]: no transfer is under way"),
    ("echoed_bytes = 500", "echoed_bytes = 0", "s.toml:22: step[2].echoed_bytes: is from 1 to"),
    (
        "echoed_bytes = 500",
        "echoed_bytes = 1001",
        "s.toml:22: step[2].echoed_bytes: is from 1 to the transfer's 1000",
    ),
    (
        'do = "wait"\nechoed_bytes = 500',
        'do = "transfer"\nsize_bytes = 1',
        "s.toml:20: step[2]: the transfer before it was never waited for",
    ),
    ("transfer = true", 'event = "ready"', "s.toml:15: step[1]: this transfer is never waited"),
    (
        'event = "path-changed"',
        'event = "path-chnged"',
        "s.toml:38: step[6].event: no peer reports 'path-chnged'; did you mean 'path-changed'?",
    ),
    ('["alice", "bob"]', '["alice"]', "s.toml:26: step[3].between: must be two names"),
    ('["alice", "bob"]', '["alice", "eve"]', "s.toml:26: step[3].between[1]: there is no node"),
    ('["alice", "bob"]', '["bob", "bob"]', "s.toml:26: step[3].between: names two different"),
    ('["bob", "alice"]', '["core", "alice"]', "s.toml:30: step[4].between: restores what was"),
    ("[[step]]\n", "[step]\n", "s.toml: not TOML: "),
]


@pytest.mark.parametrize(("good", "bad", "complaint"), BAD_SCENARIOS)
def test_bad_scenario(good: str, bad: str, complaint: str) -> None:
    assert SCENARIO.count(good) >= 1
    with pytest.raises(ScenarioError) as caught:
        scenario_from_toml(SCENARIO.replace(good, bad, 1), "s", "s.toml", _find)
    assert str(caught.value).startswith(complaint)
    assert "\n" not in str(caught.value)


def test_roles_in_a_table_of_their_own_have_their_own_lines() -> None:
    text = SCENARIO.replace('roles = { dialer = "alice", accepter = "bob", relay = "relay" }\n', "")
    text += '[roles]\ndialer = "alice"\naccepter = "eve"\nrelay = "relay"\n'
    line = text.splitlines().index('accepter = "eve"') + 1
    with pytest.raises(ScenarioError, match=rf"^s\.toml:{line}: roles\.accepter: "):
        scenario_from_toml(text, "s", "s.toml", _find)


def test_a_fault_in_another_file_names_that_file_too() -> None:
    def find(name: str) -> Topology:
        return topology_from_toml(TOPOLOGY.replace('"bob"]', '"rob"]'), name, "two-homes.toml")

    with pytest.raises(ScenarioError) as caught:
        scenario_from_toml(SCENARIO, "s", "s.toml", find)
    assert str(caught.value) == (
        "s.toml:2: topology: two-homes.toml:25: link[4].between[1]: there is no node 'rob'"
    )


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b'summary = "caf\xe9"')
    endless = tmp_path / "endless.toml"
    endless.symlink_to("/dev/zero")
    fifo = tmp_path / "fifo.toml"
    os.mkfifo(fifo)
    huge = tmp_path / "huge.toml"
    huge.write_text("#" * 1_000_001)
    for path, reason in [
        (tmp_path / "none.toml", "No such file"),
        (tmp_path, "Is a directory"),
        (latin, "it is not UTF-8 text"),
        (endless, "it is not a regular file"),
        (fifo, "it is not a regular file"),
        (huge, "it has more than 1000000 characters"),
    ]:
        with pytest.raises(ScenarioError, match=f"cannot read {path}: {reason}"):
            load_topology(path)
        with pytest.raises(ScenarioError, match=f"cannot read {path}: {reason}"):
            load_scenario(path, _find)


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    marked = tmp_path / "marked.toml"
    marked.write_text(TOPOLOGY, "utf-8-sig")
    assert load_topology(marked) == topology_from_toml(TOPOLOGY, "marked", "")


_lines = st.sampled_from(
    [*TOPOLOGY.splitlines(), *SCENARIO.splitlines(), "=", "[", "nat = 3", "link = [1]", "step = {}"]
)


@given(st.lists(_lines, max_size=12).map("\n".join) | st.text())
def test_any_document_is_read_or_refused_with_one_line(text: str) -> None:
    """Lines of good documents in any order come close to each rule from all sides."""
    for read in (
        lambda: topology_from_toml(text, "t", "t.toml"),
        lambda: scenario_from_toml(text, "s", "s.toml", _find),
    ):
        try:
            read()
        except ScenarioError as error:
            assert str(error).startswith(("t.toml", "s.toml"))
            assert len(str(error).splitlines()) == 1


def test_outcomes_as_plain_strings_from_python() -> None:
    scenario = scenario_from_toml(SCENARIO, "s", "s.toml", _find)
    assert replace(scenario, expect=cast(Outcome, "direct")).expect is Outcome.DIRECT
    assert WaitFor(path=cast(Outcome, "relayed")).path is Outcome.RELAYED
    with pytest.raises(ScenarioError, match="expect: 'x' is none of direct, relayed, failed"):
        replace(scenario, expect=cast(Outcome, "x"))
    with pytest.raises(ScenarioError, match="path: 'x' is none of direct, relayed, failed"):
        WaitFor(path=cast(Outcome, "x"))
