"""The figures of a comparison: entries on test, validation against test, quality against cost, and maps of items."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter, StrMethodFormatter

from coldray.experiments.comparison.config import Track
from coldray.experiments.comparison.result import ComparisonResult, EntryResult
from coldray.experiments.inspection.item_facts import ItemFacts
from coldray.experiments.inspection.item_map import ItemMap
from coldray.experiments.results import std_metric
from coldray.reports.comparison.inspection import agreement_words, fit_seconds, inspected_entries
from coldray.reports.comparison.words import by_chance, lift_words, lower_is_better, shown_metrics
from coldray.reports.labels import counted, is_synthetic, metric_label, metric_number, shortened
from coldray.reports.placement import label_points
from coldray.reports.report import Picture
from coldray.reports.style import (
    BLUE,
    COLOURS,
    DARK_VERMILION,
    FULL_WIDTH,
    GREY,
    HALF_WIDTH,
    VERMILION,
    grid_along,
    new_figure,
    set_note,
    set_title,
    styled,
    write_instead,
)
from coldray.reports.tables import known_mean
from coldray.reports.warming import FIGURE as WARMING

_COLUMNS = 3
_PANEL_HEIGHT = 2.75
_OTHER = "#C4C4C4"
_MARKS: dict[Track, tuple[str, str]] = {"strict": (BLUE, "o"), "full": (VERMILION, "s"), "clicks": (GREY, "D")}
_COLOR_WORDS: dict[Track, str] = {
    "strict": "blue: strict track",
    "full": "orange squares: full track",
    "clicks": "grey diamonds: clicks alone",
}
_NAME_CHARACTERS = 20


@styled()
def _quality_against_cost(result: ComparisonResult) -> Figure:
    """Draw the test metric of each entry against the time of one fit."""
    entries = inspected_entries(result)
    figure = new_figure(HALF_WIDTH, 4.6)
    axes = figure.subplots()
    points = []
    for entry in entries:
        point = (max(fit_seconds(entry), 1e-3), known_mean(entry.folds, result.metric))
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
    axes.set(xlabel="time of one fit (s)", ylabel=f"test {metric_label(result.metric)}{lower_is_better(result.metric)}")
    axes.margins(0.15)
    set_title(figure, "Quality and time to train", synthetic=is_synthetic(result))
    set_note(figure, "One fit of each winner on one CPU, mean over splits. Star: the champion.")
    label_points(axes, points, [shortened(entry.name, _NAME_CHARACTERS) for entry in entries])
    return figure


@styled()
def _item_maps(result: ComparisonResult) -> Figure:
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
    drawn = [int(label) for label in np.argsort(-counts, kind="stable")[: len(COLOURS)] if counts[label]]
    colour_of = dict(zip(drawn, COLOURS, strict=False))
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


@styled()
def _entries_on_test(result: ComparisonResult) -> Figure:
    """Draw a panel for each metric, a row for each entry: mean, interval over users, and the splits."""
    metrics = shown_metrics(result)
    entries = [entry for track in _MARKS for entry in result.of_track(track)]
    figure = new_figure(FULL_WIDTH, 1.75 + 0.42 * len(entries))
    panels = figure.subplots(1, len(metrics), squeeze=False, sharey=True)[0]
    for axes, metric in zip(panels, metrics, strict=True):
        for row, entry in enumerate(entries):
            _draw_entry(axes, row, entry, metric)
        for entry in (entry for entry in entries if entry.name == result.baseline):
            axes.axvline(known_mean(entry.folds, metric), color=GREY, linewidth=0.9, linestyle=":", zorder=1)
        axes.set_xlabel(f"test {metric_label(metric)}{lower_is_better(metric)}")
        _read_across(axes)
    _name_rows(panels[0], entries, result.champion)
    figure.legend(handles=_handles(entries), loc="outside lower center", ncols=5, columnspacing=1.2, handletextpad=0.4)
    splits = counted(len(entries[0].folds), "split")
    set_title(figure, f"{result.name}: entries on the test {result.held_out}, {splits}", synthetic=is_synthetic(result))
    return figure


def _draw_entry(axes: Axes, row: int, entry: EntryResult, metric: str) -> None:
    color, marker = _MARKS[entry.track]
    if len(entry.folds) > 1:
        values = [fold.metrics[metric] for fold in entry.folds]
        axes.plot(values, [row + 0.22] * len(values), ".", color=color, alpha=0.55, markersize=6, markeredgewidth=0)
    interval = entry.intervals.get(metric)
    if interval is not None:
        axes.plot(interval, [row, row], color=color, linewidth=2, solid_capstyle="butt", zorder=2)
    axes.plot(
        [known_mean(entry.folds, metric)], [row], marker, color=color, markersize=7, markeredgecolor="white", zorder=3
    )


def _handles(entries: list[EntryResult]) -> list[Line2D]:
    used = dict.fromkeys(entry.track for entry in entries)
    marks = [
        Line2D([], [], linestyle="none", marker=_MARKS[track][1], color=_MARKS[track][0], label=f"{track} track")
        for track in used
    ]
    interval = Line2D([], [], color=GREY, linewidth=2, label="95 % interval over users")
    baseline = Line2D([], [], color=GREY, linewidth=0.9, linestyle=":", label="baseline")
    if len(entries[0].folds) < 2:
        return [*marks, interval, baseline]
    split = Line2D([], [], linestyle="none", marker=".", color=GREY, markersize=7, markeredgewidth=0, label="one split")
    return [*marks, interval, split, baseline]


@styled()
def _differences(result: ComparisonResult) -> Figure:
    """Draw each entry's difference to the baseline with its interval; hollow: not significant after the correction."""
    metric = result.metric
    entries = [entry for track in _MARKS for entry in result.of_track(track) if metric in entry.over_baseline]
    figure = new_figure(HALF_WIDTH, max(2.6, 1.9 + 0.42 * len(entries)))
    axes = figure.subplots()
    set_title(figure, f"Difference to {shortened(result.baseline, 24)}", synthetic=is_synthetic(result))
    if not entries:
        write_instead(axes, f"There is no entry beside {result.baseline} to compare it with.")
        return figure
    for row, entry in enumerate(entries):
        (color, marker), lift = _MARKS[entry.track], entry.over_baseline[metric]
        fill = "white" if by_chance(lift) else color
        axes.plot([lift.low, lift.high], [row, row], color=color, linewidth=2, solid_capstyle="butt", zorder=2)
        axes.plot([lift.difference], [row], marker, color=color, markerfacecolor=fill, markersize=7, zorder=3)
    axes.axvline(0, color=GREY, linewidth=1, linestyle="--", zorder=1)
    _name_rows(axes, entries, result.champion)
    _read_across(axes)
    axes.set_xlabel(f"difference in test {metric_label(metric)}{lower_is_better(metric)}")
    note = "Over the same users, with 95 % intervals. Hollow: chance may explain it (adjusted p ≥ 0.05, {}). {}"
    used = [track for track in _MARKS if result.of_track(track)]
    colors = "; ".join(_COLOR_WORDS[track] for track in used).capitalize() + "." if len(used) > 1 else ""
    set_note(figure, note.format(result.correction, colors).strip())
    return figure


