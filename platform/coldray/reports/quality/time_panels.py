"""Panels of a check of data over time: all interactions, and when those of each part fell.

Notation used for shapes: p periods.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.ticker import FuncFormatter, MaxNLocator

from coldray.reports.quality.panels import part_color
from coldray.reports.style import grid_along

Edges = npt.NDArray[np.float64]
"""Ends of the periods in days of matplotlib ``[p + 1]``."""


def stacked_periods(axes: Axes, edges: Edges, parts: Mapping[str, npt.NDArray[np.int64]]) -> None:
    """Draw the interactions a period ``[p]``, the parts on top of each other."""
    below = np.zeros(len(edges) - 1)
    for name, counts in parts.items():
        axes.stairs(below + counts, edges, baseline=below, fill=True, color=part_color(name), label=name)
        below = below + counts
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    _along_time(axes, edges)


def passed_by(axes: Axes, edges: Edges, parts: Mapping[str, npt.NDArray[np.int64]]) -> None:
    """Draw which share of each part's interactions was past by a time: a small part is seen as well as a large one."""
    for name, counts in parts.items():
        past = np.concatenate([[0], np.cumsum(counts)])
        axes.plot(edges, 100 * past / past[-1], color=part_color(name), linewidth=1.6)
    axes.set_yticks([0, 50, 100])
    _along_time(axes, edges)


def _along_time(axes: Axes, edges: Edges) -> None:
    axes.xaxis_date()
    locator = AutoDateLocator(minticks=3, maxticks=9)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    axes.set_xlim(float(edges[0]), float(edges[-1]))
    axes.set_ylim(0, None)
    grid_along(axes, "y")
