"""The figures of what a comparison measured besides metrics: quality against cost, and the maps of items."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter, StrMethodFormatter

from coldray.experiments.comparison.result import ComparisonResult
from coldray.experiments.inspection.item_facts import ItemFacts
from coldray.experiments.inspection.item_map import ItemMap
from coldray.reports.comparison.inspection_tables import agreement_words, fit_seconds, inspected_entries
from coldray.reports.labels import is_synthetic, metric_label, shortened
from coldray.reports.modes import mode_mean
from coldray.reports.placement import label_points
from coldray.reports.style import (
    BLUE,
    FULL_WIDTH,
    GREY,
    HALF_WIDTH,
    VERMILION,
    new_figure,
    set_note,
    set_title,
    styled,
    write_instead,
)

_COLUMNS = 3
_PANEL_HEIGHT = 2.75
_COLOURS = (BLUE, VERMILION, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255")
"""Of the labels most items have; Okabe and Ito's, and a wine red in the place of their yellow."""
_OTHER = "#C4C4C4"
_NAME_CHARACTERS = 20


@styled()
def quality_against_cost(result: ComparisonResult) -> Figure:
    """Draw the test metric of each entry against the time of one fit."""
    entries = inspected_entries(result)
    figure = new_figure(HALF_WIDTH, 4.6)
    axes = figure.subplots()
    points = []
    for entry in entries:
        point = (max(fit_seconds(entry), 1e-3), mode_mean(entry, result.metric))
        chosen = entry.name == result.champion
        axes.plot(
            *point,
            "*" if chosen else "o",
            color=BLUE,
            markersize=15 if chosen else 7,
            markeredgecolor="white",
            zorder=3,
        )
        points.append(point)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set(xlabel="time of one fit (s)", ylabel=f"test {metric_label(result.metric)}")
    axes.margins(0.15)
    set_title(figure, "Quality and time to train", synthetic=is_synthetic(result))
    set_note(figure, "One fit of each winner on one CPU, mean over splits. Star: the champion.")
    label_points(axes, points, [shortened(entry.name, _NAME_CHARACTERS) for entry in entries])
    return figure


@styled()
def item_maps(result: ComparisonResult) -> Figure:
    """Draw for each entry the items where t-SNE puts them, coloured by a label."""
    entries = inspected_entries(result)
    rows = -(-len(entries) // _COLUMNS)
    figure = new_figure(FULL_WIDTH, 1.1 + _PANEL_HEIGHT * rows)
    panels = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    shown = result.shown
    colours, handles = ([], []) if shown is None else _colours(shown, _items_of(result))
    for axes, entry in zip(panels, entries, strict=False):
        drawn = entry.inspections[0].map
        axes.set_title(shortened(entry.name, _NAME_CHARACTERS), loc="left")
        if drawn is None:
            write_instead(axes, "No map: to this model all clicks say the same, or there are too few items.")
            continue
        _draw_map(axes, drawn, colours)
        axes.set_xlabel(agreement_words(result, entry), fontsize=9, color=GREY)
    for axes in panels[len(entries) :]:
        axes.set_axis_off()
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 8), columnspacing=1.0)
    set_title(figure, "Items by what a click on each says of the others (t-SNE)", synthetic=is_synthetic(result))
    return figure


def _items_of(result: ComparisonResult) -> npt.NDArray[np.int32]:
    return next(one.map.items for entry in result.entries for one in entry.inspections if one.map is not None)


def _draw_map(axes: Axes, drawn: ItemMap, colours: list[str]) -> None:
    """Draw the items in an order that no colour hides the others by."""
    order = np.random.default_rng(0).permutation(len(drawn.items))
    placed = drawn.positions[order]
    axes.scatter(placed[:, 0], placed[:, 1], s=7, c=[colours[place] for place in order], linewidths=0)
    axes.set(xticks=[], yticks=[])
    axes.grid(False)


def _colours(shown: ItemFacts, items: npt.NDArray[np.int32]) -> tuple[list[str], list[Line2D]]:
    """Return the colour of each item, that of the rarest of its labels that are drawn, and the legend."""
    having = shown.matrix[items]
    counts = np.bincount(having.indices, minlength=len(shown.labels))
    drawn = [int(label) for label in np.argsort(-counts, kind="stable")[: len(_COLOURS)] if counts[label]]
    colour_of = dict(zip(drawn, _COLOURS, strict=False))
    colours = []
    for row in range(len(items)):
        own = [label for label in having.indices[having.indptr[row] : having.indptr[row + 1]] if label in colour_of]
        colours.append(colour_of[min(own, key=lambda label: (counts[label], label))] if own else _OTHER)
    named = [(str(shown.labels[label]), colour) for label, colour in colour_of.items()]
    handles = [
        Line2D([], [], linestyle="none", marker="o", markersize=5, markeredgewidth=0, color=colour, label=name)
        for name, colour in ([*named, ("other", _OTHER)] if _OTHER in colours else named)
    ]
    return colours, handles
