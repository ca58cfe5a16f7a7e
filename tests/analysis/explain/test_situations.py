"""What else can come between two peers, or join them: the scenario, and its cause."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from quicpipe_lab import resources
from quicpipe_lab.analysis.explain import explain, why
from quicpipe_lab.analysis.explain.causes import SENTENCES, Cause
from quicpipe_lab.analysis.run_files import Run
from quicpipe_lab.backends.sim import cast
from quicpipe_lab.backends.situations import situations
from quicpipe_lab.model.event import Event
from quicpipe_lab.model.link import LinkBehavior
from quicpipe_lab.model.nat import FilteringBehavior, NatBehavior
from quicpipe_lab.model.nat_presets import PRESETS
from quicpipe_lab.model.result import Bytes, Certified, RunResult
from quicpipe_lab.model.scenario import (
    Cut,
    Outcome,
    Restore,
    Scenario,
    Switch,
    Transfer,
    WaitFor,
)
from quicpipe_lab.model.topology import Firewall, Host, Link, Nat, Relay, Topology
from tests.analysis.explain.playing import play, verdict_on

SETTLED = WaitFor(settled=True, within_s=30.0)


def bundled(name: str) -> Scenario:
    scenario = resources.find_scenario(name)
    transfers = scenario.expect is Outcome.FAILED
    return scenario if transfers else replace(scenario, steps=(SETTLED,), direct_after_bytes=0)


def situation(name: str) -> Scenario:
    return next(one for one in situations() if one.row == name).scenario()


def phone_behind(carrier: NatBehavior) -> Scenario:
    """It switches to LTE, and the carrier's NAT is another one."""
    given = resources.find_scenario("handover")
    nodes = tuple(
        Nat("carrier", carrier) if one.name == "carrier" else one for one in given.topology.nodes
    )
    steps = WaitFor(path=Outcome.DIRECT), Switch("alice", "carrier"), WaitFor(event="punch-failed")
    return replace(
        given,
        topology=replace(given.topology, nodes=nodes),
        steps=(*steps, Transfer(1000)),
        expect=Outcome.RELAYED,
    )


def two_homes(
    a: NatBehavior,
    b: NatBehavior,
    links: Mapping[tuple[str, str], tuple[LinkBehavior | None, LinkBehavior | None]] | None = None,
    **fields: Any,
) -> Scenario:
    """``links``: what a link does, towards its lower and towards its upper end."""
    ends = [("core", "relay"), ("core", "nat-a"), ("core", "nat-b")]
    ends += [("nat-a", "alice"), ("nat-b", "bob")]
    nodes = Host("alice"), Host("bob"), Relay("relay"), Nat("nat-a", a), Nat("nat-b", b)
    behaviors = links or {}
    topology = Topology(
        "homes", nodes, tuple(Link(one, *behaviors.get(one, (None, None))) for one in ends)
    )
    given = {"steps": (SETTLED,), "oob_delay_s": 0.0, "expect": Outcome.DIRECT, **fields}
    return Scenario("situation", topology, "alice", "bob", "relay", **given)


HOME = NatBehavior()
LINUX = PRESETS["linux-masquerade"]
SLOW = LinkBehavior(delay_s=0.05)
NOTHING_PASSES = LinkBehavior(loss=1.0)
DEAF = {("core", "relay"): (None, NOTHING_PASSES)}
"""Whom nobody hears."""
EARLY = {("nat-b", "bob"): (SLOW, SLOW)}


