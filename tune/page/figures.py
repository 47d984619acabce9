"""Draw the plots of a page with matplotlib: each as SVG within the page, and as a PNG file beside it."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmt.io.files import atomic_write
from nmt.io.page import embedded

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 11.0
"""width of a plot across the page, in inches"""
INK, SOFT, LINE, GREY = "#1b2130", "#667085", "#e3e6ec", "#aab2c0"
BEST, DEFAULT, FAILED = "#1f5fbf", "#d9822b", "#c0392b"
"""colours of the winner, of the default configuration and of failed trials"""
LARGEST_SVG = 250_000
"""characters; a plot with more is embedded as PNG"""
DPI = 110
_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: it can be searched, and is small
    "svg.hashsalt": "nmt",  # the same plot has the same ids at each report
    "text.parse_math": False,  # a "$" in the name of a category is a "$"
    "font.family": "sans-serif",
    "font.size": 10.0,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "text.color": INK,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "legend.frameon": False,
    "legend.fontsize": 9.0,
    "figure.constrained_layout.use": True,
}


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A plot as the page shows it."""

    name: str
    """name of its PNG file, without the ending"""
    picture: Markup
    """an element of HTML: the SVG, or an image where that would be big"""
    note: str
    """one sentence or two: what it shows and how to read it"""


@dataclass(frozen=True)
class Gallery:
    """Draws plots and writes each as PNG.

    Args:
        folder: of the PNG files.
    """

    folder: Path

    def draw(
        self, name: str, note: str, fill: Callable[[Figure], None], *, height: float, width: float = WIDTH
    ) -> Plot:
        """Draw a plot.

        Args:
            fill: draws on an empty figure.
            height: in inches, as `width`.

        Raises:
            UserError: the PNG cannot be written.
        """
        import matplotlib as mpl
        from markupsafe import Markup
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        with mpl.rc_context(_STYLE):
            figure = Figure(figsize=(width, height))
            FigureCanvasAgg(figure)  # needs no display
            fill(figure)
            png, svg = io.BytesIO(), io.StringIO()
            figure.savefig(png, format="png", dpi=DPI)
            figure.set_layout_engine("none")  # the places are found: finding them again takes as long as drawing
            figure.savefig(svg, format="svg", metadata={"Date": None})
        with atomic_write(self.folder / f"{name}.png") as file:
            file.write(png.getvalue())
        text = _inline(svg.getvalue(), width)
        if len(text) > LARGEST_SVG:
            address = embedded(png.getvalue(), "png")
            image = Markup('<img src="{}" alt="{}" style="max-width:{:.0f}px">').format(address, note, 100 * width)
            return Plot(name=name, note=note, picture=image)
        return Plot(name=name, note=note, picture=Markup(text))


def _inline(svg: str, width: float) -> str:
    """Return an SVG file as an element of HTML: without its head and its addresses, at most 100 pixels per inch."""
    text = svg[svg.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, count=1, flags=re.DOTALL)
    head, end, rest = text.partition(">")
    head = re.sub(r'\s(?:xmlns(?::\w+)?|width|height|version)="[^"]*"', "", head)
    return f'{head} role="img" style="max-width:{100 * width:.0f}px"{end}{rest}'


def percent_axis(axes: Axes, *, which: str = "y") -> None:
    """Label an axis of accuracies in per cent."""
    (axes.yaxis if which == "y" else axes.xaxis).set_major_formatter(lambda value, _: f"{100 * value:.4g} %")


def whole_numbers(axes: Axes, *, which: str = "x") -> None:
    """Place the labels of an axis at whole numbers."""
    from matplotlib.ticker import MaxNLocator

    (axes.yaxis if which == "y" else axes.xaxis).set_major_locator(MaxNLocator(integer=True))


def rung_colours(rungs: list[int]) -> dict[int, Any]:
    """Return a colour for each rung, from light for the lowest to dark for the full budget."""
    import matplotlib as mpl

    shades = mpl.colormaps["YlGnBu"]
    last = max(len(rungs) - 1, 1)
    return {rung: shades(0.35 + 0.6 * k / last) for k, rung in enumerate(rungs)}
