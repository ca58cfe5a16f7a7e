"""Declared against measured, and what several NATs in a row are to look like."""

from dataclasses import replace
from typing import Any

import pytest

from quicpipe_lab.model.nat import (
    AddressPooling,
    FilteringBehavior,
    FilterScope,
    Hairpinning,
    MappingBehavior,
    MappingRefresh,
    NatBehavior,
    PortAssignment,
    UnsolicitedReaction,
)
from quicpipe_lab.model.nat_certificate import Certificate, Finding, certify, findings_of
from quicpipe_lab.model.nat_declaration import declare
from quicpipe_lab.model.nat_measurement import NatMeasurement, Property

EIM, ADM, APDM = MappingBehavior
EIF, ADF, APDF = FilteringBehavior
HOST = "198.18.0.6"


def measurement(**changes: str) -> NatMeasurement:
    """Of a NAT that is NatBehavior()."""
    measured = {
        Property.EXTERNAL_ADDRESS: HOST,
        Property.MAPPING: "EIM",
        Property.FILTERING: "APDF",
        Property.PORT_ASSIGNMENT: "random",
        Property.SAME_PORT: "distinct ports, EIM",
        Property.HAIRPINNING: "none",
        Property.UNSOLICITED: "no effect",
        Property.REJECTION: "none",
    }
    for name, word in changes.items():
        measured[Property[name]] = word
    return NatMeasurement(
        words={what.value: word for what, word in measured.items()},
        ports=[(40001, 5004), (40003, 7341), (40006, 29877)],
        hosts=[HOST],
    )


def certificate(measured: NatMeasurement, *chain: NatBehavior) -> Certificate:
    names = [f"nat-{place}" for place in range(len(chain) or 1)]
    hosts = [HOST, "198.18.0.7"][: chain[-1].external_addresses if chain else 1]
    declared = declare(chain or [NatBehavior()], hosts)
    return certify("nat-0", "alice", names, declared, hosts, measured)


def differences(one: Certificate) -> set[str]:
    return {finding.property for finding in one.findings if finding.ok is False}


def test_as_declared() -> None:
    one = certificate(measurement())
    assert one.ok
    assert one.difference() is None
    assert len(one.findings) == len(measurement().words)
    summary = one.summary()
    assert summary.ok
    assert summary.declared == summary.measured


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("MAPPING", "APDM"),
        ("FILTERING", "ADF"),
        ("PORT_ASSIGNMENT", "preserving"),
        ("SAME_PORT", "shared port"),
        ("HAIRPINNING", "external-source"),
        ("UNSOLICITED", "moves the next mapping"),
        ("REJECTION", "ICMP port unreachable"),
        ("MAPPING", "no answer"),
    ],
)
def test_each_difference_is_found(name: str, word: str) -> None:
    one = certificate(measurement(**{name: word}))
    assert differences(one) == {Property[name]}
    assert not one.ok
    text = f"nat-0 is not what it is declared to be: {Property[name].value} is {word} and not "
    assert (one.difference() or "").startswith(text)
    assert not one.summary().ok


def test_a_property_that_was_not_measured_and_nobody_says_why_is_a_difference() -> None:
    measured = measurement()
    del measured.words[Property.REJECTION]
    assert differences(certificate(measured)) == {Property.REJECTION}
    measured.remarks[Property.REJECTION] = "nobody looked"
    one = certificate(measured)
    assert one.ok
    assert Finding(Property.REJECTION, "none", None, None, "nobody looked") in one.findings


@pytest.mark.parametrize(
    ("bracket", "ok"),
    [
        ((285.0, 315.0), True),
        ((285.0, 300.0), True),
        ((300.0, 315.0), False),
        ((270.0, 285.0), False),
        ((285.0, None), False),
        ((315.0, None), False),
    ],
)
def test_lifetime(bracket: tuple[float, float | None], ok: bool) -> None:
    measured = measurement(REFRESH="outbound")
    measured.lifetime_s = bracket
    assert differences(certificate(measured)) == (set() if ok else {Property.LIFETIME})


def test_lifetime_that_could_not_be_measured_is_a_difference() -> None:
    measured = measurement()
    measured.remarks = {Property.LIFETIME: "no answer", Property.REFRESH: "no answer"}
    assert differences(certificate(measured)) == {Property.LIFETIME}


def test_what_few_ports_can_contradict() -> None:
    block = NatBehavior(port_assignment=PortAssignment.BLOCK, port_block_size=64)
    measured = measurement()
    assert differences(certificate(measured, block)) == {Property.PORT_ASSIGNMENT}
    measured.ports = [(1, 1024 + 64), (2, 1024 + 127), (3, 1024 + 100)]
    assert certificate(measured, block).ok
    measured.ports.append((4, 1024 + 128))
    assert not certificate(measured, block).ok

    bounded = NatBehavior(port_range=(2000, 2999))
    assert differences(certificate(measurement(), bounded)) == {Property.PORT_RANGE}
    measured = measurement()
    measured.ports = [(1, 2000), (2, 2999)]
    assert certificate(measured, bounded).ok

    assert differences(certificate(measurement(), NatBehavior(port_parity=True))) == {
        Property.PORT_PARITY
    }
    measured.ports = [(1, 2001), (2, 2996)]
    assert certificate(measured, NatBehavior(port_parity=True)).ok


