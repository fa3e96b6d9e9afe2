"""The figures of studies of several categories: the search, the final results over k, validation against test."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from numbers import Real

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from coldray.evaluation.metrics import METRICS
from coldray.experiments.categories import CategoryResults
from coldray.experiments.results import StudyResult, mean_metric
from coldray.reports.labels import metric_label, parameter_label, shortened
from coldray.reports.placement import label_points
from coldray.reports.report import Picture
from coldray.reports.study.figures import beside_diagonal
from coldray.reports.study.parameters import mark_grid_values, scale_axis
from coldray.reports.style import (
    FULL_WIDTH,
    HALF_WIDTH,
    VERMILION,
    line_mark,
    new_figure,
    set_note,
    set_title,
    styled,
)

_NAME_CHARACTERS = 22
_ROOM = 110
"""Characters that fit beside each other under a figure of full width."""


def category_pictures(result: CategoryResults) -> tuple[Picture, ...]:
    """Return every figure that `result` has the values for."""
    selection = result.first.selection
    metric, label = selection.metric, metric_label(selection.metric)
    taken = f", by the rule {'; '.join(selection.rule)}" if selection.rule else ""
    rule = f"the best of those within {100 * selection.tolerance:.3g} % of the highest{taken}"
    chosen = "; ".join(
        f"{category}: validation {study.selection.winner.mean(metric):.4f}"
        + (f", test {mean_metric(study.test, metric):.4f}" if study.test else "")
        for category, study in result.studies.items()
    )
    pictures = []
    name = _swept_parameter(result)
    if name is not None:
        said = f"Mean validation {label} of the best trial at each value; the star is the choice: {rule}."
        pictures.append(
            Picture("choices", partial(choices, result, name), said, f"A line for each category. {chosen}.")
        )
    if result.tested:
        final = Picture(
            "final_results",
            partial(_final_results, result),
            "Every test metric over the length of the list.",
            f"A panel for each metric, with a line for each category; the table above has the same numbers. {chosen}.",
        )
        both = Picture(
            "validation_against_test",
            partial(_validation_against_test, result),
            f"{label} of the choice, validation against test, a point for each category.",
            f"{chosen}.",
        )
        pictures += [final, both]
    return tuple(pictures)


def _swept_parameter(result: CategoryResults) -> str | None:
    """Return the searched number with the most values, such as n_factors; None where no number was searched."""

    def values(name: str) -> set[float]:
        found = (trial.config.get(name) for study in result.studies.values() for trial in study.trials)
        return {float(value) for value in found if isinstance(value, Real) and not isinstance(value, bool)}

    names = [name for name in result.first.searched if len(values(name)) > 1]
    if "n_factors" in names:
        return "n_factors"
    return max(names, key=lambda name: len(values(name)), default=None)


@styled()
def choices(result: CategoryResults, name: str) -> Figure:
    """Draw the mean validation metric against a parameter, the best trial of each value; a star marks the choice."""
    metric = result.first.selection.metric
    figure = new_figure(FULL_WIDTH, 4.2)
    axes = figure.subplots()
    every: list[float] = []
    for position, study in enumerate(result.studies.values()):
        best = _best_by_value(study, name, metric)
        mark = line_mark(position)
        axes.plot(list(best), list(best.values()), color=mark.color, linestyle=mark.linestyle, marker=mark.marker,
                  markersize=5)  # fmt: skip
        winner = study.selection.winner
        axes.plot([float(winner.config[name])], [winner.mean(metric)], "*", color=VERMILION, markersize=17,
                  markeredgecolor="white", zorder=4)  # fmt: skip
        every += best
    scale_axis(axes, every)
    axes.margins(x=0.05, y=0.12)
    mark_grid_values(axes, sorted(set(every)), _ROOM)
    axes.set_xlabel(parameter_label(name))
    axes.set_ylabel(f"mean validation {metric_label(metric)}")
    star = Line2D([], [], linestyle="none", marker="*", color=VERMILION, markersize=12, label="choice")
    figure.legend(handles=[*_handles(axes, result), star], loc="outside lower center", ncols=4)
    title = f"Validation {metric_label(metric)} against {parameter_label(name)}"
    set_title(figure, title, synthetic=result.synthetic)
    return figure


def _best_by_value(study: StudyResult, name: str, metric: str) -> dict[float, float]:
    finished = [trial for trial in study.trials if trial.status == "finished" and name in trial.config]
    best: dict[float, float] = {}
    for trial in sorted(finished, key=lambda trial: trial.quality(metric)):  # the best is the last to be written
        best[float(trial.config[name])] = trial.mean(metric)
    return dict(sorted(best.items()))


def _handles(axes: Axes, result: CategoryResults) -> list[Line2D]:
    """Return a line for each category that is drawn nowhere but in the legend."""
    handles = []
    for position, category in enumerate(result.studies):
        mark = line_mark(position)
        (line,) = axes.plot([], [], color=mark.color, linestyle=mark.linestyle, marker=mark.marker, markersize=5)
        line.set_label(shortened(category, _NAME_CHARACTERS))
        handles.append(line)
    return handles


@styled()
def _final_results(result: CategoryResults) -> Figure:
    """Draw each test metric over the length k of the list, a line for each category."""
    cutoffs = sorted(result.first.cutoffs)
    shown = [name for name in METRICS if all(_has(study, name, cutoffs) for study in result.studies.values())]
    rows = math.ceil(len(shown) / 2)
    figure = new_figure(FULL_WIDTH, 1.2 + 2.2 * rows)
    panels = figure.subplots(rows, 2, squeeze=False)
    for axes in panels.flat[len(shown) :]:
        figure.delaxes(axes)
    for axes, family in zip(panels.flat, shown, strict=False):
        _draw_family(axes, family, cutoffs, result.studies)
    figure.legend(handles=_handles(panels[0, 0], result), loc="outside lower center", ncols=4)
    set_title(figure, "Test metrics of the choice over k", synthetic=result.synthetic)
    return figure


def _has(study: StudyResult, family: str, cutoffs: list[int]) -> bool:
    return all(f"{family}@{k}" in fold.metrics for k in cutoffs for fold in study.test)


def _draw_family(axes: Axes, family: str, cutoffs: list[int], studies: Mapping[str, StudyResult]) -> None:
    for position, study in enumerate(studies.values()):
        mark = line_mark(position)
        values = [mean_metric(study.test, f"{family}@{k}") for k in cutoffs]
        axes.plot(cutoffs, values, color=mark.color, linestyle=mark.linestyle, marker=mark.marker, markersize=5)
    axes.set_xticks(cutoffs)
    axes.margins(x=0.06, y=0.14)
    axes.set_xlabel("k")
    axes.set_ylabel(f"{family.upper()}@k")


@styled()
def _validation_against_test(result: CategoryResults) -> Figure:
    """Draw the choice's validation metric against its test metric, a point for each category."""
    metric = result.first.selection.metric
    points = [
        (study.selection.winner.mean(metric), mean_metric(study.test, metric)) for study in result.studies.values()
    ]
    figure = new_figure(HALF_WIDTH, 4.4)
    axes = figure.subplots()
    beside_diagonal(axes, points, metric_label(metric), margin=0.2)
    set_title(figure, "The choice on validation and on test", synthetic=result.synthetic)
    set_note(figure, "Dashed: test = validation. The winner is refitted on all but the test part before its one test.")
    label_points(axes, points, [shortened(category, _NAME_CHARACTERS) for category in result.studies])
    return figure
