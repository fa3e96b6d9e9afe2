"""The figures of a check of data: ratings, activity, the user × item map, time, and factors.

Panels are drawn into axes that they are given.

Notation used for shapes: p periods.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from coldray.data.quality.activity import Activity
from coldray.data.quality.facts import ALL, PartFacts
from coldray.data.quality.levels import RatingLevels
from coldray.data.splits.parts import PART_WORDS
from coldray.experiments.data_check import DataCheck
from coldray.models.linear.factor_facts import Magnitudes
from coldray.reports.labels import is_synthetic
from coldray.reports.quality.words import amount_label, filled_parts
from coldray.reports.report import Picture
from coldray.reports.style import (
    BLUE,
    DARK_VERMILION,
    FULL_WIDTH,
    GREY,
    HALF_WIDTH,
    LEGEND,
    SKY_BLUE,
    VERMILION,
    grid_along,
    new_figure,
    set_note,
    set_title,
    styled,
)

_PART_COLORS = {"train": BLUE, "validation": SKY_BLUE, "test": VERMILION}
_GIVEN_COLOR = GREY
_USERS, _ITEMS = (BLUE, "-"), (VERMILION, (0, (4.0, 1.5)))
_MOST_TICKS = 11
_NORM_BINS = 24
_FEWEST_TICKS, _MOST_LOG_TICKS = 2, 5
_HEADROOM = 3.0
"""Room above the curve for a label, on a logarithmic axis."""


def _part_color(name: str) -> str:
    """Return the colour of a part."""
    return _PART_COLORS.get(name, _GIVEN_COLOR)


def _rating_bars(axes: Axes, parts: Sequence[PartFacts], levels: RatingLevels) -> None:
    """Draw the share of each part's ratings at each level: bars at values, outlines over bins."""
    rated = [(part, part.ratings) for part in parts if part.ratings is not None]
    width = 0.84 / max(len(rated), 1)
    for place, (part, ratings) in enumerate(rated):
        shares = 100 * np.array(ratings.counts) / sum(ratings.counts)
        color = _part_color(part.name)
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
        _log_axis(axes, "x")
    axes.set(xlabel="rating", ylabel="% of the part's ratings")
    grid_along(axes, "y")


def _at_least(axes: Axes, activity: Activity, what: str, color: str) -> None:
    """Draw how many users, or items, have at least so many interactions, on logarithmic axes, the median marked."""
    values, first = np.unique(activity.counts[::-1], return_index=True)
    axes.plot(values, len(activity.counts) - first, color=color, linewidth=1.8, drawstyle="steps-pre")
    if len(values) == 1:
        axes.plot(values, [len(activity.counts)], "o", color=color)
    axes.set(xlabel=f"interactions {_article(what)} {what}", ylabel=f"{what}s with at least so many")
    axes.set_xlim(0.8 * activity.least, 1.25 * activity.most)
    axes.set_ylim(0.8, _HEADROOM * len(activity.counts))
    _log_axis(axes, "x")
    _log_axis(axes, "y")
    if len(values) == 1:
        axes.set_xticks(values, [amount_label(values[0])])
    axes.axvline(activity.median, color=DARK_VERMILION, linewidth=1.2, linestyle=":")
    _mark(axes, activity.median, f"median {amount_label(activity.median)}")


def _long_tail(axes: Axes, users: Activity, items: Activity) -> None:
    """Draw the share of all interactions that the most active share of users, and of items, have."""
    for activity, name, (color, style) in ((users, "users", _USERS), (items, "items", _ITEMS)):
        along, up = _lorenz(activity.counts)
        axes.plot(along, up, color=color, linestyle=style, linewidth=1.8, label=name)
    axes.plot([0, 100], [0, 100], color=GREY, linewidth=0.8, linestyle=":")
    axes.set(xlabel="% of users or items,\nmost active first", ylabel="% of the interactions")
    axes.set(xlim=(0, 100), ylim=(0, 102))
    axes.locator_params(nbins=5)
    axes.legend(loc="lower right")


