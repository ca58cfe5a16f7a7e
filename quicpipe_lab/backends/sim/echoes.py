"""Pings through routers: conntrack's entries for ICMP echo (RFC 5508, REQ-1 to REQ-3)."""

from quicpipe_lab.backends.sim.memory import Memory
from quicpipe_lab.backends.sim.packet import Echo, IcmpError

LIFETIME_S = 30.0
"""nf_conntrack_icmp_timeout."""
_IDENTIFIERS = 65536

Flow = tuple[str, int, str]
"""A host, an identifier, and the other host."""


class Echoes:
    """Requests that went out. An identifier that another host has is replaced by a free one."""

    def __init__(self) -> None:
        self._memory = Memory[tuple[Flow, Flow]](LIFETIME_S)
        self._external: dict[Flow, Flow] = {}
        self._inside: dict[Flow, Flow] = {}

    def outbound(self, echo: Echo, external_host: str, now_s: float) -> Echo | None:
        """Translated; None where all identifiers are taken. Replies are not translated."""
        inside = echo.source, echo.identifier, echo.destination
        external = self._external.get(inside)
        if external is None or not self._memory.has((inside, external), now_s):
            external = self._choose(inside, external_host, now_s)
            if external is None:
                return None
            self._external[inside], self._inside[external] = external, inside
        self._memory.note((inside, external), now_s)
        return echo._replace(source=external[0], identifier=external[1])

    def _choose(self, inside: Flow, external_host: str, now_s: float) -> Flow | None:
        _, identifier, remote = inside
        for step in range(_IDENTIFIERS):
            external = external_host, (identifier + step) % _IDENTIFIERS, remote
            other = self._inside.get(external)
            if other is None or not self._memory.has((other, external), now_s):
                return external
        return None

    def inbound(self, echo: Echo, now_s: float) -> Echo | None:
        """A reply with its inside end; None if unknown."""
        host, remote = echo.destination, echo.source
        inside = self._inside.get((host, echo.identifier, remote))
        if inside is None or not self._memory.has((inside, (host, echo.identifier, remote)), now_s):
            return None
        return echo._replace(destination=inside[0], identifier=inside[1])

    def inbound_error(self, error: IcmpError, about: Echo, now_s: float) -> IcmpError | None:
        """An error about a request, for the host that sent it; None if unknown."""
        reply = about._replace(source=about.destination, destination=about.source)
        known = self.inbound(reply, now_s)
        if known is None:
            return None
        host = known.destination
        sent = about._replace(source=host, identifier=known.identifier)
        return error._replace(destination=host, about=sent)
