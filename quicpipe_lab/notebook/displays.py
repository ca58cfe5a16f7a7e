"""One function for each type that a notebook shows: to a MIME bundle, or piece by piece."""

import dataclasses
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from IPython.display import HTML, display

from quicpipe_lab.analysis import matrix as matrix_numbers
from quicpipe_lab.analysis.explain import Explanation
from quicpipe_lab.api.looks import Drawn, picture
from quicpipe_lab.console import summary_rows
from quicpipe_lab.errors import QuicpipeLabError
from quicpipe_lab.model.nat import NatBehavior
from quicpipe_lab.model.nat_certificate import Certificate
from quicpipe_lab.model.result import RelayedBy, RunResult
from quicpipe_lab.model.scenario import Scenario, Step
from quicpipe_lab.model.topology import Nat, Topology
from quicpipe_lab.notebook.html import folded, heading, table, text

if TYPE_CHECKING:
    from quicpipe_lab.api.lab import Lab
    from quicpipe_lab.api.program import ProgramResult
    from quicpipe_lab.api.surveys import Certificates, Matrix
    from quicpipe_lab.backends.explore import Exploration
    from quicpipe_lab.backends.sim.simulation import Simulation
    from quicpipe_lab.backends.sim.table import Table
    from quicpipe_lab.shell.xdp_filter import Filter

Bundle = dict[str, Any]

_MOST_LINES = 100
_OF_A_RUN = ("topology", "sequence", "timeline")
_COLOURS = {True: "#1a7f37", False: "#c62828"}


def _bundle(page: str, plain: str) -> Bundle:
    return {"text/html": page, "text/plain": plain}


def _drawn(drawn: Drawn) -> Bundle:
    return drawn._repr_mimebundle_()


# Runs


def run(result: RunResult) -> None:
    """How it ended in a table, and the pictures that there are of it."""
    verdict = "as expected" if result.ok else f"NOT as expected ({result.expected})"
    title = f"{text(result.scenario)}: {text(result.outcome)}, {text(verdict)}"
    page = f'<p><b style="color:{_COLOURS[result.ok]}">{title}</b></p>'
    rows = [row for row in summary_rows(result) if row[0] != "files"]
    display(HTML(page + table(rows)))
    if result.run_dir is None:
        return
    for name in _OF_A_RUN:
        try:
            display(picture(result, name))
        except QuicpipeLabError as nothing:
            display(HTML(heading(name, f"not shown: {nothing}")))


def explanation(found: Explanation) -> Bundle:
    """The sentence, and the timeline for whoever wants it."""
    rows = [(f"{one.t_s:.6f} s", one.node, one.text, one.source) for one in found.timeline]
    header = ("time", "node", "what happened", "from")
    count = f"all that led to it: {len(rows)} lines"
    if len(rows) > _MOST_LINES:
        count += f", of which the first {_MOST_LINES}"
    events = folded(count, table(rows[:_MOST_LINES], header))
    sentence = found.verdict.sentence
    return _bundle(f"<p><b>{text(sentence)}</b></p>{events}", sentence)


def relayed_by(by: RelayedBy) -> Bundle:
    """Who forwarded what."""
    filtered = by.filter or 0
    total = max(1, filtered + by.userspace)
    rows = [("the relay's process", f"{by.userspace:,}", f"{100 * by.userspace / total:.2f} %")]
    if by.filter is not None:
        share = f"{100 * by.filter_share:.2f} %"
        rows.append((f"the XDP filter ({by.mode})", f"{filtered:,}", share))
    return _bundle(table(rows, ("forwarded by", "datagrams", "")), repr(by))


def scenario(one: Scenario) -> Bundle:
    """Roles and steps."""
    rows = [
        ("roles", f"{one.dialer} dials, {one.accepter} accepts, through {one.relay}"),
        ("topology", one.topology.name),
        ("expected", one.expect),
        *((f"step {number}", _step(step)) for number, step in enumerate(one.steps, 1)),
    ]
    return _bundle(heading(one.name, one.summary) + table(rows), f"{one.name}: {one.summary}")


def _step(step: Step) -> str:
    """What is not as it would be by default."""
    given = [
        f"{field.name.replace('_', ' ')} {value}"
        for field in dataclasses.fields(step)
        if (value := getattr(step, field.name)) != field.default
    ]
    return f"{type(step).__name__}: {', '.join(given)}" if given else type(step).__name__


def matrix(found: "Matrix") -> None:
    """The counts, then the picture."""
    told = matrix_numbers.summary(found.results)
    title = f"{told['as_expected']} of {told['runs']} as expected"
    rest = f"{told['direct']} direct, {told['relayed']} relayed, {told['failed']} failed"
    display(HTML(heading(title, rest)))
    display(found.picture())