def _lorenz(
    counts: npt.NDArray[np.int64], points: int = 400
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the share of users or items, and of their interactions, in per cent, at most `points` of them."""
    total = np.concatenate([[0], np.cumsum(counts)])
    places = np.unique(np.round(np.linspace(0, len(counts), min(points, len(counts) + 1))).astype(np.int64))
    return 100 * places / len(counts), 100 * total[places] / total[-1]


def _singular_values(axes: Axes, values: npt.NDArray[np.float64]) -> None:
    """Draw the singular values by their number, the largest first."""
    axes.plot(np.arange(1, len(values) + 1), values, "o-", color=BLUE, markersize=3, linewidth=1.2)
    _log_axis(axes, "y")
    axes.set_xlim(0.5, len(values) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.set(xlabel="factor", ylabel="singular value")


def _norm_histogram(axes: Axes, side: Magnitudes, what: str, color: str) -> None:
    """Draw how many users, or items, have factors of a norm; those that have next to none are told apart."""
    kept = side.norms[side.negligible :]
    low, high = float(kept[0]), float(kept[-1])
    edges = np.geomspace(low, high, _NORM_BINS + 1) if high > low * (1 + 1e-6) else np.array([low * 0.9, low * 1.1])
    axes.hist(np.clip(kept, edges[0], edges[-1]), edges.tolist(), color=color, edgecolor="white", linewidth=0.4)
    _log_axis(axes, "x")
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


def _log_axis(axes: Axes, axis: Literal["x", "y"]) -> None:
    """Make an axis logarithmic, with plain numbers at a few places within its limits; to be called after drawing."""
    scale, chosen = (axes.set_xscale, axes.xaxis) if axis == "x" else (axes.set_yscale, axes.yaxis)
    scale("log")
    low, high = sorted(axes.get_xlim() if axis == "x" else axes.get_ylim())
    chosen.set_major_locator(FixedLocator(_log_ticks(low, high)))
    # The usual labels are formulas, which the style leaves as text.
    chosen.set_major_formatter(FuncFormatter(lambda value, _: amount_label(value)))
    chosen.set_minor_locator(NullLocator())


def _log_ticks(low: float, high: float) -> list[float]:
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


_Edges = npt.NDArray[np.float64]
"""Ends of the periods in days of matplotlib ``[p + 1]``."""


def _stacked_periods(axes: Axes, edges: _Edges, parts: Mapping[str, npt.NDArray[np.int64]]) -> None:
    """Draw the interactions a period ``[p]``, the parts on top of each other."""
    below = np.zeros(len(edges) - 1)
    for name, counts in parts.items():
        axes.stairs(below + counts, edges, baseline=below, fill=True, color=_part_color(name), label=name)
        below = below + counts
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    _along_time(axes, edges)


def _passed_by(axes: Axes, edges: _Edges, parts: Mapping[str, npt.NDArray[np.int64]]) -> None:
    """Draw which share of each part's interactions was past by a time: a small part is seen as well as a large one."""
    for name, counts in parts.items():
        past = np.concatenate([[0], np.cumsum(counts)])
        axes.plot(edges, 100 * past / past[-1], color=_part_color(name), linewidth=1.6)
    axes.set_yticks([0, 50, 100])
    _along_time(axes, edges)


def _along_time(axes: Axes, edges: _Edges) -> None:
    axes.xaxis_date()
    locator = AutoDateLocator(minticks=3, maxticks=9)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    axes.set_xlim(float(edges[0]), float(edges[-1]))
    axes.set_ylim(0, None)
    grid_along(axes, "y")


_HALF_HEIGHT = 4.2
_ROW_HEIGHT = 3.4


def left_out(check: DataCheck) -> dict[str, str]:
    """Return why a figure is not drawn, by its name."""
    quality, reasons = check.quality, {}
    if quality.levels is None:
        reasons["ratings"] = "The distribution of ratings is left out: the data have none."
    if quality.timeline is None:
        why = "the data have no timestamps" if quality.times is None else "the timestamps are no seconds since 1970"
        reasons["over_time"] = f"The activity over time is left out: {why}."
    if check.factors is None:
        reasons["factors"] = f"The factors are left out: {check.without_factors}"
    return reasons


@styled()
def _ratings(check: DataCheck) -> Figure:
    """Draw the distribution of the ratings of each part."""
    levels = check.quality.levels
    if levels is None:
        raise ValueError("There are no ratings to draw.")
    figure = new_figure(HALF_WIDTH, _HALF_HEIGHT)
    axes = figure.subplots()
    _rating_bars(axes, [part for part in check.quality.parts if part.name != ALL], levels)
    figure.legend(loc="outside lower center", ncols=3, **LEGEND)
    set_title(figure, "Ratings", synthetic=is_synthetic(check))
    return figure


@styled()
def _heat_map(check: DataCheck) -> Figure:
    """Draw the density of the user × item cells, most active first."""
    found = check.quality.map
    figure = new_figure(HALF_WIDTH, _HALF_HEIGHT)
    axes = figure.subplots()
    filled = found.density[found.density > 0]
    low, high = float(filled.min()), float(filled.max())
    scale = LogNorm(low if low < high else low / 2, high)
    colors = matplotlib.colormaps["cividis_r"].with_extremes(bad="white")
    image = axes.imshow(
        np.ma.masked_equal(found.density, 0), norm=scale, cmap=colors, aspect="auto", interpolation="nearest",
        extent=(0, found.n_items, found.n_users, 0),
    )  # fmt: skip
    axes.set(xlabel="items, most popular first", ylabel="users, most active first")
    axes.grid(False)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=4, integer=True))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    bar = figure.colorbar(image, ax=axes, pad=0.02)
    bar.set_label("% of a group's cells with an interaction")
    ticks = _log_ticks(low, high) if low < high else [high]
    bar.set_ticks(ticks, labels=[amount_label(100 * tick) for tick in ticks], minor=False)
    bar.minorticks_off()
    bar.outline.set_visible(False)
    set_title(figure, "Users × items", synthetic=is_synthetic(check))
    set_note(
        figure, "Groups of users and items, those of equal activity in the order of their ids. White: no interaction."
    )
    return figure


