"""How long a NAT keeps an idle mapping, and which packets keep it alive: RFC 5780, 4.6.

A mapping is asked whether it is there without being used: another socket has the server send its
answer there (RESPONSE-PORT). Each mapping is asked once, as the question may refresh it. They idle
side by side, until the first is gone: those that were to idle longer would be too.
"""

from collections.abc import Sequence

from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.model.nat_measurement import (
    NatMeasurement,
    Property,
    lifetime_bracket,
    refresh,
)
from quicpipe_lab.shell.prober_means import REAL, MakeSocket, Means, Pool, Task
from quicpipe_lab.shell.stun_client import (
    NoAnswerError,
    RefusedError,
    StunClient,
    Timing,
)

UNKNOWN_IDLE_S = (5.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 150.0, 180.0, 240.0, 300.0)
"""Where nothing is declared: closer together where NATs are found (RFC 4787, 4.3)."""
_DECLARED_PARTS = (0.25, 0.5, 0.75, 0.9, 0.95, 1.05, 1.1, 1.25)
WARM_UP_S = 2.5
"""conntrack has another lifetime for flows that were still answered after 2 s."""
_WARM_UP_STEP_S = 0.25
_ASKERS = 64
_REFRESHED_AT, _ASKED_AT = 0.6, 1.2
"""Parts of the lifetime: refreshed while it is there, asked when it would be gone otherwise."""


class LifetimeProber:
    """``declared_s``: the lifetime to look closely at, or None.

    ``warm_up_s``: so long must a flow have lasted before it idles.
    """

    def __init__(
        self,
        server: TransportAddress,
        make: MakeSocket,
        timing: Timing,
        declared_s: float | None,
        warm_up_s: float = 0.0,
        means: Means = REAL,
    ) -> None:
        self._server = server
        self._make = make
        self._timing = timing
        self._declared_s = declared_s
        self._warm_up_s = warm_up_s
        self._means = means
        self._found = means.signal()

    def measure(self, result: NatMeasurement) -> None:
        """Adds to ``result``. It takes as long as it must."""
        try:
            self._measure(result)
        except (NoAnswerError, RefusedError, ValueError) as error:
            result.remarks[Property.LIFETIME] = result.remarks[Property.REFRESH] = str(error)

    def _measure(self, result: NatMeasurement) -> None:
        if self._declared_s is None:
            idle_s: Sequence[float] = UNKNOWN_IDLE_S
        else:
            idle_s = [self._declared_s * part for part in _DECLARED_PARTS]
        with self._means.pool(len(idle_s) + 2) as threads:
            refreshed = None
            if self._declared_s is not None:
                refreshed = self._submit_refresh(threads, self._declared_s)
            tasks = [threads.submit(self._outlives, one) for one in idle_s]
            outcomes = [task.result() for task in tasks]
            alive_s, gone_s = lifetime_bracket([one for one in outcomes if one is not None])
            result.lifetime_s = alive_s, gone_s
            if refreshed is None and gone_s is not None:
                refreshed = self._submit_refresh(threads, gone_s)
            if refreshed is None:
                result.remarks[Property.REFRESH] = f"it lives for more than {alive_s:g} s"
            else:
                by_outbound, by_inbound = refreshed
                result.words[Property.REFRESH] = refresh(by_outbound.result(), by_inbound.result())

    def _submit_refresh(self, threads: Pool, lifetime_s: float) -> "list[Task[bool]]":
        """By an outbound packet, by an inbound one."""
        return [
            threads.submit(self._is_refreshed, lifetime_s, outbound) for outbound in (True, False)
        ]

    def _outlives(self, idle_s: float) -> tuple[float, float, bool] | None:
        """Idle for at least so long, for at most so long, and whether it was still there.

        None where a shorter one was gone already.
        """
        with self._client() as client:
            self._warm_up(client)
            earliest_s = self._means.now_s()
            mapped = client.ask(self._server).mapped
            latest_s = self._means.now_s()
            if self._found.wait(idle_s):
                return None
            asked_s = self._means.now_s()
            there = self._is_there(client, mapped)
            if not there:
                self._found.set()
            return asked_s - latest_s, self._means.now_s() - earliest_s, there

    def _is_refreshed(self, lifetime_s: float, outbound: bool) -> bool:
        with self._client() as client:
            self._warm_up(client)
            mapped = client.ask(self._server).mapped
            began_s = self._means.now_s()
            self._wait_until(began_s + _REFRESHED_AT * lifetime_s)
            if outbound:
                client.ask(self._server)
            elif not self._is_there(client, mapped):
                raise NoAnswerError("a mapping ended before its time")
            self._wait_until(began_s + _ASKED_AT * lifetime_s)
            return self._is_there(client, mapped)

    def _warm_up(self, client: StunClient) -> None:
        end_s = self._means.now_s() + self._warm_up_s
        while self._means.now_s() < end_s:
            client.ask(self._server)
            self._means.sleep(_WARM_UP_STEP_S)

    def _is_there(self, client: StunClient, mapped: TransportAddress) -> bool:
        """Whether the server's datagram to a client's mapping comes in.

        The server answers to the asker's external address, which a NAT may have several of.
        """
        for _ in range(_ASKERS):
            with self._client() as asker:
                if asker.ask(self._server).mapped.host == mapped.host:
                    return asker.provoke(self._server, response_port=mapped.port, target=client)
        raise NoAnswerError(f"no other socket got the external address {mapped.host}")

    def _client(self) -> StunClient:
        return StunClient(self._make(0), self._timing, self._means)

    def _wait_until(self, moment_s: float) -> None:
        self._means.sleep(max(0.0, moment_s - self._means.now_s()))
