"""Axes in one style, and SVG text that is the same on every run."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from mbpo.report import palette
from mbpo.studies.wording import per_cent

WIDTH = 4.7  # inches of 72 points: legible when a phone shows it at its own width
LABEL_HEIGHT = 12.0  # points
FEW = 8  # labels, or lines, that fit on a figure without a thought
STYLE = {
    "svg.hashsalt": "mbpo",
    "svg.fonttype": "none",
    "font.family": ["DejaVu Sans"],
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": palette.MUTED[0],
    "axes.labelcolor": palette.INK[0],
    "axes.linewidth": 0.8,
    "grid.color": palette.GRID[0],
    "grid.linewidth": 0.7,
    "text.color": palette.INK[0],
    "xtick.color": palette.MUTED[0],
    "ytick.color": palette.MUTED[0],
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "path.simplify": True,
}


@dataclass(frozen=True)
class Picture:
    """A drawn figure: a short file name, a title, a caption, what a blind reader is told, and the SVG."""

    name: str
    title: str
    caption: str
    description: str
    svg: str

    def inline(self, prefix: str) -> str:
        """The SVG for an HTML page: ids made unique by `prefix`, colours as CSS variables, no metadata."""
        text = self.svg[self.svg.index("<svg") :]
        text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
        text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text)
        text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{prefix}-", text)
        for light, (name, _, _) in palette.variables().items():
            text = re.sub(light, f"var({name})", text, flags=re.IGNORECASE)
        size = re.compile(r'<svg[^>]*?(viewBox="[^"]*")[^>]*>')
        title = f'<svg role="img" aria-label="{_attribute(self.description)}" \\1>'
        return size.sub(title, text, count=1)


@contextmanager
def style() -> Iterator[None]:
    """The style of every figure, for the time of a block."""
    with matplotlib.rc_context(STYLE):  # pyright: ignore[reportArgumentType]  # stubs list every key
        yield


def new_figure(height: float, rows: int = 1, right: float = 0.96) -> tuple[Figure, list[Axes]]:
    """A transparent figure with `rows` axes above each other; the axes end at `right` of its width."""
    figure = Figure(figsize=(WIDTH, height))
    FigureCanvasSVG(figure)
    figure.patch.set_alpha(0.0)
    axes = figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0]
    for each in axes:
        each.patch.set_alpha(0.0)
    figure.subplots_adjust(left=0.15, right=right, bottom=0.52 / height, top=1 - 0.14 / height, hspace=0.22)
    return figure, list(axes)


def to_svg(figure: Figure) -> str:
    """The figure as SVG text without date or version."""
    out = io.StringIO()
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    figure.savefig(out, format="svg", metadata=nothing)
    return out.getvalue()


def log_axes(axes: Axes, x: tuple[float, float], y: tuple[float, float]) -> None:
    """Logarithmic axes: real transitions across, a relative quantity in per cent upwards."""
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(x)
    axes.set_ylim(y)
    for axis, (low, high) in ((axes.xaxis, x), (axes.yaxis, y)):
        decades = math.log10(high / low)
        steps = (1.0,) if decades > 2.6 else (1.0, 3.0) if decades > 1.3 else (1.0, 2.0, 5.0)
        axis.set_major_locator(LogLocator(subs=steps))
        axis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: per_cent(value)))
    axes.grid(True, which="major")
    axes.set_axisbelow(True)


def end_labels(axes: Axes, ends: Sequence[tuple[float, float, str, str]], size: float | None = None) -> None:
    """Names of lines in a column right of the axes: (x, y, text, colour) of each line's end, in data units.

    Names that would collide are pushed apart, and more than `FEW` stay beside the axes; a hairline leads from each
    end to its name. `size`: of the letters, in points.
    """
    if not ends:
        return
    to_axes = axes.transData + axes.transAxes.inverted()
    points = [to_axes.transform((x, y)) for x, y, _, _ in ends]
    box = axes.get_window_extent()
    gap = (LABEL_HEIGHT if size is None else 1.26 * size) / (box.height * 72 / axes.figure.dpi)
    at = [float(point[1]) for point in points]
    heights = _apart(at, gap) if len(at) <= FEW else spaced(at, gap, 0.0, 1.0)
    for (_, _, text, tint), point, height in zip(ends, points, heights, strict=True):
        axes.plot(
            [point[0], 1.0, 1.03],
            [point[1], height, height],
            transform=axes.transAxes,
            color=tint,
            lw=0.6,
            alpha=0.6,
            clip_on=False,
        )
        axes.text(1.04, height, text, transform=axes.transAxes, color=tint, va="center", fontsize=size)


def spaced(heights: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """The heights between `low` and `high`, in the order they had, at least `gap` apart and moved as little as needed
    (least squares); closer together where there is no room."""
    count = len(heights)
    gap = min(gap, (high - low) / max(count - 1, 1))
    order = sorted(range(count), key=lambda i: (heights[i], -i))
    blocks: list[list[float]] = []  # mean and size; neighbours out of order are merged
    for place, i in enumerate(order):
        blocks.append([heights[i] - place * gap, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            mean, size = blocks.pop()
            blocks[-1] = [
                (blocks[-1][0] * blocks[-1][1] + mean * size) / (blocks[-1][1] + size),
                blocks[-1][1] + size,
            ]
    means = [mean for mean, size in blocks for _ in range(int(size))]
    found = [0.0] * count
    for place, (i, mean) in enumerate(zip(order, means, strict=True)):
        found[i] = min(max(mean, low), high - (count - 1) * gap) + place * gap
    return found


def _apart(heights: list[float], gap: float) -> list[float]:
    """The heights moved as little as needed for neighbours to be `gap` apart, in the order they had."""
    order = sorted(range(len(heights)), key=lambda i: (heights[i], -i))
    for _ in range(200):
        for lower, upper in pairwise(order):
            overlap = gap - (heights[upper] - heights[lower])
            if overlap > 0:
                heights[upper] += overlap / 2
                heights[lower] -= overlap / 2
    return heights


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace("\\", "")
