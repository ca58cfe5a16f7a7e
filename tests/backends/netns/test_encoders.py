"""pyroute2's encoders come without the rest of it, and all the same where that does not work."""

import subprocess
import sys
from pathlib import Path

_ENCODE = """
import hashlib, json, marshal, sys
{before}
from quicpipe_lab.backends.netns.encoding import encode_blueprint
from quicpipe_lab.backends.netns.plan import plan
from quicpipe_lab.resources import find_topology
encoded = encode_blueprint(json.dumps(plan(find_topology("two-homes"))))
print(hashlib.sha256(repr(encoded).encode()).hexdigest())
print("asyncio" in sys.modules, "multiprocessing.context" in sys.modules)
import multiprocessing, pyroute2
pyroute2.IPRoute, multiprocessing.Process, pyroute2.NFTSocket
"""

# A module that fails to import under the bare package, and does not under the real one.
_FAIL_ONCE = """
class FailOnce:
    def find_spec(self, name, path, target=None):
        if name == "pyroute2.netlink.rtnl.rtmsg":
            sys.meta_path.remove(self)
            raise ImportError(name)
sys.meta_path.insert(0, FailOnce())
"""


_WITHOUT_PYROUTE2 = """
import sys
from importlib.abc import MetaPathFinder

class Missing(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.startswith("pyroute2"):
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Missing())
from quicpipe_lab.cli import main
sys.exit(main(["matrix", "--rows", "home", "--cols", "home", "--backend", "netns"]))
"""


def test_without_pyroute2_it_is_said_what_to_do(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _WITHOUT_PYROUTE2]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.stderr == "quicpipe-lab: pyroute2 is missing; pip install pyroute2\n"
    assert done.returncode == 3


def _encode(before: str = "") -> list[str]:
    """The encoding's digest, and what else was imported; pyroute2 must still work afterwards."""
    program = [sys.executable, "-c", _ENCODE.format(before=before)]
    return subprocess.run(program, check=True, capture_output=True, text=True).stdout.split()


def test_only_the_encoders_are_imported() -> None:
    assert _encode()[1:] == ["False", "False"]


def test_all_of_it_is_imported_where_the_encoders_alone_cannot() -> None:
    digest, *imported = _encode(_FAIL_ONCE)
    assert imported == ["True", "True"]
    assert digest == _encode()[0] == _encode("import pyroute2")[0]
