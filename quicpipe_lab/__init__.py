"""Quicpipe in Python, and a laboratory for it: NATs, links and a relay on one machine.

For programs and notebooks: ``Lab``, ``run``, ``scenarios``, ``simulate`` and ``packets`` (see
api/). They are imported when they are asked for, because every start of ``quicpipe-lab`` pays for
what is imported here.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from quicpipe_lab.api import Lab as Lab
    from quicpipe_lab.api import packets as packets
    from quicpipe_lab.api import run as run
    from quicpipe_lab.api import scenarios as scenarios
    from quicpipe_lab.api import simulate as simulate

__all__ = ["Lab", "packets", "run", "scenarios", "simulate"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from quicpipe_lab import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