@pytest.mark.parametrize(
    ("scenario", "cause", "details"),
    [
        (bundled("same-nat"), Cause.SAME_NETWORK, {"network": "nat"}),
        (bundled("same-carrier"), Cause.HAIRPIN, {"nat": "carrier"}),
        (
            situation("same-carrier-hairpin-none"),
            Cause.NO_HAIRPIN,
            {"nat": "shared"},
        ),
        (bundled("public-to-nat"), Cause.ONE_IS_OPEN, {"open": "alice", "router": "nat-b"}),
        (situation("firewall-to-firewall"), Cause.FIREWALLS, {}),
        (bundled("ipv6-to-ipv6"), Cause.FIREWALLS, {}),
        (bundled("three-layers"), Cause.SIMULTANEOUS_OPEN, {}),
        (bundled("only-port-443"), Cause.PORTS_BLOCKED, {"nat": "strict", "sender": "carol"}),
        (bundled("udp-blocked"), Cause.UDP_BLOCKED, {"nat": "blocked", "sender": "dave"}),
        (
            two_homes(LINUX, HOME, EARLY),
            Cause.EARLY_PACKET,
            {"nat": "nat-a", "mover": "alice", "filterer": "nat-b"},
        ),
        (
            # While alice cannot ask the relay, nobody learns where her NAT has moved her.
            two_homes(
                replace(HOME, mapping_lifetime_s=1.5),
                HOME,
                oob_delay_s=8.0,
                steps=(
                    WaitFor(event="punch-started"),
                    Cut(("alice", "relay")),
                    WaitFor(event="punch-failed"),
                    Restore(("alice", "relay")),
                ),
                expect=Outcome.RELAYED,
            ),
            Cause.MAPPING_EXPIRED,
            {"nat": "nat-a", "idle_s": "8.0"},
        ),
        (
            two_homes(HOME, HOME, DEAF),
            Cause.RELAY_ANSWERS_LOST,
            {"sender": "alice", "nat": "relay"},
        ),
        (
            two_homes(HOME, HOME, {("core", "relay"): (NOTHING_PASSES, None)}),
            Cause.RELAY_UNREACHABLE,
            {"sender": "alice", "nat": "core"},
        ),
        (
            two_homes(
                HOME,
                HOME,
                direct_after_bytes=10**9,
                steps=(Transfer(1000),),
                expect=Outcome.RELAYED,
            ),
            Cause.NOT_TRIED,
            {},
        ),
        (
            two_homes(HOME, HOME, steps=(Transfer(1000),), expect=Outcome.RELAYED),
            Cause.FOUND_TOO_LATE,
            {},
        ),
        (
            two_homes(
                HOME,
                HOME,
                steps=(SETTLED, Cut(("alice", "bob")), Transfer(100_000)),
                expect=Outcome.RELAYED,
            ),
            Cause.DIRECT_PATH_DIED,
            {"why": ", after the way between alice and bob was cut"},
        ),
        (
            phone_behind(PRESETS["symmetric"]),
            Cause.DIRECT_PATH_DIED,
            {"why": ", after alice switched to carrier"},
        ),
        (
            two_homes(HOME, HOME, steps=(Cut(("alice", "bob")), SETTLED), expect=Outcome.RELAYED),
            Cause.PUNCHES_LOST,
            {},
        ),
    ],
    ids=lambda value: str(value) if isinstance(value, Cause) else "",
)
def test_cause(scenario: Scenario, cause: Cause, details: dict[str, str]) -> None:
    verdict = verdict_on(play(scenario))
    assert verdict.cause is cause, verdict.sentence
    assert details.items() <= verdict.details.items()
    assert verdict.sentence.startswith(f"{verdict.outcome}, because ")


def test_who_hears_an_early_packets_victim_answers_there() -> None:
    open_home = replace(HOME, filtering=FilteringBehavior.ADDRESS_DEPENDENT)
    verdict = verdict_on(play(two_homes(LINUX, open_home, EARLY)))
    assert verdict.cause is Cause.PEER_REFLEXIVE
    assert verdict.details["reason"] == (
        "an early packet had taken it at nat-a, plain Linux masquerading"
    )


