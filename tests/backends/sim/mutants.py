"""Single faults that somebody may make in the protocol, and whether the search finds them.

    .venv/bin/python -m tests.backends.sim.mutants [--seeds N] [--jobs N] [NAME...]

Each is a few names that are replaced while a scenario is explored; the seed that finds it and the
invariant that tells are printed. What is not found is a hole in the search, or harms nobody:
CONTRIBUTING.md says which.
"""

import argparse
import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from math import inf
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest.mock import patch

from aioquic.quic.events import StreamDataReceived

from quicpipe_lab.backends.explore import Exploration, explore
from quicpipe_lab.model.scenario import Scenario
from quicpipe_lab.protocol.direct import DirectPath
from quicpipe_lab.protocol.direct_states import State
from quicpipe_lab.protocol.endpoint import Endpoint
from quicpipe_lab.protocol.forwarding import Forwarder
from quicpipe_lab.protocol.port_search import PortSearch
from quicpipe_lab.protocol.quic import Connection, RetryTokens
from quicpipe_lab.protocol.registrar import Registrar
from quicpipe_lab.protocol.relay import Relay
from quicpipe_lab.protocol.relay_http import HttpConnection
from quicpipe_lab.protocol.relay_leg import RelayLeg
from quicpipe_lab.protocol.signalling import Signalling
from quicpipe_lab.resources import find_scenario

Change = tuple[object, str, object]
"""Of an object, by the name of its attribute."""


@dataclass(frozen=True)
class Mutant:
    """``scenario``: one in which the fault has an occasion."""

    scenario: str
    changes: tuple[Change, ...]

    def explored(
        self, seeds: int, file: Path, scenario: Scenario | None = None, shrinking_trials: int = 0
    ) -> Exploration:
        """In this process, with the fault in it."""
        base = find_scenario(self.scenario) if scenario is None else scenario
        with ExitStack() as stack:
            for owner, name, value in self.changes:
                stack.enter_context(patch.object(owner, name, value))
            return explore(base, seeds=seeds, jobs=1, file=file, shrinking_trials=shrinking_trials)


class _Never:
    """In the place of a part whose timer is forgotten."""

    def get_timer(self) -> None:
        return None

    next_s = get_timer


def forgets(scenario: str, owner: type[Any], **parts: object) -> Mutant:
    """``get_timer`` takes no account of some attributes: it sees these values in their place."""
    once = owner.get_timer

    def get_timer(self: Any) -> float | None:
        kept = {name: getattr(self, name) for name in parts}
        for name, value in parts.items():
            setattr(self, name, value)
        try:
            answer: float | None = once(self)
            return answer
        finally:
            for name, value in kept.items():
                setattr(self, name, value)

    return Mutant(scenario, ((owner, "get_timer", get_timer),))


def replaced(scenario: str, owner: object, name: str, value: object) -> Mutant:
    return Mutant(scenario, ((owner, name, value),))


def nothing(*_: object, **__: object) -> None:
    pass


def _while_not(state: State) -> Callable[[DirectPath], float | None]:
    once = DirectPath.get_timer
    return lambda self: None if self.state is state else once(self)


def _never_again(self: DirectPath, before: State, now: float) -> None:
    _back_to_relay(self, before, now)
    self._retry_at = None


_back_to_relay = DirectPath._back_to_relay


def _moved_and_says_it_again(self: Connection, before: Any) -> None:
    _moved(self, before)
    said = [one for one in self._streams.values() if one.receiver.highest_offset]
    for one in said:
        assert one.stream_id is not None
        self._events.append(StreamDataReceived(b"\0", False, one.stream_id))


_moved = Connection._moved


def _validates_all(self: Connection, data: bytes, addr: Any, now: float) -> None:
    _receive(self, data, addr, now)
    for path in self._network_paths:
        path.is_validated = True


_receive = Connection.receive_datagram


def _from_anywhere(once: Callable[..., bytes]) -> Callable[..., bytes]:
    return lambda self, **given: once(self, **{**given, "address": ("198.18.0.1", 1)})


