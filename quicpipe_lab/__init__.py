"""Quicpipe in Python, and a laboratory for it: NATs, links and a relay on one machine.

For programs and notebooks: ``Lab``, ``run``, ``scenarios`` and the others below (see api/). They
are imported when they are asked for, because every start of ``quicpipe-lab`` pays for what is
imported here.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from quicpipe_lab.api import Lab as Lab
    from quicpipe_lab.api import check_nats as check_nats
    from quicpipe_lab.api import explain as explain
    from quicpipe_lab.api import explore as explore
    from quicpipe_lab.api import matrix as matrix
    from quicpipe_lab.api import packets as packets
    from quicpipe_lab.api import picture as picture
    from quicpipe_lab.api import run as run
    from quicpipe_lab.api import run_async as run_async
    from quicpipe_lab.api import scenarios as scenarios
    from quicpipe_lab.api import simulate as simulate
    from quicpipe_lab.api import topologies as topologies

__all__ = [
    "Lab",
    "check_nats",
    "explain",
    "explore",
    "matrix",
    "packets",
    "picture",
    "run",
    "run_async",
    "scenarios",
    "simulate",
    "topologies",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from quicpipe_lab import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]


if "IPython" in sys.modules:
    from quicpipe_lab import notebook

    notebook.register()
