"""Panels of a check of data: distributions of ratings, activity and factor norms, each drawn into axes it is given."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from coldray.data.quality.activity import Activity
from coldray.data.quality.facts import PartFacts
from coldray.data.quality.levels import RatingLevels
from coldray.models.linear.factor_facts import Magnitudes
from coldray.reports.quality.words import amount_label
from coldray.reports.style import BLUE, DARK_VERMILION, GREY, SKY_BLUE, VERMILION, grid_along

PART_COLORS = {"train": BLUE, "validation": SKY_BLUE, "test": VERMILION}
GIVEN_COLOR = GREY
USERS, ITEMS = (BLUE, "-"), (VERMILION, (0, (4.0, 1.5)))
_MOST_TICKS = 11
_NORM_BINS = 24
_FEWEST_TICKS, _MOST_LOG_TICKS = 2, 5
_HEADROOM = 3.0
"""Room above the curve for a label, on a logarithmic axis."""


def part_color(name: str) -> str:
    """Return the colour of a part."""
    return PART_COLORS.get(name, GIVEN_COLOR)


def rating_bars(axes: Axes, parts: Sequence[PartFacts], levels: RatingLevels) -> None:
    """Draw the share of each part's ratings at each level: bars at values, outlines over bins."""
    rated = [(part, part.ratings) for part in parts if part.ratings is not None]
    width = 0.84 / max(len(rated), 1)
    for place, (part, ratings) in enumerate(rated):
        shares = 100 * np.array(ratings.counts) / sum(ratings.counts)
        color = part_color(part.name)
        if levels.edges is None:
            offset = (place - (len(rated) - 1) / 2) * width
            axes.bar(np.arange(len(shares)) + offset, shares, width, color=color, label=part.name)
        else:
            axes.stairs(shares, levels.edges, color=color, linewidth=1.6, label=part.name)
    if levels.edges is None:
        step = -(-len(levels.values) // _MOST_TICKS)
        shown = range(0, len(levels.values), step)
        axes.set_xticks(list(shown), [amount_label(float(levels.values[place])) for place in shown])
    elif levels.edges[0] > 0 and not np.isclose(*np.diff(levels.edges)[[0, -1]]):
        log_axis(axes, "x")
    axes.set(xlabel="rating", ylabel="% of the part's ratings")
    grid_along(axes, "y")


def at_least(axes: Axes, activity: Activity, what: str, color: str) -> None:
    """Draw how many users, or items, have at least so many interactions, on logarithmic axes, the median marked."""
    values, first = np.unique(activity.counts[::-1], return_index=True)
    axes.plot(values, len(activity.counts) - first, color=color, linewidth=1.8, drawstyle="steps-pre")
    if len(values) == 1:
        axes.plot(values, [len(activity.counts)], "o", color=color)
    axes.set(xlabel=f"interactions {_article(what)} {what}", ylabel=f"{what}s with at least so many")
    axes.set_xlim(0.8 * activity.least, 1.25 * activity.most)
    axes.set_ylim(0.8, _HEADROOM * len(activity.counts))
    log_axis(axes, "x")
    log_axis(axes, "y")
    if len(values) == 1:
        axes.set_xticks(values, [amount_label(values[0])])
    axes.axvline(activity.median, color=DARK_VERMILION, linewidth=1.2, linestyle=":")
    _mark(axes, activity.median, f"median {amount_label(activity.median)}")


def long_tail(axes: Axes, users: Activity, items: Activity) -> None:
    """Draw the share of all interactions that the most active share of users, and of items, have."""
    for activity, name, (color, style) in ((users, "users", USERS), (items, "items", ITEMS)):
        along, up = lorenz(activity.counts)
        axes.plot(along, up, color=color, linestyle=style, linewidth=1.8, label=name)
    axes.plot([0, 100], [0, 100], color=GREY, linewidth=0.8, linestyle=":")
    axes.set(xlabel="% of users or items,\nmost active first", ylabel="% of the interactions")
    axes.set(xlim=(0, 100), ylim=(0, 102))
    axes.locator_params(nbins=5)
    axes.legend(loc="lower right")


def lorenz(counts: npt.NDArray[np.int64], points: int = 400) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the share of users or items, and of their interactions, in per cent, at most `points` of them."""
    total = np.concatenate([[0], np.cumsum(counts)])
    places = np.unique(np.round(np.linspace(0, len(counts), min(points, len(counts) + 1))).astype(np.int64))
    return 100 * places / len(counts), 100 * total[places] / total[-1]


def singular_values(axes: Axes, values: npt.NDArray[np.float64]) -> None:
    """Draw the singular values by their number, the largest first."""
    axes.plot(np.arange(1, len(values) + 1), values, "o-", color=BLUE, markersize=3, linewidth=1.2)
    log_axis(axes, "y")
    axes.set_xlim(0.5, len(values) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.set(xlabel="factor", ylabel="singular value")


def norm_histogram(axes: Axes, side: Magnitudes, what: str, color: str) -> None:
    """Draw how many users, or items, have factors of a norm; those that have next to none are told apart."""
    kept = side.norms[side.negligible :]
    low, high = float(kept[0]), float(kept[-1])
    edges = np.geomspace(low, high, _NORM_BINS + 1) if high > low * (1 + 1e-6) else np.array([low * 0.9, low * 1.1])
    axes.hist(np.clip(kept, edges[0], edges[-1]), edges.tolist(), color=color, edgecolor="white", linewidth=0.4)
    log_axis(axes, "x")
    axes.set(xlabel=f"norm of {_article(what)} {what}'s factors", ylabel=f"{what}s")
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    grid_along(axes, "y")
    axes.margins(y=0.15)
    if side.median >= low:
        axes.axvline(side.median, color=DARK_VERMILION, linewidth=1.2, linestyle=":")
        _mark(axes, side.median, f"median {amount_label(side.median)}")


def _article(what: str) -> str:
    return "an" if what[0] in "aeio" else "a"


def _mark(axes: Axes, place: float, label: str) -> None:
    """Write a label at the top beside a line, on the side that has more room."""
    low, high = axes.get_xlim()
    share = (np.log(place) - np.log(low)) / (np.log(high) - np.log(low))
    side, gap = ("left", 4) if share < 0.5 else ("right", -4)
    axes.annotate(
        label, (place, 1.0), (gap, -2), xycoords=("data", "axes fraction"), textcoords="offset points", ha=side,
        va="top", fontsize=9, color=DARK_VERMILION, bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0},
    )  # fmt: skip


def log_axis(axes: Axes, axis: Literal["x", "y"]) -> None:
    """Make an axis logarithmic, with plain numbers at a few places within its limits; to be called after drawing."""
    scale, chosen = (axes.set_xscale, axes.xaxis) if axis == "x" else (axes.set_yscale, axes.yaxis)
    scale("log")
    low, high = sorted(axes.get_xlim() if axis == "x" else axes.get_ylim())
    chosen.set_major_locator(FixedLocator(log_ticks(low, high)))
    # The usual labels are formulas, which the style leaves as text.
    chosen.set_major_formatter(FuncFormatter(lambda value, _: amount_label(value)))
    chosen.set_minor_locator(NullLocator())


def log_ticks(low: float, high: float) -> list[float]:
    """Return two to five ticks from `low` to `high`, both positive: decades, else 1, 2, 5 times one, else any."""
    first, last = math.ceil(math.log10(low)), math.floor(math.log10(high))
    decades = [10.0**power for power in range(first, last + 1)]
    if len(decades) >= _FEWEST_TICKS:
        return decades[:: -(-len(decades) // _MOST_LOG_TICKS)]
    steps = [step * 10.0**power for power in range(first - 1, last + 1) for step in (1, 2, 5)]
    round_ones = [tick for tick in steps if low <= tick <= high]
    if len(round_ones) >= _FEWEST_TICKS:
        return round_ones
    places = [low * (high / low) ** share for share in (0.2, 0.8)]
    rounded = [float(f"{place:.2g}") for place in places]
    fits = low <= rounded[0] < rounded[1] <= high
    return rounded if fits else [float(f"{place:.3g}") for place in places]
