"""A real JupyterLab, as ``./lab notebook`` starts it, in a real browser without a screen."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import nbformat
from playwright.sync_api import Page, sync_playwright

from tests.notebook.execute import FOLDER
from tests.report.browser import FLAGS

DEADLINE_MS = 90_000
_IN_FRONT = ".jp-NotebookPanel:not(.lm-mod-hidden)"
_ADDRESS = re.compile(r"(http://127\.0\.0\.1:\d+)/lab\?token=(\w+)")


class Desk:
    """JupyterLab in a browser. ``errors``: what pages complained of."""

    def __init__(self, page: Page, address: str, token: str, folder: Path) -> None:
        self.page = page
        self.folder = folder
        self.errors: list[str] = []
        self._address, self._token = address, token
        page.set_default_timeout(DEADLINE_MS)
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def open(self, name: str) -> None:
        """A notebook of the folder, with its kernel ready."""
        self.page.goto(f"{self._address}/lab/tree/{name}.ipynb?token={self._token}")
        self.page.locator(_IN_FRONT).wait_for()
        self.wait_idle()

    def wait_idle(self) -> None:
        """Until the kernel is there and has nothing to do."""
        self.page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()

    def wait_busy(self) -> None:
        self.page.get_by_text("Python 3 (ipykernel) | Busy").wait_for()

    def run_cell(self, number: int) -> None:
        """The how-many-th code cell, from 0."""
        self.page.locator(f"{_IN_FRONT} .jp-CodeCell .cm-content").nth(number).click()
        self.page.keyboard.press("Shift+Enter")

    def command(self, menu: str, entry: str) -> None:
        """Choose something from JupyterLab's menus."""
        self.page.locator(".lm-MenuBar-item", has_text=menu).first.click()
        self.page.locator(".lm-Menu-itemLabel", has_text=re.compile(f"^{entry}$")).click()

    def saved(self, name: str) -> nbformat.NotebookNode:
        """Save, and read what there is then."""
        saved = f"/{name}.ipynb/checkpoints"  # which it asks for when a file is written
        with self.page.expect_response(
            lambda answer: answer.request.method == "POST" and saved in answer.url
        ):
            self.command("File", "Save Notebook")
        notebook: nbformat.NotebookNode = nbformat.read(self.folder / f"{name}.ipynb", 4)
        return notebook


@contextmanager
def desk(folder: Path) -> Iterator[Desk]:
    """Everything is gone at the end: browser, server, kernels."""
    with _server(folder) as (address, token), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=list(FLAGS))
        try:
            page = browser.new_page(viewport={"width": 1400, "height": 1000})
            yield Desk(page, address, token, folder / "runs" / "notebooks")
        finally:
            browser.close()


@contextmanager
def _server(folder: Path) -> Iterator[tuple[str, str]]:
    command = [sys.executable, "-P", "-m", "quicpipe_lab.notebook", str(FOLDER), "--port=0"]
    settings = {
        name: str(folder / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "HOME", "TMPDIR")
    }
    settings |= {"JUPYTER_DATA_DIR": str(folder / "data"), "JUPYTER_RUNTIME_DIR": str(folder / "r")}
    environment = {**os.environ, **settings}
    # Without a home, IPython makes one in the temporary folder each time that it is asked for it.
    (folder / "home").mkdir()
    temporary = folder / "tmpdir"
    temporary.mkdir()
    command.append("--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate")
    server = subprocess.Popen(
        command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True
    )
    assert server.stderr is not None
    try:
        yield _address_in(server.stderr)
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=60)
    assert list(temporary.iterdir()) == []


def _address_in(lines: IO[str]) -> tuple[str, str]:
    said = []
    for line in lines:
        said.append(line)
        if found := _ADDRESS.search(line):
            return found[1], found[2]
    raise AssertionError("".join(said))
