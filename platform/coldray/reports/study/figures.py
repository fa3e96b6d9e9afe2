"""The figures of a study: its search, the spread over splits, validation against test, and published numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from coldray.experiments.results import FoldMetrics, StudyResult, TrialResult, mean_metric
from coldray.reports.labels import (
    counted,
    fold_label,
    headline_metrics,
    is_synthetic,
    metric_label,
    metric_number,
    parameter_label,
    setting_label,
    shortened,
)
from coldray.reports.placement import label_points
from coldray.reports.published import PublishedTable, published_for
from coldray.reports.report import Picture
from coldray.reports.study.parameters import parameter_effects
from coldray.reports.style import (
    BLUE,
    DARK_VERMILION,
    FULL_WIDTH,
    GREY,
    HALF_WIDTH,
    INK,
    SKY_BLUE,
    VERMILION,
    grid_along,
    new_figure,
    set_note,
    set_title,
    styled,
)
from coldray.reports.tables import has_metric

_CONFIG_CHARACTERS = 28


def top_trials(result: StudyResult, top: int) -> list[TrialResult]:
    """Return the `top` best finished trials, and the winner after them when it is not among them."""
    winner = result.selection.winner
    shown = result.ranked_trials()[:top]
    return shown if any(trial.number == winner.number for trial in shown) else [*shown, winner]


def _row_label(trial: TrialResult, names: Sequence[str]) -> str:
    """Return the trial's number and as many of its settings as fit on two lines."""
    lines = [f"#{trial.number}"]
    for name in names:
        setting = shortened(setting_label(name, trial.config.get(name)), _CONFIG_CHARACTERS)
        if len(lines[-1]) + 2 + len(setting) <= _CONFIG_CHARACTERS:
            lines[-1] += f"  {setting}"
        elif len(lines) < 2:
            lines.append(setting)
        else:
            lines[-1] += " …"
            break
    return "\n".join(lines)


@styled()
def split_spread(result: StudyResult, top: int = 10) -> Figure:
    """Draw the validation metric of the best configurations, a dot for each split and a bar at the mean.

    A winner that the simplicity rule took from below the `top` is added as the last row. Labels show the parameters in
    which the configurations differ.
    """
    metric = result.selection.metric
    shown = top_trials(result, top)
    differing = [n for n in result.searched if len({setting_label(n, trial.config.get(n)) for trial in shown}) > 1]
    labels = [_row_label(trial, differing or result.searched) for trial in shown]
    row_height = 0.44 if any("\n" in label for label in labels) else 0.32
    figure = new_figure(HALF_WIDTH, 1.75 + row_height * len(shown))
    axes = figure.subplots()
    for row, trial in enumerate(shown):
        color = VERMILION if trial.number == result.selection.winner.number else BLUE
        values = [fold.metrics[metric] for fold in trial.folds]
        axes.plot(values, [row] * len(values), "o", color=color, alpha=0.5, markersize=6, markeredgewidth=0)
        axes.plot([trial.mean(metric)], [row], "|", color=color, markersize=15, markeredgewidth=2.5)
    axes.set_yticks(range(len(shown)), labels)
    for tick, trial in zip(axes.get_yticklabels(), shown, strict=True):
        if trial.number == result.selection.winner.number:
            tick.set(color=DARK_VERMILION, fontweight="bold")
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.locator_params(axis="x", nbins=5)
    axes.set_xlabel(f"validation {metric_label(metric)}")
    axes.set_ylabel("configuration")
    grid_along(axes, "x")
    _add_spread_legend(figure)
    splits = counted(len(result.selection.winner.folds), "split")
    set_title(figure, f"Best configurations over {splits}", synthetic=is_synthetic(result))
    return figure