def _name_rows(axes: Axes, entries: Sequence[EntryResult], champion: str) -> None:
    """Write the names along the left, the first at the top, the champion's in bold."""
    axes.set_yticks(range(len(entries)), [shortened(entry.name, _NAME_CHARACTERS) for entry in entries])
    axes.set_ylim(len(entries) - 0.4, -0.6)
    for tick, entry in zip(axes.get_yticklabels(), entries, strict=True):
        if entry.name == champion:
            tick.set(color=DARK_VERMILION, fontweight="bold")


def _read_across(axes: Axes) -> None:
    axes.tick_params(axis="y", length=0)
    axes.locator_params(axis="x", nbins=4)
    axes.margins(x=0.08)
    grid_along(axes, "x")


@styled()
def _validation_against_test(result: ComparisonResult) -> Figure:
    """Draw the mean validation metric of each entry against its mean test metric."""
    metric = result.metric
    figure = new_figure(HALF_WIDTH, 4.6)
    axes = figure.subplots()
    points = []
    for entry in result.entries:
        color, marker = _MARKS[entry.track]
        point = (known_mean(entry.validation, metric), known_mean(entry.folds, metric))
        spread = (std_metric(entry.validation, metric), std_metric(entry.folds, metric))
        chosen = entry.name == result.champion
        axes.errorbar(*point, xerr=spread[0], yerr=spread[1], color=color, elinewidth=0.8, alpha=0.35, zorder=2)
        size = 15 if chosen else 7
        axes.plot(*point, "*" if chosen else marker, color=color, markersize=size, markeredgecolor="white", zorder=3)
        points.append(point)
    axes.set(xlabel=f"validation {metric_label(metric)}", ylabel=f"test {metric_label(metric)}")
    axes.margins(0.12)
    axes.locator_params(nbins=5)
    set_title(figure, "Validation and test of each entry", synthetic=is_synthetic(result))
    splits = counted(len(result.entries[0].folds), "split")
    note = (
        f"Star: the champion, chosen on validation. Bars: standard deviation over {splits}. "
        f"Validation and test {result.held_out} differ; only the order of the entries is to be compared."
    )
    set_note(figure, note)
    label_points(axes, points, [shortened(entry.name, _NAME_CHARACTERS) for entry in result.entries])
    return figure


