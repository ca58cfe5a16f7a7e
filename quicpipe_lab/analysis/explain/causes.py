"""Why a run can have ended as it did: every cause, and its sentence. All of it is data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from quicpipe_lab.model.scenario import Outcome


class Cause(StrEnum):
    """One for each way to end; ``SENTENCES`` says what it means."""

    # direct
    SAME_NETWORK = "same-network"
    HAIRPIN = "hairpin"
    NO_ROUTERS = "no-routers"
    FIREWALLS = "firewalls"
    ONE_IS_OPEN = "one-is-open"
    SIMULTANEOUS_OPEN = "simultaneous-open"
    PEER_REFLEXIVE = "peer-reflexive"
    CROOKED = "crooked"
    PORT_SEARCH = "port-search"
    DIRECT = "direct"
    # relayed
    ONE_MAPPING_DEPENDS = "one-mapping-depends"
    BOTH_MAPPINGS_DEPEND = "both-mappings-depend"
    EARLY_PACKET = "early-packet"
    NO_HAIRPIN = "no-hairpin"
    PORTS_BLOCKED = "ports-blocked"
    PUNCHES_LOST = "punches-lost"
    DIRECT_PATH_DIED = "direct-path-died"
    FOUND_TOO_LATE = "found-too-late"
    NOT_TRIED = "not-tried"
    RELAYED = "relayed"
    # failed
    UDP_BLOCKED = "udp-blocked"
    RELAY_UNREACHABLE = "relay-unreachable"
    RELAY_SILENT = "relay-silent"
    RELAY_ANSWERS_LOST = "relay-answers-lost"
    RELAY_UNTRUSTED = "relay-untrusted"
    RELAY_REFUSED = "relay-refused"
    PEER_UNTRUSTED = "peer-untrusted"
    NAT_DIFFERENT = "nat-different"
    FAILED = "failed"
    # relayed or failed
    MAPPING_EXPIRED = "mapping-expired"
    MAPPING_FORGOTTEN = "mapping-forgotten"
    RELAY_RESTARTED = "relay-restarted"


SENTENCES: Mapping[Cause, str] = {
    Cause.SAME_NETWORK: (
        "{a} and {b} share the network of {network} and reached each other on their own addresses"
    ),
    Cause.HAIRPIN: (
        "{nat}, which both are behind, hairpins: what {a} sent to {address_b} came back in to {b}"
    ),
    Cause.NO_ROUTERS: "nothing filters or translates between {a} and {b}",
    Cause.FIREWALLS: (
        "firewalls translate nothing: each side's own packets opened its own firewall for the"
        " other's address, {address_a} and {address_b}"
    ),
    Cause.ONE_IS_OPEN: (
        "{open} can be reached by anybody, and {closed}'s own packets opened {router} for the"
        " answer"
    ),
    Cause.SIMULTANEOUS_OPEN: (
        "both sides opened their own routers by sending first (simultaneous open), and both sent"
        " from the ports that the relay had seen, {address_a} and {address_b}"
    ),
    Cause.PEER_REFLEXIVE: (
        "{filterer} let {mover}'s packets in although they came from port {port} and not from"
        " {relay_port}, which the relay had seen ({reason}), and {other} answered where they came"
        " from (peer-reflexive)"
    ),
    Cause.CROOKED: (
        "each path works one way: {name} sends to {sent_to} and hears from {heard_from}, as both"
        " NATs map per destination ({mappings}) and neither filters by port"
    ),
    Cause.PORT_SEARCH: (
        "punching failed, and a search among ports found an open one after {probes} probes, in"
        " {seconds} s"
    ),
    Cause.DIRECT: "a punch was answered at {address}",
    Cause.ONE_MAPPING_DEPENDS: (
        "{mapper} maps per destination ({mapping}) and {filterer} filters by port (APDF):"
        " {mover}'s external port was {relay_port} towards the relay and {port} towards {other}, so"
        " {other}'s own packets opened {filterer} for a port that {mover} does not send from"
    ),
    Cause.BOTH_MAPPINGS_DEPEND: (
        "both NATs map per destination ({mappings}): {a}'s external port was {relay_port} towards"
        " the relay and {port} towards {b}, so {b}'s packets went to a port that {mapper} had not"
        " opened for {b}, and likewise for {b} with {other_relay_port} and {other_port}"
    ),
    Cause.EARLY_PACKET: (
        "a punch of {other} reached {nat} before {mover}'s own had left, and plain Linux"
        " masquerading gave its port {relay_port} to that packet: {mover} then sent from port"
        " {port}, which {filterer} had not been opened for"
    ),
    Cause.NO_HAIRPIN: (
        "{nat}, which both are behind, does not hairpin: what {sender} sent to {address} ended"
        " there"
    ),
    Cause.PORTS_BLOCKED: (
        "{nat} lets UDP from {sender} out to the relay's port and not to {address}, where {other}"
        " is"
    ),
    Cause.PUNCHES_LOST: "of {sent} punches and answers {arrived} arrived, and {where}",
    Cause.DIRECT_PATH_DIED: (
        "the direct path fell silent {silence_s} s before {at_s} s into the run{why}, and none"
        " was found again"
    ),
    Cause.FOUND_TOO_LATE: (
        "the direct path was found {late_s} s after the last step was done, when the outcome stood"
    ),
    Cause.NOT_TRIED: "no direct path was tried: {why}",
    Cause.RELAYED: "no punch was answered, and {why}",
    Cause.UDP_BLOCKED: (
        "{nat} lets no UDP out: {sent} packets of {sender} to the relay ended there"
    ),
    Cause.RELAY_UNREACHABLE: (
        "{sender} never reached the relay: all {sent} packets to it were lost after {nat}"
    ),
    Cause.RELAY_SILENT: "the relay never answered {sender}, though {arrived} packets reached it",
    Cause.RELAY_ANSWERS_LOST: (
        "{sender} never heard the relay: {arrived} packets reached it, and all {answers} of its"
        " answers were lost after {nat}"
    ),
    Cause.RELAY_UNTRUSTED: "{sender} does not trust this relay: {problem}",
    Cause.RELAY_REFUSED: "the relay refused {sender} with status {status}: {problem}",
    Cause.PEER_UNTRUSTED: "{a} does not trust this peer: {problem}",
    Cause.NAT_DIFFERENT: "a NAT is not what the scenario says: {problem}",
    Cause.FAILED: "{problem}",
    Cause.MAPPING_EXPIRED: (
        "{nat}'s mapping of port {port} for {inside} had ended, idle for {idle_s} s, when"
        " {dropped} packets came for it"
    ),
    Cause.MAPPING_FORGOTTEN: (
        "{nat} was rebooted {at_s} s into the run and forgot its mappings: {inside}, which had sent"
        " to {remote} from its port {port}, then did from {new_port}{end}"
    ),
    Cause.RELAY_RESTARTED: (
        "the relay was restarted {at_s} s into the run and knew nobody any more, and {who} had not"
        " registered with it again {later_s} s later: {problem}"
    ),
}
"""What follows ``direct, because``; the words in braces are a verdict's ``details``."""


@dataclass(frozen=True)
class Verdict:
    """How a run ended and why. ``details``: the facts that the sentence names, as text.
    ``in_vain``: what the run said when it gave up, where the cause is that of what it missed."""

    outcome: Outcome
    cause: Cause
    details: Mapping[str, str] = field(default_factory=dict)
    in_vain: str = ""

    @property
    def sentence(self) -> str:
        """In one sentence."""
        before = self.in_vain and f"{self.in_vain}: "
        why = SENTENCES[self.cause].format_map(self.details)
        return f"{self.outcome}, because {before}{why}."
