"""The figures of a comparison: every entry on test, and validation against test."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from coldray.experiments.comparison.config import Track
from coldray.experiments.comparison.result import ComparisonResult, EntryResult
from coldray.experiments.results import std_metric
from coldray.reports.comparison.inspection_figures import item_maps, quality_against_cost
from coldray.reports.comparison.inspection_tables import inspected_entries
from coldray.reports.comparison.words import by_chance, shown_metrics, validation_mean
from coldray.reports.labels import counted, is_synthetic, metric_label, shortened
from coldray.reports.modes import mode_mean
from coldray.reports.placement import label_points
from coldray.reports.style import (
    BLUE,
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

FIGURES = ("entries_on_test", "differences", "validation_against_test", "quality_against_cost", "item_maps")
"""All that there can be; the last two only of a comparison that measures more than metrics."""
_MARKS: dict[Track, tuple[str, str]] = {"strict": (BLUE, "o"), "full": (VERMILION, "s"), "clicks": (GREY, "D")}
_COLOR_WORDS: dict[Track, str] = {
    "strict": "blue: strict track",
    "full": "orange squares: full track",
    "clicks": "grey diamonds: clicks alone",
}
_NAME_CHARACTERS = 20


def comparison_figures(result: ComparisonResult) -> dict[str, Figure]:
    """Return every figure by name."""
    drawn = {
        "entries_on_test": entries_on_test(result),
        "differences": differences(result),
        "validation_against_test": validation_against_test(result),
    }
    if inspected_entries(result):
        drawn["quality_against_cost"] = quality_against_cost(result)
    if result.shown is not None:
        drawn["item_maps"] = item_maps(result)
    return drawn


@styled()
def entries_on_test(result: ComparisonResult) -> Figure:
    """Draw a panel for each metric, a row for each entry: mean, interval over users, and the splits."""
    metrics = shown_metrics(result)
    entries = [entry for track in _MARKS for entry in result.of_track(track)]
    figure = new_figure(FULL_WIDTH, 1.75 + 0.42 * len(entries))
    panels = figure.subplots(1, len(metrics), squeeze=False, sharey=True)[0]
    for axes, metric in zip(panels, metrics, strict=True):
        for row, entry in enumerate(entries):
            _draw_entry(axes, row, entry, metric)
        for entry in (entry for entry in entries if entry.name == result.baseline):
            axes.axvline(mode_mean(entry, metric), color=GREY, linewidth=0.9, linestyle=":", zorder=1)
        axes.set_xlabel(f"test {metric_label(metric)}")
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
    axes.plot([mode_mean(entry, metric)], [row], marker, color=color, markersize=7, markeredgecolor="white", zorder=3)


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
def differences(result: ComparisonResult) -> Figure:
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
    axes.set_xlabel(f"difference in test {metric_label(metric)}")
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
def validation_against_test(result: ComparisonResult) -> Figure:
    """Draw the mean validation metric of each entry against its mean test metric."""
    metric = result.metric
    figure = new_figure(HALF_WIDTH, 4.6)
    axes = figure.subplots()
    points = []
    for entry in result.entries:
        color, marker = _MARKS[entry.track]
        point = (validation_mean(entry, metric), mode_mean(entry, metric))
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
