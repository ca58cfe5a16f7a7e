"""Every cell of the matrix, in both filter scopes: its run's cause is the one that theory names.

What theory says is asked here in another way than the verdict is found: whose mapping it is that
keeps two peers apart shows when it is replaced by an endpoint-independent one.
"""

from dataclasses import replace

import pytest

from quicpipe_lab.analysis.explain.causes import Cause
from quicpipe_lab.backends import base
from quicpipe_lab.backends.matrix import Cell, cells_of, parse_nats
from quicpipe_lab.evidence import Evidence
from quicpipe_lab.model.expectation import can_go_direct
from quicpipe_lab.model.nat import FilterScope, MappingBehavior
from quicpipe_lab.model.scenario import WaitFor
from tests.analysis.explain.playing import play, verdict_on

EIM, _, APDM = MappingBehavior
ROWS = list(parse_nats(None))


def expected(cell: Cell) -> tuple[Cause, set[str]]:
    """The cause, and who may be named as the one whose port was another than known."""
    one, other = cell.row_nat, cell.column_nat
    moving = {name for name, nat in (("alice", one), ("bob", other)) if nat.mapping is not EIM}
    if can_go_direct(one, other):
        if not moving:
            return Cause.SIMULTANEOUS_OPEN, set()
        both_apdm = one.mapping is APDM and other.mapping is APDM
        return (Cause.CROOKED, set()) if both_apdm else (Cause.PEER_REFLEXIVE, moving)
    decisive = set()
    if can_go_direct(replace(one, mapping=EIM), other):
        decisive.add("alice")
    if can_go_direct(one, replace(other, mapping=EIM)):
        decisive.add("bob")
    if len(decisive) == 1:
        return Cause.ONE_MAPPING_DEPENDS, decisive
    return Cause.BOTH_MAPPINGS_DEPEND, moving


def seen_ports(evidence: Evidence, nat: str, kind: str) -> set[int]:
    """The source ports that the core saw of a home."""
    return {
        packet.source.port
        for packet in evidence.packets
        if (packet.node, packet.interface, packet.direction) == ("core", nat, "in")
        and packet.source is not None
        and (packet.kind == kind)
    }


def check(cell: Cell, backend: base.Backend | None = None) -> None:
    settled = (WaitFor(settled=True, within_s=30.0),)
    evidence = play(replace(cell.scenario(), steps=settled), backend=backend)
    verdict = verdict_on(evidence)
    cause, movers = expected(cell)
    assert verdict.cause is cause, (cell.name, verdict.sentence)
    assert verdict.sentence.endswith(".")
    details = verdict.details
    mover = details.get("mover", details.get("a"))
    if movers:
        assert mover in movers, (cell.name, verdict.sentence)
        nat = {"alice": "nat-a", "bob": "nat-b"}[mover or ""]
        assert int(details["port"]) in seen_ports(evidence, nat, "punch")
        assert int(details["relay_port"]) in seen_ports(evidence, nat, "quic")
        assert details["port"] != details["relay_port"]


@pytest.mark.parametrize("scope", FilterScope)
@pytest.mark.parametrize("row", ROWS)
def test_cause_and_ports_of_a_row(row: str, scope: FilterScope) -> None:
    for cell in cells_of(parse_nats(row, scope), parse_nats(None, scope)):
        check(cell)


@pytest.mark.netns
@pytest.mark.parametrize(
    ("row", "column", "scope"),
    [
        ("EIM/APDF", "EIM/APDF", "endpoint"),
        ("EIM/APDF", "ADM/EIF", "endpoint"),
        ("APDM/ADF", "EIM/EIF", "endpoint"),
        ("APDM/ADF", "APDM/ADF", "endpoint"),
        ("APDM/ADF", "APDM/ADF", "mapping"),
        ("APDM/APDF", "APDM/APDF", "endpoint"),
    ],
)
def test_so_it_is_on_the_kernel(row: str, column: str, scope: str) -> None:
    wanted = FilterScope(scope)
    (cell,) = cells_of(parse_nats(row, wanted), parse_nats(column, wanted))
    check(cell, base.find_backend("netns"))
