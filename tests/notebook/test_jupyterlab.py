"""The first notebook and the live view in a real JupyterLab, in a real browser."""

from collections.abc import Iterator
from pathlib import Path

import nbformat
import numpy as np
import pytest
from matplotlib.image import imread
from nbformat.v4 import new_code_cell, new_notebook

from tests.notebook.execute import FOLDER
from tests.notebook.jupyter import Desk, desk

pytestmark = [pytest.mark.netns, pytest.mark.browser, pytest.mark.timeout(300)]

_LIVE = """\
from quicpipe_lab import Lab
from quicpipe_lab.notebook.live import LiveView

lab = await Lab("two-homes").up()
view = await LiveView(lab).start()
await view.play()
view"""


@pytest.fixture
def jupyter(tmp_path: Path) -> Iterator[Desk]:
    """One for each: JupyterLab opens again what was open before."""
    with desk(tmp_path) as one:
        yield one


def _has_picture(path: Path) -> bool:
    """Whether something is shown in more than a few colours."""
    return len(np.unique(imread(path)[::4, ::4, :3].reshape(-1, 3), axis=0)) > 50


def test_first_notebook_from_top_to_bottom(jupyter: Desk, tmp_path: Path) -> None:
    name = "01-hole-punching"
    jupyter.open(name)
    jupyter.command("Edit", "Clear Outputs of All Cells")
    cleared = [cell for cell in jupyter.saved(name).cells if cell.cell_type == "code"]
    assert not any(cell.outputs for cell in cleared)
    jupyter.command("Run", "Run All Cells")
    jupyter.wait_busy()
    jupyter.wait_idle()
    cells = [cell for cell in jupyter.saved(name).cells if cell.cell_type == "code"]
    outputs = [output for cell in cells for output in cell.outputs]
    assert all(cell.outputs for cell in cells)
    assert not [one for one in outputs if one.output_type == "error"]
    assert sum("image/png" in one.get("data", {}) for one in outputs) == 4
    picture = tmp_path / "first.png"
    jupyter.page.screenshot(path=picture)
    assert _has_picture(picture)
    assert jupyter.errors == []


def test_live_view(jupyter: Desk, tmp_path: Path) -> None:
    cells = [new_code_cell(_LIVE), new_code_cell("await lab.down()")]
    like_ours = nbformat.read(FOLDER / "01-hole-punching.ipynb", as_version=4).metadata
    live = new_notebook(cells=cells, metadata=like_ours)
    nbformat.write(live, jupyter.folder / "live.ipynb")
    jupyter.open("live")
    page = jupyter.page
    jupyter.run_cell(0)
    view = page.locator(".quicpipe-lab-live")
    view.locator("li", has_text="(direct)").first.wait_for()
    view.locator("circle.direct").first.wait_for(state="attached")  # packets, on their way
    view.get_by_role("button", name="relay off").click()
    view.get_by_role("button", name="relay on").wait_for()
    assert view.locator("line.off").count() == 1
    picture = tmp_path / "live.png"
    page.screenshot(path=picture)
    assert _has_picture(picture)
    view.get_by_role("button", name="relay on").click()
    view.get_by_role("button", name="relay off").wait_for()
    jupyter.run_cell(1)
    jupyter.wait_idle()
    view.get_by_role("button", name="relay off").click()
    view.locator("li", has_text="the lab is not up").wait_for()
    assert jupyter.errors == []