@pytest.mark.parametrize(
    ("what", "fields", "cause"),
    [
        ("DialerConfig", {"peer_fingerprint": "00" * 32}, Cause.PEER_UNTRUSTED),
        ("RelayTrust", {"fingerprint": "00" * 32}, Cause.RELAY_UNTRUSTED),
    ],
)
def test_a_wrong_fingerprint(
    what: str, fields: dict[str, str], cause: Cause, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Callable[..., Any] = getattr(cast, what)
    monkeypatch.setattr(cast, what, lambda **given: real(**{**given, **fields}))
    verdict = verdict_on(play(two_homes(HOME, HOME)))
    assert verdict.cause is cause, verdict.sentence
    assert "alice does not trust this" in verdict.sentence
    assert "00" * 32 in verdict.sentence


def test_a_relay_is_silent_only_where_it_sent_nothing() -> None:
    deaf = play(two_homes(HOME, HOME, DEAF))
    unanswered = [one for one in deaf.frames if (one.node, one.direction) != ("relay", "out")]
    verdict = why(deaf.run, unanswered, deaf.epoch_unix_s)
    assert verdict.cause is Cause.RELAY_SILENT, verdict.sentence
    # It did answer, and the dialer was killed before it said that it is registered.
    heard = play(two_homes(HOME, HOME))
    registered, *_ = heard.run.named("relay-registered", "alice")
    until = tuple(one for one in heard.run.events if one.t_s < registered.t_s)
    killed = replace(heard.run, events=until, result=failed(failure="alice ended with -9"))
    verdict = why(killed, heard.frames, heard.epoch_unix_s)
    assert verdict.sentence == "failed, because alice ended with -9."


def test_without_a_capture_theory_has_to_do() -> None:
    scenario = replace(bundled("symmetric-to-symmetric"), expect=Outcome.RELAYED)
    verdict = verdict_on(play(scenario, capture=False))
    assert verdict.cause is Cause.RELAYED
    assert "nothing was captured; by what they are said to be, APDM/APDF" in verdict.sentence


def run_of(*events: Event, result: RunResult | None = None) -> Run:
    return Run(Path("none"), two_homes(HOME, HOME), events, result)


def failed(**fields: Any) -> RunResult:
    given = {"failure": "the lab said so", "bytes": Bytes(), **fields}
    return RunResult("one", "sim", Outcome.FAILED, Outcome.DIRECT, False, **given)


def test_what_only_the_events_or_the_result_tell() -> None:
    refused = Event(1.0, "bob", "relay-refused", {"status": 401, "problem": "no token"})
    cases = [
        (run_of(refused, result=failed()), Cause.RELAY_REFUSED, "bob with status 401: no token"),
        (
            run_of(result=failed(certified={"nat-a": Certified(False)})),
            Cause.NAT_DIFFERENT,
            "the lab said so",
        ),
        (run_of(result=failed()), Cause.FAILED, "failed, because the lab said so."),
        (run_of(), Cause.FAILED, "it was killed, or could not be run"),
    ]
    for run, cause, words in cases:
        verdict, rows = explain(run)
        assert verdict.cause is cause
        assert words in verdict.sentence
        assert [row.node for row in rows] == [event.node for event in run.events]


@pytest.mark.parametrize(
    ("name", "after_bytes", "cause", "words"),
    [
        ("symmetric-to-symmetric", 0, Cause.BOTH_MAPPINGS_DEPEND, "both NATs map per destination"),
        ("nat-to-nat", 10**6, Cause.NOT_TRIED, "it was to begin after 1000000 bytes."),
        ("ipv4-to-ipv6", 0, Cause.RELAYED, "the relay alone speaks both families."),
    ],
)
def test_a_direct_path_waited_for_in_vain_has_its_cause(
    name: str, after_bytes: int, cause: Cause, words: str
) -> None:
    steps = (WaitFor(path=Outcome.DIRECT, within_s=2.0),)
    given = replace(resources.find_scenario(name), steps=steps, direct_after_bytes=after_bytes)
    verdict = verdict_on(play(given))
    assert (verdict.outcome, verdict.cause) == (Outcome.FAILED, cause)
    vain = "failed, because waited in vain for both peers to use the direct path (2 s): "
    assert verdict.sentence.startswith(vain)
    assert words in verdict.sentence


def test_every_cause_has_a_sentence() -> None:
    assert set(SENTENCES) == set(Cause)


def test_public_hosts_meet_with_nothing_between() -> None:
    topology = Topology(
        "public",
        (Host("alice"), Host("bob"), Relay("relay")),
        tuple(Link(("core", name)) for name in ("alice", "bob", "relay")),
    )
    scenario = replace(two_homes(HOME, HOME), topology=topology)
    assert verdict_on(play(scenario)).cause is Cause.NO_ROUTERS
    walled = replace(
        topology,
        nodes=(*topology.nodes, Firewall("wall")),
        links=(Link(("core", "wall")), Link(("wall", "bob")), *topology.links[::2]),
    )
    verdict = verdict_on(play(replace(scenario, topology=walled)))
    assert verdict.cause is Cause.ONE_IS_OPEN
    assert verdict.details["router"] == "wall"
