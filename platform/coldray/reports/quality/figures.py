"""The figures of a check of data: ratings, activity, the user × item map, time, and factors."""

from __future__ import annotations

from collections.abc import Callable

import matplotlib
import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from coldray.data.quality.facts import ALL
from coldray.data.splits.parts import PART_WORDS
from coldray.experiments.data_check import DataCheck
from coldray.reports.labels import is_synthetic
from coldray.reports.quality.panels import (
    ITEMS,
    USERS,
    at_least,
    log_ticks,
    long_tail,
    norm_histogram,
    rating_bars,
    singular_values,
)
from coldray.reports.quality.time_panels import passed_by, stacked_periods
from coldray.reports.quality.words import amount_label
from coldray.reports.style import FULL_WIDTH, HALF_WIDTH, LEGEND, new_figure, set_note, set_title, styled

_HALF_HEIGHT = 4.2
_ROW_HEIGHT = 3.4


def quality_figures(check: DataCheck) -> dict[str, Figure]:
    """Return every figure there are facts for, by name."""
    reasons = left_out(check)
    return {name: draw(check) for name, draw in _DRAWN.items() if name not in reasons}


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
def ratings(check: DataCheck) -> Figure:
    """Draw the distribution of the ratings of each part."""
    levels = check.quality.levels
    if levels is None:
        raise ValueError("There are no ratings to draw.")
    figure = new_figure(HALF_WIDTH, _HALF_HEIGHT)
    axes = figure.subplots()
    rating_bars(axes, [part for part in check.quality.parts if part.name != ALL], levels)
    figure.legend(loc="outside lower center", ncols=3, **LEGEND)
    set_title(figure, "Ratings", synthetic=is_synthetic(check))
    return figure


@styled()
def heat_map(check: DataCheck) -> Figure:
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
    ticks = log_ticks(low, high) if low < high else [high]
    bar.set_ticks(ticks, labels=[amount_label(100 * tick) for tick in ticks], minor=False)
    bar.minorticks_off()
    bar.outline.set_visible(False)
    set_title(figure, "Users × items", synthetic=is_synthetic(check))
    set_note(
        figure, "Groups of users and items, those of equal activity in the order of their ids. White: no interaction."
    )
    return figure


@styled()
def activity(check: DataCheck) -> Figure:
    """Draw the interactions a user and an item on logarithmic axes, and the long tail."""
    figure = new_figure(FULL_WIDTH, _ROW_HEIGHT)
    left, middle, right = figure.subplots(1, 3)
    at_least(left, check.quality.users, "user", USERS[0])
    at_least(middle, check.quality.items, "item", ITEMS[0])
    long_tail(right, check.quality.users, check.quality.items)
    set_title(figure, "Activity of users and items", synthetic=is_synthetic(check))
    return figure


@styled()
def over_time(check: DataCheck) -> Figure:
    """Draw the interactions a period, the parts stacked."""
    found = check.quality.timeline
    if found is None:
        raise ValueError("There are no times to draw.")
    drawn = {name: counts for name, counts in zip(PART_WORDS, found.counts, strict=True) if counts.any()}
    rows = 2 if len(drawn) > 1 else 1
    figure = new_figure(FULL_WIDTH, 1.1 + 2.0 * rows)
    panels = figure.subplots(rows, 1, squeeze=False, sharex=True)[:, 0]
    edges = found.edges.astype("datetime64[D]").astype(np.float64)  # the days of matplotlib
    stacked_periods(panels[0], edges, drawn)
    panels[0].set_ylabel(f"interactions\na {found.period}")
    if rows > 1:
        passed_by(panels[1], edges, drawn)
        panels[1].set_ylabel("% of the part's\nso far")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, **LEGEND)
    set_title(figure, "Activity over time", synthetic=is_synthetic(check))
    return figure


@styled()
def factors(check: DataCheck) -> Figure:
    """Draw the singular values of the train part, and the norms of the factors of users and items."""
    found = check.factors
    if found is None:
        raise ValueError("There are no factors to draw.")
    figure = new_figure(FULL_WIDTH, _ROW_HEIGHT)
    left, middle, right = figure.subplots(1, 3)
    singular_values(left, found.values)
    norm_histogram(middle, found.users, "user", USERS[0])
    norm_histogram(right, found.items, "item", ITEMS[0])
    set_title(figure, f"Factors of the train {found.matrix}", synthetic=is_synthetic(check))
    return figure


_DRAWN: dict[str, Callable[[DataCheck], Figure]] = {
    "ratings": ratings,
    "heat_map": heat_map,
    "activity": activity,
    "over_time": over_time,
    "factors": factors,
}
FIGURES = tuple(_DRAWN)
"""Names of the figures."""
