"""Charts as SVG that lives in the page: its text in the page's type, its colours those of the page's scheme."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Canvas

from exafel.arrays import AnyArray, FloatArray, IntArray
from exafel.monitor.report.blocks import Numbers

COLOURS = {
    "ink": "#1b2430",
    "soft": "#5c6878",
    "line": "#c9d1da",
    "paper": "#ffffff",
    "blue": "#0b6fb8",
    "green": "#12855f",
    "orange": "#c2600c",
    "purple": "#8a4fa3",
    "grey": "#8d97a3",
    "red": "#c23a3a",
    "gold": "#a67c00",
    "sky": "#3f9fd0",
}
"""Roles and their colours on light paper. In the page each is a CSS variable, so that dark schemes have their own."""

OUTCOME_COLOURS = {
    "integrated": "green",
    "integrate_failed": "gold",
    "refine_failed": "orange",
    "not_indexed": "purple",
    "no_hit": "grey",
    "read_failed": "red",
    "simulated": "blue",
}
"""Colour of each outcome of a shot, the same in every figure."""

SERIES = ("blue", "orange", "green", "purple", "gold", "sky", "red", "grey")
"""Colours of series without a meaning of their own, in order."""

WIDE_INCHES = 11.2
HALF_INCHES = 5.4
RASTER_ABOVE = 3000
"""Points beyond which a scatter is embedded as pixels: vectors would make the page heavy."""

_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "exafel",
    "font.family": "sans-serif",
    "font.size": 8.5,
    "axes.edgecolor": COLOURS["line"],
    "axes.labelcolor": COLOURS["ink"],
    "axes.titlecolor": COLOURS["ink"],
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": COLOURS["line"],
    "grid.linewidth": 0.5,
    "grid.alpha": 0.6,
    "text.color": COLOURS["ink"],
    "xtick.color": COLOURS["soft"],
    "ytick.color": COLOURS["soft"],
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.6,
    "figure.constrained_layout.use": True,
}


@contextmanager
def canvas(width: float = HALF_INCHES, height: float = 2.9) -> Iterator[Canvas]:
    """Open an empty figure in the report's style; size in inches."""
    with mpl.rc_context(_STYLE):
        figure = Canvas(figsize=(width, height))
        FigureCanvasSVG(figure)
        figure.patch.set_alpha(0.0)
        yield figure


def svg(figure: Canvas, name: str, alt: str) -> str:
    """Write a figure as an SVG element: within the canvas's context, with `name` in front of every id.

    Parameters
    ----------
    name
        Unique in the page.
    alt
        What the figure shows, for those who do not see it.
    """
    for axes in figure.axes:
        axes.patch.set_alpha(0.0)
    stream = io.StringIO()
    figure.savefig(
        stream, format="svg", dpi=160, metadata={"Date": None, "Creator": None, "Type": None, "Format": None}
    )
    code = stream.getvalue()
    code = code[code.index("<svg") :]
    code = re.sub(r"<metadata>.*?</metadata>", "", code, flags=re.DOTALL)
    code = re.sub(r'\bid="', f'id="{name}-', code)
    code = re.sub(r'(href="|url\()#', rf"\1#{name}-", code)
    for role, colour in COLOURS.items():
        code = code.replace(colour, f"var(--{role})")
    label = f'<svg role="img" aria-label="{escape(alt, quote=True)}"'
    code = re.sub(r"<svg(?=\s)", label, code, count=1)
    return re.sub(r'\s(?:width|height)="[\d.]+pt"', "", code)


def bins_of(values: FloatArray, n_bins: int) -> FloatArray:
    """Limits of bins between the 0.5 and 99.5 percentile, widened so that equal values have a bin, shape (n + 1,).

    There are at most `n_bins`, and fewer for few values, in proportion to the cube root of their number.
    """
    n_bins = min(n_bins, max(10, round(3 * len(values) ** (1 / 3))))
    low, high = (float(x) for x in np.percentile(values, [0.5, 99.5]))
    same = high - low <= 1e-6 * abs(high)
    pad = max(0.05 * abs(high), 1e-3) if same else 0.05 * (high - low)
    return np.linspace(low - pad, high + pad, n_bins + 1)


def histogram(
    axes: Axes, values: FloatArray, label: str, *, n_bins: int, colour: str = "blue"
) -> list[tuple[Any, ...]]:
    """Draw a histogram with its median as a line; values far out count in the first and last bin.

    Returns
    -------
    Rows (quantity, lower limit, upper limit, count), for `histogram_numbers`.
    """
    limits = bins_of(values, n_bins)
    counts, _ = np.histogram(np.clip(values, limits[0], limits[-1]), limits)
    axes.stairs(counts, limits, fill=True, color=COLOURS[colour], alpha=0.75)
    axes.axvline(float(np.median(values)), color=COLOURS["ink"], linewidth=1.0, linestyle=(0, (3, 2)))
    axes.set_xlabel(label)
    axes.set_xlim(limits[0], limits[-1])
    axes.grid(visible=False, axis="x")
    axes.locator_params(axis="x", nbins=5)
    axes.locator_params(axis="y", nbins=4, integer=True)
    axes.ticklabel_format(axis="x", useOffset=False)
    return [(label, low, high, count) for low, high, count in zip(limits[:-1], limits[1:], counts, strict=True)]


def histogram_numbers(name: str, rows: Sequence[tuple[Any, ...]]) -> Numbers:
    """Numbers of one or several histograms, one row a bar."""
    return Numbers(name, {key: [row[i] for row in rows] for i, key in enumerate(("quantity", "from", "to", "count"))})


def resolution_axis(axes: Axes, d_limits: Sequence[float]) -> None:
    """Make the x axis, which is in 1/d^2, read d in angstrom at round values."""
    d_high, d_low = min(d_limits), max(d_limits)
    candidates = (
        100,
        50,
        30,
        20,
        10,
        8,
        7,
        6,
        5,
        4,
        3.5,
        3,
        2.8,
        2.6,
        2.4,
        2.2,
        2.1,
        2,
        1.9,
        1.8,
        1.7,
        1.6,
        1.5,
        1.4,
        1.3,
    )
    shown: list[float] = []
    width = 1 / d_high**2 - 1 / d_low**2
    for d in (*candidates, 1.2, 1.1, 1.0, 0.9, 0.8):
        if d_high <= d <= d_low and (not shown or 1 / d**2 - 1 / shown[-1] ** 2 > width / 12):
            shown.append(d)
    axes.set_xticks([1 / d**2 for d in shown], [f"{d:g}" for d in shown])
    axes.set_xlabel("resolution (Å)")


def scatter(axes: Axes, x: AnyArray, y: AnyArray, colour: str, label: str, size: float = 9.0) -> None:
    """Draw dots; very many are embedded as pixels."""
    axes.scatter(
        x, y, s=size, color=COLOURS[colour], label=label, linewidths=0, alpha=0.8, rasterized=len(x) > RASTER_ABOVE
    )


def bin_edges(n: int, n_bins: int) -> IntArray:
    """Limits of at most `n_bins` runs of nearly equal length over n items, shape (bins + 1,)."""
    return np.unique(np.linspace(0, n, min(n_bins, max(n, 1)) + 1).round().astype(np.int64))
