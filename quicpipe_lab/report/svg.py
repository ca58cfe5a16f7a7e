"""Pictures inside a page: one SVG for both colour schemes, with names of its own."""

import io
import re

from quicpipe_lab.analysis.plots import style

_NAMED = re.compile(r'\bid="([^"]+)"')
_REFERRED = re.compile(r'href="#([^"]+)"|url\(#([^)]+)\)')
_POINTS_A_PIXEL = 0.75


def inline_svg(axes: style.Drawing, name: str, title: str) -> str:
    """The figure as an element of a page. ``title`` is for those who do not see it.

    Each colour of the light theme becomes a variable of the page's style, which has another value
    in the dark.
    """
    text = _strip(_render(axes))
    for colour, value in style.colours(style.LIGHT).items():
        text = text.replace(value, f"var(--{colour.replace('_', '-')})")
    return _label(_rename(text, name), name, title)


def css_variables(theme: style.Theme) -> str:
    """The theme's colours as the page's variables."""
    return " ".join(
        f"--{name.replace('_', '-')}: {value};" for name, value in style.colours(theme).items()
    )


def _render(axes: style.Drawing) -> str:
    out = io.StringIO()
    figure = style.figure_of(axes)
    # Without a date two reports of the same run are the same.
    figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return out.getvalue()


def _strip(text: str) -> str:
    """Without the prolog and what describes the file: the element alone, on shorter lines."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    return re.sub(r"\s*\n\s*", "\n", text)


def _rename(text: str, name: str) -> str:
    """Names that nobody refers to are dropped, the others made different from other pictures'."""
    referred = {one or other for one, other in _REFERRED.findall(text)}
    text = _NAMED.sub(lambda m: f'id="{name}-{m[1]}"' if m[1] in referred else "", text)
    text = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', text)
    return re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", text)


def _label(text: str, name: str, title: str) -> str:
    """A size that gives way on a narrow page, and a name for screen readers."""
    head = re.match(r'<svg[^>]*?width="([\d.]+)pt"', text)
    assert head is not None
    width = float(head[1]) / _POINTS_A_PIXEL
    opened, _, rest = text.partition(">")
    view = re.search(r'viewBox="[^"]+"', opened)
    assert view is not None
    tag = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    tag += f' {view[0]} role="img" aria-labelledby="{name}-title" style="width: {width:.0f}px">'
    return f'{tag}<title id="{name}-title">{title}</title>{rest}'
