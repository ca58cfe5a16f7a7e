"""Whether a NAT was rebooted and gave somebody another port afterwards."""

from quicpipe_lab.analysis.explain.causes import Cause, Verdict
from quicpipe_lab.analysis.explain.facts import Facts
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.model.scenario import Outcome


def forgotten(facts: Facts, outcome: Outcome, end: str) -> Verdict | None:
    """The last reboot that moved a mapping; None where none did. ``end``: of the sentence."""
    for nat, since_ns, _ in reversed(facts.off):
        before: dict[tuple[TransportAddress, TransportAddress], TransportAddress] = {}
        for one in facts.translations:
            flow = one.inside, one.remote
            if one.nat != nat or not one.outbound:
                continue
            if one.time_ns < since_ns:
                before[flow] = one.external
            elif before.get(flow, one.external) != one.external:
                details = {
                    "nat": nat,
                    "at_s": f"{(since_ns - facts.epoch_ns) / 1e9:.3f}",
                    "inside": str(one.inside),
                    "port": str(before[flow].port),
                    "new_port": str(one.external.port),
                    "remote": str(one.remote),
                    "end": end,
                }
                return Verdict(outcome, Cause.MAPPING_FORGOTTEN, details)
    return None
