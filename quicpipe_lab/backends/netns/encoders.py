"""pyroute2's message classes, without the rest of pyroute2.

A plain ``import pyroute2`` takes longer than everything else that starts a lab: its ``__init__``
imports every module that it has, and the one with nftables' messages also brings sockets that run
on asyncio. So its modules are imported here under a bare package of its name, with stand-ins for
what they do not need in order to encode. Should a later pyroute2 not stand that, it is imported in
the plain way, and only the time is lost.
"""

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from quicpipe_lab.backends.netns.netlink import Request
from quicpipe_lab.errors import BackendUnavailableError

# Modules that only the sockets need, and the names that are looked up in them on import.
_STAND_INS: dict[str, dict[str, object]] = {
    "multiprocessing": {"Pipe": None, "Queue": None, "Process": None},
    "pyroute2.netlink.nlsocket": {"AsyncNetlinkSocket": object, "NetlinkSocket": object},
}


@contextmanager
def _without_the_rest() -> Iterator[None]:
    spec = importlib.util.find_spec("pyroute2")
    package = ModuleType("pyroute2")
    package.__path__ = list(spec.submodule_search_locations or ()) if spec else []
    stand_ins = {"pyroute2": package}
    for name, contents in _STAND_INS.items():
        if name not in sys.modules:
            stand_ins[name] = ModuleType(name)
            stand_ins[name].__dict__.update(contents)
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name in stand_ins:
            del sys.modules[name]


def load(*names: str) -> list[ModuleType]:
    """Modules of pyroute2, by their full names. Raises BackendUnavailableError."""
    if "pyroute2" not in sys.modules:
        before = set(sys.modules)
        try:
            with _without_the_rest():
                return [importlib.import_module(name) for name in names]
        except (ImportError, AttributeError, TypeError):
            for name in set(sys.modules) - before:
                if name.startswith("pyroute2."):
                    del sys.modules[name]
    try:
        return [importlib.import_module(name) for name in names]
    except ModuleNotFoundError as error:
        if error.name != "pyroute2":
            raise
        raise BackendUnavailableError("pyroute2 is missing", "pip install pyroute2") from None


netlink, rtnl, ifaddrmsg, ifinfmsg, ndmsg, rtmsg, nfnetlink, nftsocket = load(
    "pyroute2.netlink",
    "pyroute2.netlink.rtnl",
    "pyroute2.netlink.rtnl.ifaddrmsg",
    "pyroute2.netlink.rtnl.ifinfmsg",
    "pyroute2.netlink.rtnl.ndmsg",
    "pyroute2.netlink.rtnl.rtmsg",
    "pyroute2.netlink.nfnetlink",
    "pyroute2.netlink.nfnetlink.nftsocket",
)

NLM_F_NEW: int = netlink.NLM_F_CREATE | netlink.NLM_F_EXCL
NLM_F_INSTEAD: int = netlink.NLM_F_CREATE | netlink.NLM_F_REPLACE


def encode(message: Any, kind: int, flags: int, purpose: str) -> Request:
    """From a pyroute2 message to bytes; ``kind`` is the netlink message type."""
    message["header"]["type"] = kind
    message["header"]["flags"] = netlink.NLM_F_REQUEST | flags
    message.encode()
    return bytes(message.data), purpose