@styled()
def _activity(check: DataCheck) -> Figure:
    """Draw the interactions a user and an item on logarithmic axes, and the long tail."""
    figure = new_figure(FULL_WIDTH, _ROW_HEIGHT)
    left, middle, right = figure.subplots(1, 3)
    _at_least(left, check.quality.users, "user", _USERS[0])
    _at_least(middle, check.quality.items, "item", _ITEMS[0])
    _long_tail(right, check.quality.users, check.quality.items)
    set_title(figure, "Activity of users and items", synthetic=is_synthetic(check))
    return figure


@styled()
def _over_time(check: DataCheck) -> Figure:
    """Draw the interactions a period, the parts stacked."""
    found = check.quality.timeline
    if found is None:
        raise ValueError("There are no times to draw.")
    drawn = {name: counts for name, counts in zip(PART_WORDS, found.counts, strict=True) if counts.any()}
    rows = 2 if len(drawn) > 1 else 1
    figure = new_figure(FULL_WIDTH, 1.1 + 2.0 * rows)
    panels = figure.subplots(rows, 1, squeeze=False, sharex=True)[:, 0]
    edges = found.edges.astype("datetime64[D]").astype(np.float64)  # the days of matplotlib
    _stacked_periods(panels[0], edges, drawn)
    panels[0].set_ylabel(f"interactions\na {found.period}")
    if rows > 1:
        _passed_by(panels[1], edges, drawn)
        panels[1].set_ylabel("% of the part's\nso far")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, **LEGEND)
    set_title(figure, "Activity over time", synthetic=is_synthetic(check))
    return figure