def _add_spread_legend(figure: Figure) -> None:
    handles = [
        Line2D([], [], linestyle="none", marker="o", color=GREY, alpha=0.6, markeredgewidth=0, label="one split"),
        Line2D([], [], linestyle="none", marker="|", color=GREY, markersize=12, markeredgewidth=2.5, label="mean"),
        Patch(color=VERMILION, label="selected"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, columnspacing=1.2, handletextpad=0.4)


@styled()
def validation_against_test(result: StudyResult) -> Figure:
    """Draw the winner's validation metric against its test metric, a point for each split, labelled seed/split."""
    tested = {(fold.seed, fold.split): fold for fold in result.test}
    pairs = [
        (fold, tested[fold.seed, fold.split])
        for fold in result.selection.winner.folds
        if (fold.seed, fold.split) in tested
    ]
    metrics = [name for name in headline_metrics(result) if all(name in test.metrics for _, test in pairs)]
    figure = new_figure(HALF_WIDTH, 1.2 + 2.7 * max(len(metrics), 1))
    panels = figure.subplots(max(len(metrics), 1), 1, squeeze=False)[:, 0]
    for axes, metric in zip(panels, metrics, strict=False):
        _draw_pairs(axes, metric, pairs)
    number = result.selection.winner.number
    set_title(figure, f"Selected configuration #{number}: validation and test", synthetic=is_synthetic(result))
    note = (
        "Points are labelled seed/split; dashed: test = validation. Only the selected configuration was tested, once; "
        f"the others have no test value. Test and validation {result.held_out} differ, so the points need not lie on "
        "the diagonal."
    )
    set_note(figure, note)
    for axes, metric in zip(panels, metrics, strict=False):
        points = [(validation.metrics[metric], test.metrics[metric]) for validation, test in pairs]
        label_points(axes, points, [fold_label(fold) for fold, _ in pairs])
    return figure


def _draw_pairs(axes: Axes, metric: str, pairs: Sequence[tuple[FoldMetrics, FoldMetrics]]) -> None:
    points = [(validation.metrics[metric], test.metrics[metric]) for validation, test in pairs]
    beside_diagonal(axes, points, metric_label(metric), margin=0.14)


def beside_diagonal(axes: Axes, points: Sequence[tuple[float, float]], label: str, *, margin: float) -> None:
    """Draw validation and test values with the line on which both are alike; `margin` is a share of their range."""
    finite = [value for point in points for value in point if math.isfinite(value)] or [0.0, 1.0]
    room = max(margin * (max(finite) - min(finite)), 0.01)
    limits = (min(finite) - room, max(finite) + room)
    axes.plot(limits, limits, linestyle="--", linewidth=1, color=GREY, zorder=1)
    across, up = ([point[side] for point in points] for side in (0, 1))
    axes.plot(across, up, "o", color=VERMILION, markersize=7, markeredgecolor="white", zorder=3)
    axes.set(xlim=limits, ylim=limits, xlabel=f"validation {label}", ylabel=f"test {label}")
    axes.locator_params(nbins=5)


@styled()
def _published_comparison(result: StudyResult, table: PublishedTable, metrics: Sequence[str]) -> Figure:
    """Draw the published results beside the one measured here."""
    rows = math.ceil(len(metrics) / 2)
    height = 1.9 + rows * (0.5 + 0.3 * (len(table.methods) + 1))
    figure = new_figure(FULL_WIDTH if len(metrics) > 1 else HALF_WIDTH, height)
    # A part of its own, so that the legend takes its place inside it, clear of the title and the note.
    area = figure.add_subfigure(figure.add_gridspec(1, 1)[0])
    panels = area.subplots(rows, min(len(metrics), 2), squeeze=False, sharey=True)
    for axes in panels.flat[len(metrics) :]:
        area.delaxes(axes)
    for axes, metric in zip(panels.flat, metrics, strict=False):
        _draw_bars(axes, metric, table, result)
    handles = [Patch(color=SKY_BLUE, label="published"), Patch(color=VERMILION, label="measured here")]
    if all(metric in result.test_intervals for metric in metrics):
        handles[1].set_label("measured here, with its 95 % interval")
    area.legend(handles=handles, loc="outside upper left", ncols=2)
    set_title(figure, f"{table.title}: published and measured")
    set_note(figure, f"Published: {table.source}; {table.protocol}.")
    return figure


def _draw_bars(axes: Axes, metric: str, table: PublishedTable, result: StudyResult) -> None:
    ours = mean_metric(result.test, metric)
    low, high = result.test_intervals.get(metric, (ours, ours))
    published = sorted(table.methods, key=lambda method: table.methods[method]["ndcg@10"])
    values = [table.methods[method][metric] for method in published]
    axes.barh(range(len(values)), values, color=SKY_BLUE, height=0.7)
    error = [[max(ours - low, 0.0)], [max(high - ours, 0.0)]] if metric in result.test_intervals else None
    axes.barh([len(values)], [ours], color=VERMILION, height=0.7, xerr=error, ecolor=INK, capsize=3)
    ends = [*values, max(ours, high)]
    for row, (value, end) in enumerate(zip([*values, ours], ends, strict=True)):
        axes.annotate(metric_number(value), (end, row), (4, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set_yticks(range(len(ends)), [*published, f"{result.model} (measured here)"])
    axes.set_xlim(0, 1.22 * max(ends))
    axes.set_xlabel(f"test {metric_label(metric)}")
    axes.locator_params(axis="x", nbins=5)
    axes.tick_params(axis="y", length=0)
    grid_along(axes, "x")


def study_pictures(result: StudyResult) -> tuple[Picture, ...]:
    """Return every figure of the search and of the test that `result` has the values for."""
    metric, winner = result.selection.metric, result.selection.winner
    label, reached = metric_label(metric), metric_number(winner.mean(metric))
    parameters = ", ".join(parameter_label(name) for name in result.searched)
    folds = [fold.metrics[metric] for fold in winner.folds]
    spread = f"from {metric_number(min(folds))} to {metric_number(max(folds))}" if folds else "not known"
    tested = ", ".join(
        f"{metric_label(name)} {metric_number(winner.mean(name))} on validation and "
        f"{metric_number(mean_metric(result.test, name))} on test"
        for name in headline_metrics(result)
        if has_metric(result.test, name)
    )
    effects = Picture(
        "parameter_effects",
        partial(parameter_effects, result),
        f"Each searched parameter against the mean validation {label}; pruned trials are faded, the selected one is "
        "the star.",
        f"A panel for each of {counted(len(result.searched), 'parameter')} ({parameters}) with the mean validation "
        f"{label} of every trial. The selected trial #{winner.number} reaches {reached}.",
    )
    splits = Picture(
        "split_spread",
        partial(split_spread, result),
        f"Validation {label} of the best configurations: a dot for each split, a bar at the mean.",
        f"Dots for each split of the best configurations. The selected trial #{winner.number} has mean {reached}, its "
        f"splits reach {spread}.",
    )
    both = Picture(
        "validation_against_test",
        partial(validation_against_test, result),
        "The selected configuration on validation and on test, split by split. No other configuration was tested.",
        f"The selected trial #{winner.number}, validation against test. Means: {tested}.",
    )
    return (*((effects,) if result.searched else ()), splits, *((both,) if result.test else ()))


def published_picture(result: StudyResult) -> Picture | None:
    """Return the published results beside the one measured here; None when they are not comparable."""
    table = published_for(result.dataset, result.held_out)
    metrics = [] if table is None else [name for name in table.metrics if has_metric(result.test, name)]
    if table is None or not metrics:
        return None
    return Picture(
        "published_comparison",
        partial(_published_comparison, result, table, metrics),
        "Published results and the one measured here.",
        "Bars of the published results and of the one measured here; the table above holds the same numbers.",
    )
