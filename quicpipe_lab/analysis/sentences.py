"""Events in words."""

from typing import Any

from quicpipe_lab.errors import QuicpipeLabError
from quicpipe_lab.model.event import Event

_SENTENCES = {
    "lab-up": "lab is up",
    "certified": "NATs measured, all as declared",
    "uncertified": "did not measure {router}: {reason}",
    "ready": "is ready",
    "relay-registered": "registered {num} connection IDs, seen at {observed}",
    "oob-sent": "first packet leaves out of band ({size_bytes} bytes)",
    "oob-arrived": "first packet has arrived",
    "connected": "connected through the relay",
    "punch-started": "punches",
    "punch-answered": "got an answer from {address} after {rtt_ms:.1f} ms",
    "punch-failed": "no hole after {sent} datagrams: stays on the relay",
    "port-search-started": "searches: {probes} probes at most, {sockets} more ports opened",
    "port-search-ended": "search over: {probes} probes, {opened} to open ports; {found}",
    "path-changed": "now sends to {address} ({path})",
    "direct-silent": "heard nothing for {silence_s:.2f} s: back to the relay",
    "transfer-started": "transfer of {size_bytes} bytes each way",
    "transfer-complete": "all {size_bytes} bytes are back, each as it was sent",
    "cut": "cut the way between {between}",
    "restored": "restored the way between {between}",
    "idle": "nothing to do for {seconds:g} s",
    "rebooted": "switched {router} off and on",
    "switched": "{host} uses its link to {to} from now on",
    "relay-restarted": "killed the relay and started it anew",
    "attacked": "a stranger sends what is not his to send: {kind}",
    "missed": "never did the {do} that was due after {at_s:g} s: the steps were done before",
    "relay-lost": "lost the relay: {problem}",
    "relay-refused": "was refused by the relay: {problem}",
    "failed": "FAILED: {problem}",
}
"""What to say of an event; those that are not here are for the files alone."""


def sentence(event: Event) -> str | None:
    """What an event's node did, in words, or None where a person need not hear of it.

    Raises QuicpipeLabError where it does not tell what events of its name do.
    """
    template = _SENTENCES.get(event.name)
    if template is None:
        return None
    try:
        return template.format_map(_Words(event))
    except (KeyError, TypeError, ValueError) as error:
        raise QuicpipeLabError(
            f"{event.name} of {event.node} is not told as by this version: {error}"
        ) from None


class _Words(dict[str, Any]):
    """What sentences ask an event for."""

    def __init__(self, event: Event) -> None:
        self._event = event

    def __missing__(self, name: str) -> Any:
        data = self._event.data
        match name:
            case "path":
                return "direct" if data["direct"] else "through the relay"
            case "found":
                return "found" if data["found"] else "in vain"
            case "rtt_ms":
                return 1000 * (data["rtt_s"] or 0.0)
        return _readable(data[name])


def _readable(value: Any) -> Any:
    match value:
        case [str(host), int(port)]:
            return f"{host}:{port}"
        case [str(one), str(other)]:
            return f"{one} and {other}"
    return value