def test_pooling() -> None:
    paired = NatBehavior(external_addresses=2)
    arbitrary = NatBehavior(external_addresses=2, pooling=AddressPooling.ARBITRARY)
    one, two = measurement(), measurement()
    two.hosts = ["198.18.0.6", "198.18.0.7"]
    assert certificate(one, paired).ok
    assert certificate(two, arbitrary).ok
    assert differences(certificate(two, paired)) == {Property.POOLING}
    assert differences(certificate(one, arbitrary)) == {Property.POOLING}
    two.hosts = ["198.18.0.6", "198.18.0.8"]
    assert differences(certificate(two, arbitrary)) == {Property.EXTERNAL_ADDRESS}


def declared(*chain: NatBehavior, **changes: Any) -> dict[Property, str]:
    return declare(chain or [NatBehavior(**changes)], [HOST]).words


@pytest.mark.parametrize(
    ("chain", "mapping", "filtering", "scope"),
    [
        ((NatBehavior(EIM, EIF), NatBehavior(APDM, ADF)), "APDM", "ADF", "endpoint"),
        ((NatBehavior(EIM, APDF), NatBehavior(ADM, EIF)), "ADM", "APDF", "endpoint"),
        ((NatBehavior(EIM, EIF), NatBehavior(EIM, ADF)), "EIM", "ADF", None),
        # To the outer NAT, each mapping of the inner one is an endpoint of its own.
        ((NatBehavior(APDM, EIF), NatBehavior(EIM, ADF)), "APDM", "ADF", "mapping"),
        ((NatBehavior(APDM, ADF), NatBehavior(EIM, EIF)), "APDM", "ADF", "endpoint"),
        (
            (NatBehavior(ADM, ADF, filter_scope=FilterScope.MAPPING), NatBehavior(EIM, EIF)),
            "ADM",
            "ADF",
            "mapping",
        ),
    ],
)
def test_behind_several_nats_the_stricter_holds(
    chain: tuple[NatBehavior, ...], mapping: str, filtering: str, scope: str | None
) -> None:
    said = declared(*chain)
    assert said[Property.MAPPING] == mapping
    assert said[Property.FILTERING] == filtering
    assert said.get(Property.FILTER_SCOPE) == scope
    assert said[Property.SAME_PORT] == f"distinct ports, {mapping}"


@pytest.mark.parametrize(
    ("chain", "word"),
    [
        (("preserving", "preserving"), "preserving"),
        (("preserving", "random"), "random"),
        (("random", "preserving"), "random"),
        (("random", "sequential"), "sequential, step 1"),
        (("preserving-overloading", "preserving"), "preserving"),
    ],
)
def test_behind_several_nats_the_ports_are_the_last_choice(
    chain: tuple[str, ...], word: str
) -> None:
    nats = [NatBehavior(port_assignment=PortAssignment(one)) for one in chain]
    assert declared(*nats)[Property.PORT_ASSIGNMENT] == word


def test_what_does_not_add_up_to_one_word_is_left_open() -> None:
    chain = [
        NatBehavior(unsolicited=UnsolicitedReaction.PORT_UNREACHABLE),
        NatBehavior(hairpinning=Hairpinning.EXTERNAL_SOURCE),
    ]
    declaration = declare(chain, [HOST])
    for what in (Property.REJECTION, Property.HAIRPINNING):
        assert what not in declaration.words
        assert declaration.remarks[what]
    assert certificate(measurement(REJECTION="anything"), *chain).ok


@pytest.mark.parametrize(
    ("behavior", "visible"),
    [
        (NatBehavior(EIM, APDF), True),
        (NatBehavior(APDM, EIF), True),
        (NatBehavior(APDM, ADF), True),
        (NatBehavior(APDM, ADF, filter_scope=FilterScope.MAPPING), False),
        (NatBehavior(ADM, APDF), False),
    ],
)
def test_hairpinning_that_no_filter_lets_through_is_not_judged(
    behavior: NatBehavior, visible: bool
) -> None:
    hairpinning = replace(behavior, hairpinning=Hairpinning.EXTERNAL_SOURCE)
    assert (Property.HAIRPINNING in declare([hairpinning], [HOST]).words) is visible


def test_plain_masquerade_is_declared_as_it_is() -> None:
    said = declared(
        port_assignment=PortAssignment.PRESERVING_OVERLOADING,
        unsolicited=UnsolicitedReaction.CONNTRACK,
        filter_scope=FilterScope.MAPPING,
        refresh=MappingRefresh.BOTH,
    )
    assert said[Property.PORT_ASSIGNMENT] == "preserving"
    assert said[Property.SAME_PORT] == "shared port"
    assert said[Property.UNSOLICITED] == "moves the next mapping"
    assert said[Property.REJECTION] == "ICMP port unreachable"


def test_nothing_declared_nothing_compared() -> None:
    measured = measurement()
    measured.remarks[Property.LIFETIME] = "not asked for"
    found = findings_of(measured)
    assert {one.ok for one in found} == {None}
    assert {one.declared for one in found} == {None}
    assert len(found) == len(measured.words) + 1


def test_a_limit_on_mappings_is_told_and_left_alone() -> None:
    limited = NatBehavior(mappings_per_subscriber=100)
    one = certificate(measurement(), limited)
    assert one.ok
    (row,) = [finding for finding in one.findings if finding.property == Property.LIMIT]
    assert (row.declared, row.measured, row.ok) == ("100", None, None)
    assert "not measured" in row.remark
