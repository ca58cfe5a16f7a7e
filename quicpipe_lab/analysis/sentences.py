"""Events in words."""

from typing import Any

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
    "relay-restarted": "killed the relay and started it anew",
    "attacked": "a stranger sends what is not his to send: {kind}",
    "relay-lost": "lost the relay: {problem}",
    "relay-refused": "was refused by the relay: {problem}",
    "failed": "FAILED: {problem}",
}
"""What to say of an event; those that are not here are for the files alone."""


def sentence(event: Event) -> str | None:
    """What an event's node did, in words, or None where a person need not hear of it."""
    template = _SENTENCES.get(event.name)
    if template is None:
        return None
    data: dict[str, Any] = {name: _readable(value) for name, value in event.data.items()}
    data["path"] = "direct" if event.data.get("direct") else "through the relay"
    data["found"] = "found" if event.data.get("found") else "in vain"
    data["rtt_ms"] = 1000 * (event.data.get("rtt_s") or 0.0)
    return template.format(**data)


def _readable(value: Any) -> Any:
    match value:
        case [str(host), int(port)]:
            return f"{host}:{port}"
        case [str(one), str(other)]:
            return f"{one} and {other}"
    return value