def exploration(done: "Exploration") -> Bundle:
    """How the trials ended, and what was found."""
    title = "no invariant was broken" if done.ok else "an invariant was broken"
    rest = f"{done.seeds}, {done.simulated_s:,.0f} s simulated"
    page = heading(title, rest) + table(done.counts.items(), ("end", "trials"))
    if done.found is not None:
        shrunk = done.found.shrunk.failure
        page += table([("seed", done.found.trial.seed), ("shrunk to", shrunk)])
        page += table([("repeat it", done.found.command)])
    return _bundle(page, str(done))


# Networks


def topology(one: Topology) -> Bundle:
    """Its picture."""
    return _drawn(picture(one))


def lab(one: "Lab") -> Bundle:
    """The picture of its topology, and what it is."""
    return _drawn(picture(one.topology)) | {"text/plain": repr(one)}


def program(result: "ProgramResult") -> Bundle:
    """What it wrote, and how it ended where that is of interest."""
    command = shorten(" ".join(result.argv), 80, placeholder=" ...")
    page = f"<p><code>{text(result.node)}$ {text(command)}</code></p>"
    said = result.stdout + result.stderr
    if said:
        page += f"<pre>{text(said.rstrip())}</pre>"
    if not result.ok:
        page += f'<p><b style="color:{_COLOURS[False]}">ended with {result.exit_code}</b></p>'
    return _bundle(page, f"{result.node}$ {command}\n{said}")


# NATs


def nat(one: Nat) -> Bundle:
    """What it does."""
    found = behavior(one.behavior)
    return found | {"text/html": heading(one.name) + found["text/html"]}


def behavior(one: NatBehavior) -> Bundle:
    """All behaviours; those that are not the default's in bold."""
    default = NatBehavior()
    lines = []
    for field in dataclasses.fields(one):
        value = getattr(one, field.name)
        shown = text("none" if value is None else value)
        if value != getattr(default, field.name):
            shown = f"<b>{shown}</b>"
        name = text(field.name.replace("_", " "))
        lines.append(f"<tr><th>{name}</th><td>{shown}</td></tr>")
    return _bundle(f"<table><tbody>{''.join(lines)}</tbody></table>", repr(one))


def certificate(one: Certificate) -> Bundle:
    """Declared against measured."""
    rows = [
        (
            finding.property,
            finding.declared or "-",
            finding.measured or "-",
            {True: "ok", False: "DIFFERENT", None: finding.remark or "not compared"}[finding.ok],
        )
        for finding in one.findings
    ]
    seen = "no host is behind it" if one.host is None else f"seen from {one.host}"
    page = heading(one.name, seen) + table(rows, ("property", "declared", "measured", "verdict"))
    word = "as declared" if one.doubt() is None else "not measured"
    return _bundle(page, one.difference() or f"{one.name}: {word}")


def certificates(found: "Certificates") -> Bundle:
    """One below the other."""
    all_of_them = [certificate(one) for one in found]
    page = "".join(one["text/html"] for one in all_of_them)
    return _bundle(page, "\n".join(one["text/plain"] for one in all_of_them))


def nat_table(one: "Table") -> Bundle:
    """What a NAT or firewall remembers."""
    mappings = [
        (seen.inside, seen.external, seen.remote or "anybody", f"{seen.expires_s:.1f} s")
        for seen in one.mappings
    ]
    filters = [
        (seen.local, seen.remote or "anybody", f"{seen.expires_s:.1f} s") for seen in one.filters
    ]
    page = heading("mappings", "" if mappings else "none")
    if mappings:
        page += table(mappings, ("inside", "external", "towards", "until"))
    page += heading("who may answer", "" if filters else "nobody")
    if filters:
        page += table(filters, ("to", "from", "until"))
    return _bundle(page, repr(one))


def simulation(one: "Simulation") -> Bundle:
    """When it is, and the last things that happened."""
    rows = [(f"{event.t_s:.6f} s", event.node, event.name) for event in one.events[-8:]]
    page = heading(one.scenario.name, f"in virtual time, at {one.now:.6f} s")
    return _bundle(page + table(rows, ("time", "node", "event")), repr(one))


# The filter


def filter_counters(one: "Filter") -> Bundle:
    """Where it is attached, what became of packets, and whom it forwarded for."""
    places = ", ".join(f"{at.interface} ({at.mode})" for at in one.attachments) or "nothing"
    counted = [
        (reason.name.lower().replace("_", " "), f"{count:,}")
        for reason, count in one.counters().items()
        if count
    ]
    bound = [
        (each.connection_id.hex(), each.address, f"{each.packets:,}", f"{each.bytes:,}")
        for each in one.bindings()
    ]
    page = heading("XDP filter", f"on {places}")
    page += table(counted, ("what became of packets", "")) if counted else ""
    header = ("connection ID", "goes to", "packets", "bytes")
    page += table(bound, header) if bound else heading("", "no connection ID is bound")
    return _bundle(page, f"<Filter on {places}, {len(one)} bindings>")
