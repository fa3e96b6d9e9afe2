"""What each searched parameter does to the validation metric: small multiples, a panel for each parameter."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from numbers import Real
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
    SymmetricalLogLocator,
)

from coldray.experiments.results import StudyResult, TrialResult
from coldray.reports.labels import is_synthetic, metric_label, parameter_label, shortened, value_label
from coldray.reports.style import (
    BLUE,
    FULL_WIDTH,
    GREY,
    HALF_WIDTH,
    INK,
    VERMILION,
    grid_along,
    new_figure,
    set_title,
    styled,
)

_GOLDEN = 0.6180339887498949
_LOG_DECADES = 2.0
_GRID_VALUES = 6
_CATEGORY_LINES = 5
_TURNED_CHARACTERS = 22
_CHARACTER_WIDTH = 5.4 / 72  # inches, of 9-point text
_MARKS: dict[str, dict[str, Any]] = {
    "pruned": {"marker": "x", "color": GREY, "alpha": 0.55, "markersize": 5.5, "zorder": 2},
    "finished": {"marker": "o", "color": BLUE, "alpha": 0.6, "markersize": 6, "markeredgewidth": 0, "zorder": 3},
    "selected": {"marker": "*", "color": VERMILION, "markersize": 15, "markeredgecolor": INK, "zorder": 4},
}
_WORDS = {
    "pruned": "pruned (mean of the splits it ran)",
    "finished": "finished",
    "selected": "selected",
}


@styled()
def parameter_effects(result: StudyResult) -> Figure:
    """Draw each searched parameter against the mean validation metric, a panel for each.

    Numbers stand on a linear axis, or on a logarithmic one when they span more than two decades; everything else is a
    category, its trials spread sideways so that they do not hide each other. Failed trials have no place here.
    """
    drawn = _drawn_trials(result)
    names = result.searched
    columns = min(len(names), 2 if len(names) in (2, 4) else 3)
    rows = math.ceil(len(names) / columns)
    figure = new_figure(HALF_WIDTH if columns == 1 else FULL_WIDTH, 1.3 + rows * (2.5 if columns > 1 else 2.7))
    room = int((figure.get_figwidth() - 0.7) / columns / _CHARACTER_WIDTH - 2)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for position, axes in enumerate(panels.flat):
        if position >= len(names):
            figure.delaxes(axes)
            continue
        _draw_panel(axes, names[position], drawn, room)
        axes.set_xlabel(parameter_label(names[position]))
        if position % columns == 0:
            axes.set_ylabel(metric_label(result.selection.metric))
    _add_legend(figure, [kind for kind in _MARKS if any(found == kind for found, _, _ in drawn)])
    title = f"Mean validation {metric_label(result.selection.metric)} by parameter"
    set_title(figure, title, synthetic=is_synthetic(result))
    return figure


def _drawn_trials(result: StudyResult) -> list[tuple[str, TrialResult, float]]:
    """Return kind, trial and mean metric of every trial that has a metric and did not fail."""
    metric = result.selection.metric
    winner = result.selection.winner.number
    found: list[tuple[str, TrialResult, float]] = []
    for trial in result.trials:
        if trial.status == "failed" or not trial.folds:
            continue
        mean = trial.mean(metric)
        if math.isfinite(mean):
            found.append(("selected" if trial.number == winner else trial.status, trial, mean))
    return found


def _draw_panel(axes: Axes, name: str, drawn: Sequence[tuple[str, TrialResult, float]], room: int) -> None:
    """Draw one parameter; `room` is how many characters fit beside each other under the panel."""
    values = [trial.config.get(name) for _, trial, _ in drawn]
    numbers = [float(value) for value in values if isinstance(value, Real) and not isinstance(value, bool)]
    numeric = len(numbers) == len(values) and len(set(numbers)) > 1 and all(map(math.isfinite, numbers))
    if numeric:
        positions = numbers
        scale_axis(axes, numbers)
        axes.margins(x=0.07, y=0.1)  # the star is large: it must not be cut at the frame
    else:
        positions = _category_axis(axes, values, [_jitter(kind, trial) for kind, trial, _ in drawn], room)
        axes.margins(y=0.1)
        grid_along(axes, "y")
    for kind, style in _MARKS.items():
        chosen = [index for index, entry in enumerate(drawn) if entry[0] == kind]
        axes.plot([positions[i] for i in chosen], [drawn[i][2] for i in chosen], linestyle="none", **style)
    if numeric:
        mark_grid_values(axes, sorted(set(numbers)), room)


def scale_axis(axes: Axes, numbers: Sequence[float]) -> None:
    """Choose the scale of a number axis and the ticks for a range of values."""
    positive = [number for number in numbers if number > 0]
    wide = bool(positive) and math.log10(max(positive) / min(positive)) > _LOG_DECADES
    if wide and len(positive) == len(numbers):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(numticks=5))
    elif wide and min(numbers) == 0:
        # "Off" is often searched as 0 beside values decades apart: linear up to the smallest of them, then decades.
        axes.set_xscale("symlog", linthresh=min(positive), linscale=0.6)
        locator = SymmetricalLogLocator(base=10, linthresh=min(positive))
        locator.set_params(numticks=5)
        axes.xaxis.set_major_locator(locator)
    else:
        whole = all(number == int(number) for number in numbers)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=whole, steps=[1, 2, 5, 10]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: value_label(float(value))))


def mark_grid_values(axes: Axes, values: Sequence[float], room: int) -> None:
    """Put the ticks at the values themselves when a grid was searched; label those that fit beside each other."""
    if len(values) > _GRID_VALUES:
        return
    axes.autoscale_view()
    fraction = axes.transScale + axes.transLimits
    labelled: list[float] = []
    edge = math.inf
    for value in reversed(values):
        place = fraction.transform((value, 0.0))[0] * room
        half = len(value_label(value)) / 2
        if place + half + 1 <= edge:
            labelled.append(value)
            edge = place - half
    axes.xaxis.set_major_locator(FixedLocator(labelled))
    axes.xaxis.set_minor_locator(FixedLocator(values))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _category_axis(axes: Axes, values: Sequence[Any], jitter: Sequence[float], room: int) -> list[float]:
    """Label the categories and return where each trial stands, moved sideways by its `jitter`."""
    labels = [value_label(value) for value in values]
    order = {value_label(value): _category_order(value) for value in values}
    categories = sorted(order, key=lambda label: order[label])
    width = max(room // max(len(categories), 1) - 1, 1)
    words = [textwrap.fill(label, width, break_long_words=False) for label in categories]
    lines = [word.split("\n") for word in words]
    turned = any(len(parts) > _CATEGORY_LINES or max(map(len, parts), default=0) > width for parts in lines)
    if turned:
        words = [shortened(label, _TURNED_CHARACTERS) for label in categories]
    axes.set_xticks(range(len(categories)), words, rotation=90 if turned else 0)
    axes.set_xlim(-0.6, max(len(categories), 1) - 0.4)
    return [categories.index(label) + offset for label, offset in zip(labels, jitter, strict=True)]


def _jitter(kind: str, trial: TrialResult) -> float:
    """Return how far beside its category a trial stands; the selected one stands in the middle.

    Multiples of the golden ratio fill the strip evenly, and a trial stands in the same place in every drawing.
    """
    return 0.0 if kind == "selected" else 0.5 * ((trial.number * _GOLDEN) % 1.0 - 0.5)


def _category_order(value: Any) -> tuple[bool, float, str]:
    is_number = isinstance(value, Real)
    return (not is_number, float(value) if is_number else 0.0, value_label(value))


def _add_legend(figure: Figure, kinds: Sequence[str]) -> None:
    handles = []
    for kind in reversed(kinds):
        style = {**_MARKS[kind], "markersize": 9 if kind == "selected" else 6}
        handles.append(Line2D([], [], linestyle="none", label=_WORDS[kind], **style))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), columnspacing=1.2, handletextpad=0.2)