MUTANTS = {
    # A timer that is forgotten.
    "direct: retry": forgets("direct-dies", DirectPath, _retry_at=None),
    "direct: probes": replaced("nat-to-nat", DirectPath, "get_timer", _while_not(State.PUNCHING)),
    "direct: challenge": forgets("nat-to-nat", DirectPath, _challenge_at=None),
    "direct: heartbeat": forgets("nat-to-nat", DirectPath, _heartbeat_at=None),
    "direct: silence": forgets("direct-dies", DirectPath, _unanswered_since=None),
    "endpoint: peer": forgets("nat-to-nat", Endpoint, _peer=None),
    "endpoint: direct": forgets("nat-to-nat", Endpoint, direct=_Never()),
    "endpoint: relay": forgets("nat-to-nat", Endpoint, relay=_Never()),
    "endpoint: keepalive": forgets("nat-to-nat", Endpoint, _keepalive_at=None),
    "leg: keepalive": forgets("nat-to-nat", RelayLeg, _keepalive_at=None),
    "leg: retry": forgets("relayed", RelayLeg, _retry_at=None),
    "leg: challenge": forgets("relayed", RelayLeg, _unanswered_since=None),
    "leg: attempt": forgets("relayed", RelayLeg, _attempt_ends_at=None),
    "leg: ask again": forgets("relayed", RelayLeg, _ask_again_at=None),
    "leg: challenger": forgets("relayed", RelayLeg, _challenger=None),
    "leg: quic": forgets("relayed", RelayLeg, _quic=None),
    "search: openings": forgets("port-search", PortSearch, _openings=[]),
    "search: probes": forgets("port-search", PortSearch, _allowed=0),
    "search: question": forgets("port-search", PortSearch, _ask_at=inf),
    "search: end": forgets("port-search", PortSearch, ends_s=inf),
    "relay: clients": forgets("relayed", Relay, _timers=_Never()),
    "relay: leases": forgets("nat-to-nat", Relay, _registrar=_Never()),
    "relay: half open": forgets("nat-to-nat", Relay, _half_open={}),
    "relay: mailbox": forgets("relayed", Relay, _api=_Never()),
    # What is to be done and is not.
    "never punches again": replaced("direct-dies", DirectPath, "_back_to_relay", _never_again),
    "no death of a path": replaced("direct-dies", DirectPath, "_silent_at", None),
    "no keepalive at the relay": replaced("nat-to-nat", RelayLeg, "_keepalive_s", 1e9),
    "no keepalive of the peer": replaced("nat-to-nat", Endpoint, "_keepalive_s", 1e9),
    "no challenger": replaced("relayed", RelayLeg, "_challenge_at", None),
    "no refresh": replaced("nat-to-nat", RelayLeg, "refresh", nothing),
    "peer is not told of a move": replaced("nat-to-nat", Signalling, "moved", lambda *_: b""),
    "relay heeds no move": replaced("relayed", Registrar, "move", nothing),
    "leases never end": replaced("nat-to-nat", Registrar, "handle_timer", nothing),
    "binding outlives unbinding": replaced("relayed", Forwarder, "unbind", nothing),
    "IDs are not given back": replaced("nat-to-nat", Connection, "oldest_id", 1),
    "IDs before the relay has them": replaced("nat-to-nat", Connection, "mint_upto", nothing),
    "no close": replaced("nat-to-nat", Endpoint, "close", lambda self, *_: self.relay.close()),
    "close is not repeated": replaced("nat-to-nat", Endpoint, "repeat_close", nothing),
    "relayed is not resumed": replaced("relayed", Endpoint, "_resume_relayed", nothing),
    # What is done and must not be.
    "all paths are validated": replaced(
        "nat-to-nat", Connection, "receive_datagram", _validates_all
    ),
    "binds what is not validated": replaced(
        "relayed", HttpConnection, "validated_address", property(lambda self: self.quic.address)
    ),
    "a move repeats bytes": replaced("nat-to-nat", Connection, "_moved", _moved_and_says_it_again),
    "Retry's token from anywhere": Mutant(
        "relayed",
        (
            (RetryTokens, "create_token", _from_anywhere(RetryTokens.create_token)),
            (RetryTokens, "validate_token", _from_anywhere(RetryTokens.validate_token)),
        ),
    ),
}


def _look(name: str, seeds: int) -> str:
    mutant = MUTANTS[name]
    try:
        done = mutant.explored(seeds, Path(os.devnull))
    except Exception as error:
        return f"{name} | {mutant.scenario} | {type(error).__name__}: {error}"
    end = "not found" if done.found is None else f"seed {done.found.trial.seed}"
    why = "" if done.found is None else str(done.found.trial.failure)
    return f"{name} | {mutant.scenario} | {end} | {why} | {done.counts} | {done.wall_s:.0f} s"


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.backends.sim.mutants")
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(MUTANTS))
    given = parser.parse_args(argv)
    names = given.names or list(MUTANTS)
    with ProcessPoolExecutor(given.jobs, get_context("spawn")) as pool:
        for line in pool.map(_look, names, [given.seeds] * len(names)):
            print(line, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
