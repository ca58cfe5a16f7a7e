"""The build backend of the tests' small checkout: real enough for pip, and it needs no network.

It installs a program ``quicpipe-lab`` that prints its arguments and folder as JSON and exits with
the status that ``--exit=N`` asks for. Each build adds a line to ``builds``; while a FIFO ``hold``
exists, a build waits there until a writer has come and gone; a file ``broken`` makes it fail.
"""

import os
import zipfile
from pathlib import Path

_DIST_INFO = "quicpipe_lab-1.dist-info"
_METADATA = """\
Metadata-Version: 2.1
Name: quicpipe-lab
Version: 1
Provides-Extra: lab
Provides-Extra: dev
"""
_PROGRAM = """\
import json, os, sys

def main():
    print(json.dumps({"arguments": sys.argv[1:], "cwd": os.getcwd()}))
    return sum(int(one[7:]) for one in sys.argv if one.startswith("--exit="))
"""
_FILES = {
    "quicpipe_lab/__init__.py": "",
    "quicpipe_lab/entry.py": _PROGRAM,
    f"{_DIST_INFO}/METADATA": _METADATA,
    f"{_DIST_INFO}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    f"{_DIST_INFO}/entry_points.txt": "[console_scripts]\nquicpipe-lab = quicpipe_lab.entry:main\n",
    f"{_DIST_INFO}/RECORD": "",
}


def prepare_metadata_for_build_editable(folder: str, *_: object) -> str:
    for name, text in _FILES.items():
        if name.startswith(_DIST_INFO):
            path = Path(folder, name)
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
    return _DIST_INFO


def build_editable(folder: str, *_: object) -> str:
    with Path("builds").open("a") as builds:
        builds.write("built\n")
    if Path("hold").exists():
        os.read(os.open("hold", os.O_RDONLY), 1)
    if Path("broken").exists():
        raise RuntimeError("this checkout is broken")
    wheel = "quicpipe_lab-1-py3-none-any.whl"
    with zipfile.ZipFile(Path(folder, wheel), "w") as archive:
        for name, text in _FILES.items():
            archive.writestr(name, text)
    return wheel
