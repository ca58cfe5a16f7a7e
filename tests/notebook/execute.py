"""Runs notebooks from top to bottom: for the tests, and to renew the outputs that are committed.

python -m tests.notebook.execute [NAME ...]     # all of them, or 01-hole-punching
"""

import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from tests.folders import vanishing_folder

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
LIMIT_S = 120
_SHOWN_ONLY_LIVE = "application/vnd.jupyter.widget-view+json"


def names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.ipynb"))


def execute(name: str, cwd: Path) -> nbformat.NotebookNode:
    """In a new kernel, in a folder. Raises nbclient's CellExecutionError."""
    notebook: nbformat.NotebookNode = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    client = NotebookClient(
        notebook, timeout=LIMIT_S, resources={"metadata": {"path": str(cwd)}}, record_timing=False
    )
    client.execute()
    return notebook


def renew(name: str) -> None:
    """Commit what this machine sees."""
    with vanishing_folder() as folder:
        notebook = execute(name, folder)
        for cell in notebook.cells:
            for output in cell.get("outputs", ()):
                _forget_place(output, str(folder))
    notebook.metadata.pop("widgets", None)
    notebook.metadata["language_info"] = {"name": "python"}
    nbformat.write(notebook, FOLDER / f"{name}.ipynb")


def _forget_place(output: nbformat.NotebookNode, folder: str) -> None:
    """Folders that are nobody's business, in what was printed."""
    places = {folder: ".", str(FOLDER.parent): "quicpipe-lab"}
    for old, new in places.items():
        if "text" in output:
            output["text"] = output["text"].replace(old, new)
        for kind, value in output.get("data", {}).items():
            if isinstance(value, str) and not kind.startswith("image/"):
                output["data"][kind] = value.replace(old, new)


if __name__ == "__main__":
    for one in sys.argv[1:] or names():
        began_s = time.monotonic()
        renew(one)
        size_kb = (FOLDER / f"{one}.ipynb").stat().st_size // 1000
        print(f"{one}: {time.monotonic() - began_s:.1f} s, {size_kb} kB", flush=True)
