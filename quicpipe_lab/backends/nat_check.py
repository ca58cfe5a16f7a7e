"""Which backend measures what NATs are: found lazily, for each needs libraries of its own."""

from quicpipe_lab.backends.base import require_linux
from quicpipe_lab.errors import ScenarioError
from quicpipe_lab.model.nat_certificate import Certificate
from quicpipe_lab.model.topology import Topology


def check_nats(topology: Topology, *, backend: str, lifetime: bool) -> list[Certificate]:
    """What a topology's NATs are declared and measured to be, in a network built for it.

    ``lifetime``: wait for idle mappings to end as well; in virtual time (``sim``) that takes none.
    Raises ScenarioError where there is no such backend, and what the backend's own raises.
    """
    match backend:
        case "netns":
            require_linux()
            from quicpipe_lab.backends.netns import nat_check

            return nat_check.check_nats(topology, lifetime=lifetime)
        case "sim":
            from quicpipe_lab.backends.sim import prober

            return prober.certify(topology, lifetime=lifetime)
    raise ScenarioError("backend", f"{backend!r} is none of netns, sim")
