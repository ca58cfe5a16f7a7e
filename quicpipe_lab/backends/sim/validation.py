"""Which addresses have shown that they receive, by what the network delivered.

An address has shown it when something that was sent there came to a program, which then sent
something that arrived: a handshake's answer, a PATH_RESPONSE (RFC 9000, 8.1 and 8.2), the answer to
a punch. No machine is asked. A copy that a stranger sends changes nothing: what it answers came to
its author first.
"""

from typing import TypeVar

from quicpipe_lab.model.address import TransportAddress

REMEMBERED = 4096
"""Datagrams: many more than are ever on their way."""
T = TypeVar("T")


class Validation:
    """Of addresses by one node, its *speaker*; ``owner_of`` tells at which node they were heard."""

    def __init__(self) -> None:
        self._said: dict[bytes, TransportAddress] = {}
        self._heard: dict[str, set[TransportAddress]] = {}
        self._answers: dict[bytes, tuple[str, frozenset[TransportAddress]]] = {}
        self._owners: dict[TransportAddress, str] = {}

    def owner_of(self, address: TransportAddress) -> str | None:
        """None for one that has shown nothing."""
        return self._owners.get(address)

    def has_shown(self, host: str) -> bool:
        """Whether any address of this host has shown anything."""
        return any(one.host == host for one in self._owners)

    def said(self, data: bytes, to: TransportAddress) -> None:
        """The speaker sent a datagram."""
        remember(self._said, data, to)

    def heard(self, node: str, data: bytes) -> None:
        """A datagram came to another node."""
        address = self._said.get(data)
        if address is not None and self._owners.get(address) != node:
            self._heard.setdefault(node, set()).add(address)

    def answered(self, node: str, data: bytes) -> None:
        """Another node sent a datagram."""
        heard = self._heard.get(node)
        if heard:
            remember(self._answers, data, (node, frozenset(heard)))

    def came(self, data: bytes, source: TransportAddress) -> None:
        """A datagram came to the speaker."""
        node, shown = self._answers.pop(data, ("", frozenset()))
        if shown and node not in self._owners.values():
            # A handshake's packet counts for the address that it is from (RFC 9000, 8.1), though a
            # NAT may have moved its sender meanwhile. Afterwards there is a PATH_CHALLENGE.
            self._owners[source] = node
        for address in shown:
            self._owners[address] = node
            self._heard[node].discard(address)


def remember(memory: dict[bytes, T], data: bytes, value: T) -> None:
    memory[data] = value
    if len(memory) > REMEMBERED:
        del memory[next(iter(memory))]
