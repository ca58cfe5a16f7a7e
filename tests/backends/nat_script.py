"""Packet sequences as text: who sends what to whom, and what must come of it.

    a>1 X       a host's packet to server 1 arrives there from an endpoint, which is called X from
                then on: the same letter is the same endpoint, another letter another one
    a>1 =       it arrives from the NAT's first address and the inside port
    a>1 -       it does not arrive
    2>a@1 in    server 2's packet to the endpoint that server 1 saw of a comes in; or "-"
    2>a@= -     the same, to the NAT's first address and a's inside port
    a>b@1 X     a's packet to that endpoint of b comes to b from X, or from its "inside" endpoint
    a>9 refused nothing listens there: an ICMP error comes back to a
    wait 30     so many seconds pass
    reboot      the NAT forgets everything

Servers 1 and 2 are two ports of one address, 3 and 4 of another. ``a:5000`` is a with that port;
another socket of the same host is ``a2``, ``a3`` and so on.
"""

import re
from typing import Generic, Protocol, TypeVar

from quicpipe_lab.model.address import TransportAddress

NOBODY_LISTENS = 9
S = TypeVar("S")


class Scene(Protocol[S]):
    """A home with two hosts, and four server sockets outside. ``wanted``: it is to arrive."""

    def open(self, host: str, port: int, /) -> S: ...
    def address(self, inside: S, /) -> TransportAddress: ...
    def outside(self, port: int, /) -> TransportAddress: ...
    def sees(self, inside: S, server: int, wanted: bool, /) -> TransportAddress | None: ...
    def comes_in(self, server: int, inside: S, to: TransportAddress, wanted: bool, /) -> bool: ...
    def turned(
        self, sender: S, target: S, to: TransportAddress, wanted: bool, /
    ) -> TransportAddress | None: ...
    def is_refused(self, sender: S, /) -> bool: ...
    def wait(self, seconds: float, /) -> None: ...
    def reboot(self) -> None: ...


class Script(Generic[S]):
    """Plays sequences in a scene."""

    def __init__(self, scene: Scene[S]) -> None:
        self._scene = scene
        self._letters: dict[str, TransportAddress] = {}
        self._inside: dict[str, S] = {}
        self._last: dict[tuple[str, str], TransportAddress] = {}

    def play(self, text: str) -> None:
        """Steps are parted by semicolons."""
        for step in text.split(";"):
            self._step(*step.split())

    def _step(self, what: str, verdict: str = "") -> None:
        if what == "reboot":
            self._scene.reboot()
        elif what == "wait":
            self._scene.wait(float(verdict))
        else:
            sender, to = what.split(">")
            said = self._sent(sender, to, verdict)
            assert said == verdict, f"{what}: {said}, and not {verdict}"

    def _sent(self, sender: str, to: str, verdict: str) -> str:
        scene, wanted = self._scene, verdict != "-"
        if to == str(NOBODY_LISTENS):
            return "refused" if scene.is_refused(self._socket(sender)) else "-"
        if to.isdigit():
            endpoint = scene.sees(self._socket(sender), int(to) - 1, wanted)
            if verdict == "=" and endpoint == self._same(sender):
                return "="
            if endpoint is not None:
                self._last[sender.split(":")[0], to] = endpoint
            return self._letter(endpoint, verdict)
        name, at = to.split("@")
        target = self._socket(name)
        external = self._same(name) if at == "=" else self._last[name, at]
        if sender.isdigit():
            came = scene.comes_in(int(sender) - 1, target, external, wanted)
            return "in" if came else "-"
        source = scene.turned(self._socket(sender), target, external, wanted)
        if source == scene.address(self._socket(sender)):
            return "inside"
        return self._letter(source, verdict)

    def _letter(self, endpoint: TransportAddress | None, wanted: str) -> str:
        """That which the endpoint has, or the wanted one where neither is known."""
        if endpoint is None:
            return "-"
        for letter, known in self._letters.items():
            if known == endpoint:
                return letter
        if wanted in self._letters or not re.fullmatch("[A-Z]", wanted):
            return f"a new endpoint {endpoint}"
        self._letters[wanted] = endpoint
        return wanted

    def _same(self, name: str) -> TransportAddress:
        return self._scene.outside(self._scene.address(self._socket(name)).port)

    def _socket(self, name: str) -> S:
        """By its name, made where it is first named."""
        short, _, port = name.partition(":")
        if short not in self._inside:
            self._inside[short] = self._scene.open(short[0], int(port or 0))
        return self._inside[short]
