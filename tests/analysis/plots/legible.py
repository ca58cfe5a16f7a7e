"""Whether a figure can be read: no text over another one, none cut off at the edge."""

import itertools
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.transforms import BboxBase

from quicpipe_lab.analysis.plots.style import figure_of

_TOUCH_PIXELS = 0.5


def assert_legible(ax: Axes) -> list[str]:
    """All texts of the figure, of which each can be read."""
    figure = figure_of(ax)
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    figure.draw(renderer)  # the layout is found, and need not be found again while we look
    figure.set_layout_engine("none")
    drawn: list[Text] = []
    original = Text.draw

    def draw(text: Text, *arguments: Any, **options: Any) -> None:
        if text.get_visible() and text.get_text().strip():
            drawn.append(text)
        original(text, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", draw)
        figure.draw(renderer)
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in drawn]
    for words, box in boxes:
        assert _is_within(box, figure.bbox), f"{words!r} is cut off at the figure's edge"
    for (one, first), (other, second) in itertools.combinations(boxes, 2):
        assert not _overlap(first, second), f"{one!r} and {other!r} overlap"
    return [words for words, _ in boxes]


def points(line: Line2D) -> list[tuple[float, float]]:
    """Through which a line goes."""
    return [(float(x), float(y)) for x, y in np.asarray(line.get_xydata())]


def _is_within(inner: BboxBase, outer: BboxBase) -> bool:
    return bool(
        inner.x0 >= outer.x0 - 1
        and inner.x1 <= outer.x1 + 1
        and inner.y0 >= outer.y0 - 1
        and inner.y1 <= outer.y1 + 1
    )


def _overlap(one: BboxBase, other: BboxBase) -> bool:
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return bool(width > _TOUCH_PIXELS and height > _TOUCH_PIXELS)
