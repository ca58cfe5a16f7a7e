"""What NATs and firewalls are declared to be against what was measured, by property. Pure."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from quicpipe_lab.model import nat_measurement as words
from quicpipe_lab.model.address import Family
from quicpipe_lab.model.firewall import UdpPolicy
from quicpipe_lab.model.nat import AddressPooling, Hairpinning
from quicpipe_lab.model.nat_declaration import (
    Chain,
    Declaration,
    declare_blocked,
    room,
)
from quicpipe_lab.model.nat_measurement import NatMeasurement, Property
from quicpipe_lab.model.result import Certified

MAPPINGS_NEEDED = 64
"""About twice what the tests make for one host where each flow has a mapping, lifetimes apart."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One property; ``ok`` is None where there is nothing to compare, and ``remark`` says why."""

    property: str
    declared: str | None
    measured: str | None
    ok: bool | None
    remark: str = ""

    def to_json(self) -> dict[str, Any]:
        """For ``nat-check --json``."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Certificate:
    """All about one NAT, looked at from ``host``, with all NATs between the two and the internet.

    ``through``: those NATs, the nearest first. Where there are several, theirs are the properties.
    """

    nat: str
    host: str | None
    through: tuple[str, ...]
    findings: tuple[Finding, ...]
    family: Family = Family.IPV4

    @property
    def name(self) -> str:
        """The NAT, and the family where it is not IPv4."""
        return self.nat if self.family is Family.IPV4 else f"{self.nat} over IPv6"

    @property
    def ok(self) -> bool:
        """Whether nothing differs."""
        return all(finding.ok is not False for finding in self.findings)

    @property
    def is_measured(self) -> bool:
        """Whether anything was there to compare."""
        return any(finding.ok is not None for finding in self.findings)

    def doubt(self) -> str | None:
        """Why nothing is proven, where somebody is behind it and could rely on it."""
        if self.is_measured or not self.findings:
            return None
        one = self.findings[0]
        return f"{one.property} {one.declared}: {one.remark}"

    def difference(self) -> str | None:
        """The first, in words."""
        for one in self.findings:
            if one.ok is False:
                why = f" ({one.remark})" if one.remark else ""
                return (
                    f"{self.name} is not what it is declared to be: {one.property} is"
                    f" {one.measured or 'unknown'} and not {one.declared}{why}"
                )
        return None

    def to_json(self) -> dict[str, Any]:
        """For ``nat-check --json``."""
        return {
            "nat": self.nat,
            "family": self.family.value,
            "host": self.host,
            "through": list(self.through),
            "ok": self.ok,
            "properties": [one.to_json() for one in self.findings],
        }

    def summary(self) -> Certified:
        """For ``result.json``."""
        compared = [one for one in self.findings if one.ok is not None]
        return Certified(
            self.ok,
            {one.property: one.declared for one in compared},
            {one.property: one.measured for one in compared},
        )


def certify(
    nat: str,
    host: str,
    through: Sequence[str],
    declared: Declaration,
    external_hosts: Sequence[str],
    measured: NatMeasurement,
    family: Family = Family.IPV4,
) -> Certificate:
    """``declared``: of all of ``through``. ``external_hosts``: see nat_declaration."""
    if measured.unmeasured:
        return _doubtful(Property.EXTERNAL_ADDRESS, nat, host, through, declared, measured, family)
    findings = []
    for what in Property:
        if what is Property.LIFETIME:
            finding = _lifetime_finding(declared.lifetime_s, measured)
        elif what is Property.EXTERNAL_ADDRESS:
            finding = _address_finding(declared, external_hosts, measured)
        elif what in _PORTS:
            finding = _port_finding(what, declared, measured)
        else:
            finding = _finding(what, declared, measured, measured.words.get(what))
        if finding is not None:
            findings.append(finding)
    return Certificate(nat, host, tuple(through), tuple(findings), family)


def uncertified(
    router: str,
    host: str | None,
    through: Sequence[str],
    chain: Chain,
    family: Family = Family.IPV4,
) -> Certificate:
    """Of one that cannot be looked at: nobody is behind it, or there are too few mappings."""
    narrowest = room(chain)
    if narrowest is None:
        return Certificate(router, host, tuple(through), (), family)
    remark = f"too few for the tests, which need {MAPPINGS_NEEDED} mappings"
    finding = Finding(narrowest.property, narrowest.declared, None, None, remark)
    return Certificate(router, host, tuple(through), (finding,), family)


def certify_blocked(
    router: str,
    host: str,
    through: Sequence[str],
    policy: UdpPolicy,
    measured: NatMeasurement,
    family: Family = Family.IPV4,
) -> Certificate:
    """Of a firewall that blocks UDP, or all but some, and of what else is on that way."""
    declared = declare_blocked(policy)
    if measured.unmeasured:
        return _doubtful(Property.UDP, router, host, through, declared, measured, family)
    finding = _finding(Property.UDP, declared, measured, measured.words.get(Property.UDP))
    assert finding is not None
    return Certificate(router, host, tuple(through), (finding,), family)


def _doubtful(
    what: Property,
    router: str,
    host: str,
    through: Sequence[str],
    declared: Declaration,
    measured: NatMeasurement,
    family: Family,
) -> Certificate:
    """Of one that could not be looked at: neither certified nor accused."""
    finding = Finding(what, declared.words[what], None, None, measured.unmeasured)
    return Certificate(router, host, tuple(through), (finding,), family)


def findings_of(measured: NatMeasurement) -> tuple[Finding, ...]:
    """Of a NAT of which nothing is declared."""
    findings = []
    for what in Property:
        word = measured.words.get(what)
        if what is Property.LIFETIME and measured.lifetime_s is not None:
            word = _lifetime_words(measured)
        remark = measured.remarks.get(what, "")
        if word is not None or remark:
            findings.append(Finding(what, None, word, None, remark))
    return tuple(findings)


def _address_finding(
    declared: Declaration, external_hosts: Sequence[str], measured: NatMeasurement
) -> Finding:
    """Not all of several addresses need be seen."""
    ok = bool(measured.hosts) and set(measured.hosts) <= set(external_hosts)
    return Finding(
        Property.EXTERNAL_ADDRESS,
        declared.words[Property.EXTERNAL_ADDRESS],
        " and ".join(measured.hosts) or None,
        ok,
        measured.remarks.get(Property.EXTERNAL_ADDRESS, ""),
    )


_PORTS = (Property.PORT_ASSIGNMENT, Property.PORT_RANGE, Property.PORT_PARITY, Property.POOLING)
"""What a few ports can contradict and not prove: said where it is declared."""


def _port_finding(
    what: Property, declared: Declaration, measured: NatMeasurement
) -> Finding | None:
    external = [port for _, port in measured.ports]
    first, last = declared.port_range
    word = measured.words.get(what)
    match what:
        case Property.PORT_ASSIGNMENT if declared.port_block_size is not None:
            blocks = {(port - first) // declared.port_block_size for port in external}
            if len(blocks) == 1:
                word = declared.words[what]
        case Property.PORT_RANGE:
            inside = all(first <= port <= last for port in external)
            word = declared.words.get(what) if inside else f"also {min(external)}, {max(external)}"
        case Property.PORT_PARITY:
            kept = all(inside % 2 == outside % 2 for inside, outside in measured.ports)
            word = words.KEPT if kept else words.NOT_KEPT
        case Property.POOLING:
            word = (AddressPooling.ARBITRARY if measured.hosts[1:] else AddressPooling.PAIRED).value
    if what not in declared.words:
        return None
    return _finding(what, declared, measured, word)


def _finding(
    what: Property, declared: Declaration, measured: NatMeasurement, word: str | None
) -> Finding | None:
    if what is Property.REFRESH and measured.lifetime_s is None and what not in measured.remarks:
        return None  # not asked for
    wanted = declared.words.get(what)
    remark = measured.remarks.get(what) or declared.remarks.get(what, "")
    if word is None and not remark:
        if wanted is None:
            return None
        return Finding(what, wanted, None, False)  # a test that should have been made was not
    ok = None if word is None or wanted is None else word == wanted
    if ok is False and wanted == Hairpinning.INTERNAL_SOURCE and remark == words.ONE_HOST_HAIRPIN:
        ok = None
    elif ok and what is Property.HAIRPINNING:
        remark = ""
    return Finding(what, wanted, word, ok, remark)


def _lifetime_finding(declared_s: float, measured: NatMeasurement) -> Finding | None:
    declared = f"{declared_s:g} s"
    if measured.lifetime_s is None:
        remark = measured.remarks.get(Property.LIFETIME)
        return Finding(Property.LIFETIME, declared, None, False, remark) if remark else None
    alive_s, gone_s = measured.lifetime_s
    ok = alive_s < declared_s and gone_s is not None and declared_s <= gone_s
    return Finding(Property.LIFETIME, declared, _lifetime_words(measured), ok)


def _lifetime_words(measured: NatMeasurement) -> str:
    assert measured.lifetime_s is not None
    alive_s, gone_s = measured.lifetime_s
    if gone_s is None:
        return f"more than {alive_s:.4g} s"
    return f"{alive_s:.4g} s to {gone_s:.4g} s"