@styled()
def _factors(check: DataCheck) -> Figure:
    """Draw the singular values of the train part, and the norms of the factors of users and items."""
    found = check.factors
    if found is None:
        raise ValueError("There are no factors to draw.")
    figure = new_figure(FULL_WIDTH, _ROW_HEIGHT)
    left, middle, right = figure.subplots(1, 3)
    _singular_values(left, found.values)
    _norm_histogram(middle, found.users, "user", _USERS[0])
    _norm_histogram(right, found.items, "item", _ITEMS[0])
    set_title(figure, f"Factors of the train {found.matrix}", synthetic=is_synthetic(check))
    return figure


_DRAWN: dict[str, Callable[[DataCheck], Figure]] = {
    "ratings": _ratings,
    "heat_map": _heat_map,
    "activity": _activity,
    "over_time": _over_time,
    "factors": _factors,
}
FIGURES = tuple(_DRAWN)
"""Names of the figures."""


def quality_pictures(check: DataCheck) -> tuple[Picture, ...]:
    """Return every figure there are facts for."""
    reasons, words = left_out(check), _words(check)
    return tuple(
        Picture(name, partial(draw, check), *words[name]) for name, draw in _DRAWN.items() if name not in reasons
    )


def _words(check: DataCheck) -> dict[str, tuple[str, str]]:
    """Return caption and alternative text of each figure there are facts for."""
    quality, factors = check.quality, check.factors
    parts = ", ".join(part.name for part in filled_parts(check))
    words = {
        "ratings": (f"Distribution of the ratings of each part ({parts}).", _rating_means(check)),
        "heat_map": (
            "Share of the cells that hold an interaction, in groups of users and items, the most active at the top "
            "left. A dark corner and an empty rest are the usual picture.",
            f"Heat map of {quality.map.n_users:,} users and {quality.map.n_items:,} items; the most active group has "
            f"{100 * quality.map.density[0, 0]:.3g} % of its cells filled, the whole {100 * _density(check):.3g} %.",
        ),
        "activity": (
            "How many users, and items, have at least so many interactions (logarithmic axes), and which share of all "
            "interactions the most active have; the dotted diagonal is equal activity.",
            f"Interactions a user: median {amount_label(quality.users.median)}, most {quality.users.most:,}. "
            f"An item: median {amount_label(quality.items.median)}, most {quality.items.most:,}; the most popular 1 % "
            f"of the items have {100 * quality.items.top_share:.3g} % of them.",
        ),
    }
    if quality.timeline is not None:
        words["over_time"] = (
            f"Interactions a {quality.timeline.period} (UTC), the parts stacked; below, which share of each part was "
            "past by then. A test that follows train has its curve to the right. The first and the last "
            f"{quality.timeline.period} may be incomplete.",
            f"Interactions from {quality.timeline.edges[0]} on, in {len(quality.timeline.edges) - 1} "
            f"{quality.timeline.period}s; the most in one are {int(quality.timeline.counts.sum(axis=0).max()):,}.",
        )
    if factors is not None:
        words["factors"] = (
            f"Singular values of the train {factors.matrix}, and norms of the factors of users and items.",
            f"Singular values from {factors.values[0]:.4g} down to {factors.values[-1]:.4g}; median norm of a user "
            f"{factors.users.median:.3g}, of an item {factors.items.median:.3g}.",
        )
    return words


def _rating_means(check: DataCheck) -> str:
    means = [f"{part.name} {part.ratings.mean:.3g}" for part in filled_parts(check) if part.ratings is not None]
    return f"Mean rating: {', '.join(means)}." if means else "There are no ratings."


def _density(check: DataCheck) -> float:
    return check.quality.part(ALL).density