_DRAWN: dict[str, Callable[[ComparisonResult], Figure]] = {
    "entries_on_test": _entries_on_test,
    "differences": _differences,
    "validation_against_test": _validation_against_test,
    "quality_against_cost": _quality_against_cost,
    "item_maps": _item_maps,
}
FIGURES = (*_DRAWN, WARMING)
"""All that there can be; the last three only of a comparison that measures more than metrics."""


def comparison_pictures(result: ComparisonResult) -> tuple[Picture, ...]:
    """Return every figure that `result` has the values for."""
    absent = {"quality_against_cost": not inspected_entries(result), "item_maps": result.shown is None}
    words = _words(result)
    return tuple(
        Picture(name, partial(draw, result), *words[name]) for name, draw in _DRAWN.items() if not absent.get(name)
    )


def _words(result: ComparisonResult) -> dict[str, tuple[str, str]]:
    """Return caption and alternative text of each figure."""
    metrics = shown_metrics(result)
    return {
        "entries_on_test": (
            f"Each entry on the test {result.held_out}: the dot is the mean over splits, the bar the 95 % interval "
            f"over users, small dots the splits; dotted: {result.baseline}, the baseline.",
            " ".join(f"{metric_label(metric)}: {_means(result.entries, metric)}." for metric in metrics),
        ),
        "differences": (
            f"Difference in test {metric_label(result.metric)} to {result.baseline} over the same users, with 95 % "
            f"intervals; hollow: not significant after the correction ({result.correction}).",
            "; ".join(
                f"{entry.name} {lift_words(entry.over_baseline[result.metric])}"
                for entry in result.entries
                if result.metric in entry.over_baseline
            )
            or "There is no entry to compare.",
        ),
        "validation_against_test": (
            f"Mean validation {metric_label(result.metric)} of each entry's configuration against its test; bars: "
            "standard deviation over splits. The star is the champion, chosen on validation.",
            "; ".join(
                f"{entry.name} {metric_number(known_mean(entry.validation, result.metric))} on validation and "
                f"{metric_number(known_mean(entry.folds, result.metric))} on test"
                for entry in result.entries
            )
            + ".",
        ),
        "quality_against_cost": (
            f"Test {metric_label(result.metric)} of each winner against the time of one fit, mean over splits.",
            "; ".join(
                f"{entry.name} {metric_number(known_mean(entry.folds, result.metric))} after {fit_seconds(entry):.3g} s"
                for entry in inspected_entries(result)
            )
            or "Nothing was timed.",
        ),
        "item_maps": (_map_words(result), _agreements(result) or "Items as dots, a panel for each entry."),
    }


def _map_words(result: ComparisonResult) -> str:
    label = "" if result.shown is None or result.shown.attribute is None else f", coloured by {result.shown.attribute}"
    below = " Below each: the share of its nearest items that have a label in common with it." if label else ""
    return (
        f"The most clicked items, placed by t-SNE so that those are near which a single click says the same of{label}. "
        f"Neighbourhoods are to be read, not distances or axes.{below}"
    )


def _agreements(result: ComparisonResult) -> str:
    found = [(entry.name, agreement_words(result, entry)) for entry in inspected_entries(result)]
    return "; ".join(f"{name}: {words} of the nearest items share a label" for name, words in found if words)


def _means(entries: Sequence[EntryResult], metric: str) -> str:
    return ", ".join(f"{entry.name} {metric_number(known_mean(entry.folds, metric))}" for entry in entries)
