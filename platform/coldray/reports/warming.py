"""What is told of models as cold items, or users, become known: a table, and the curves over known clicks."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from coldray.experiments.tasks.warming import NEW_ITEMS, TASKS, part_name
from coldray.reports.labels import DASH, metric_label, metric_number, shortened
from coldray.reports.report import Cell, Gallery, Picture, Section, Table, Text, number
from coldray.reports.style import COLOURS, FULL_WIDTH, GREY, new_figure, set_note, set_title, styled
from coldray.reports.tables import Measured, has_metric, short_cutoff

FIGURE = "warming"
"""Name of the figure."""
_WORDS = {
    "cold_among_cold": "Cold among cold",
    "cold_among_all": "Cold among all",
    "warm_among_all": "Warm among all",
    "overall": "Overall",
}
_HEADING = "As clicks become known"
_PART = re.compile(r"(\w+)\.n(\d+)\.ndcg@(\d+)")
_NAME_CHARACTERS = 24
_LINES = ("-", (0, (4.0, 1.5)), (0, (1.0, 1.0)))


@dataclass(frozen=True)
class _Shown:
    """What the parts of a test have in common."""

    tasks: tuple[str, ...]
    clicks: tuple[int, ...]
    cutoff: int

    @property
    def metric(self) -> str:
        return f"ndcg@{self.cutoff}"

    @property
    def of_items(self) -> bool:
        """False where users become known."""
        return len(self.tasks) > 1


def warming_section(models: Sequence[Measured], *, synthetic: bool) -> Section:
    """Return text, table and figure of models that were tested in one protocol; nothing if nothing became known."""
    shown = _shown(models)
    if shown is None:
        return Section(_HEADING, (), "page")
    what = "item" if shown.of_items else "user"
    said = (
        f"Of each cold {what} the first n clicks are known, the later ones are to be found. There is less to be found "
        "as n grows: compare models at the same n. The curves look for the clicks beyond the largest n alone, the same "
        "at every n."
    )
    if shown.of_items:
        said += (
            " New items deserve as large a share of the lists of all items as they have of what is to be found: less "
            "is a model that forgets them, more one that pushes them."
        )
    picture = _picture(models, shown, synthetic=synthetic)
    return Section(_HEADING, (Text(said), _table(models, shown), Gallery((picture,))), "page")


def warming_in_short(models: Sequence[Measured]) -> Section:
    """Return the table for a terminal."""
    shown = _shown(models)
    return Section("", () if shown is None else (_table(models, shown),), "terminal")


def _table(models: Sequence[Measured], shown: _Shown) -> Table:
    """Return every task at every number of known clicks."""
    rows = []
    for n in shown.clicks:
        for model in models:
            cells = [model.cell(part_name(task, n), shown.metric) for task in shown.tasks]
            if shown.of_items:
                part = part_name(NEW_ITEMS, n)
                cells += [_share(model.mean(part, f"listed@{shown.cutoff}")), _share(model.mean(part, "deserved"))]
            rows.append((Cell(str(n), is_number=True), Cell(model.name), *cells))
    header = [number("Known clicks"), Cell("Model")]
    header += [number(_WORDS[task], note=metric_label(shown.metric)) for task in shown.tasks]
    if shown.of_items:
        header += [number("New items", note=f"share of the first {shown.cutoff}"), number("Deserved")]
    caption = (
        f"Test {metric_label(shown.metric)} by how many clicks of each cold {'item' if shown.of_items else 'user'}"
    )
    return Table(f"{caption} are known", tuple(header), tuple(rows), look="dense")


def _share(value: float) -> Cell:
    return number(f"{100 * value:.1f} %" if math.isfinite(value) else DASH)


def _shown(models: Sequence[Measured]) -> _Shown | None:
    """Return tasks, numbers of known clicks and cutoff of what was measured; None if nothing became known."""
    names = {name for model in models for fold in model.folds for name in fold.parts}
    found = [match.groups() for match in map(_PART.fullmatch, names) if match]
    if not found:
        return None
    tasks = {task for task, _, _ in found}
    clicks = tuple(sorted({int(n) for _, n, _ in found}))
    if len(tasks) == len(clicks) == 1:  # all of it is the test itself, and a curve of one point
        return None
    cutoff = short_cutoff(sorted({int(k) for *_, k in found}))
    return _Shown(tuple(task for task in TASKS if task in tasks), clicks, cutoff)


def _picture(models: Sequence[Measured], shown: _Shown, *, synthetic: bool) -> Picture:
    first, last = shown.clicks[0], shown.clicks[-1]
    task = shown.tasks[-1]
    alt = "; ".join(
        f"{model.name}: {metric_number(model.mean(part_name(task, first), shown.metric))} at {first} and "
        f"{metric_number(model.mean(part_name(task, last), shown.metric))} at {last} known clicks"
        for model in models
    )
    caption = (
        f"{metric_label(shown.metric)} on the test over the number of known clicks, of the clicks beyond the first "
        f"{last}; bands: 95 % interval over users."
    )
    if shown.of_items:
        caption += " Last: the share of places that new items have in lists of all, dotted what they deserve."
    return Picture(FIGURE, partial(_curves, models, shown, synthetic=synthetic), caption, f"Overall: {alt}.")


@styled()
def _curves(models: Sequence[Measured], shown: _Shown, *, synthetic: bool) -> Figure:
    """Draw a panel for each task, and one for the share of new items: a line for each model over known clicks."""
    rows = 2 if shown.of_items else 1
    figure = new_figure(FULL_WIDTH, 1.3 + 2.6 * rows)
    panels = figure.subplots(rows, 3 if shown.of_items else 1, squeeze=False).ravel()
    for axes, task in zip(panels, shown.tasks, strict=False):
        for place, model in enumerate(models):
            _draw_curve(axes, place, model, task, shown)
        axes.set_title(_WORDS[task], loc="left")
        axes.set_ylabel(metric_label(shown.metric))
    drawn = len(shown.tasks)
    if shown.of_items:
        _draw_shares(panels[drawn], models, shown)
        drawn += 1
    for axes in panels[:drawn]:
        axes.set_xticks(range(len(shown.clicks)), [str(n) for n in shown.clicks])
        axes.set_xlabel("known clicks")
    for axes in panels[drawn:]:
        axes.set_axis_off()
    handles, labels = panels[0].get_legend_handles_labels()
    if len(panels) > drawn:
        panels[drawn].legend(handles, labels, loc="center left")
    else:
        figure.legend(handles, labels, loc="outside right upper")
    what = "item" if shown.of_items else "user"
    set_title(figure, f"As clicks of a cold {what} become known", synthetic=synthetic)
    note = f"To be found are the clicks beyond the first {shown.clicks[-1]}, the same at every n. Bands: 95 % interval."
    set_note(figure, note)
    return figure


def _draw_curve(axes: Axes, place: int, model: Measured, task: str, shown: _Shown) -> None:
    parts = [_drawn_part(model, task, n, shown) for n in shown.clicks]
    values = [model.mean(part, shown.metric) for part in parts]
    color, style = COLOURS[place % len(COLOURS)], _LINES[place // len(COLOURS) % len(_LINES)]
    places = range(len(parts))
    axes.plot(places, values, "o", linestyle=style, color=color, markersize=4, label=_short(model), zorder=3)
    known = [model.intervals.get(f"{part}.{shown.metric}", (math.nan, math.nan)) for part in parts]
    axes.fill_between(places, [low for low, _ in known], [high for _, high in known], color=color, alpha=0.12, lw=0)


def _drawn_part(model: Measured, task: str, clicks: int, shown: _Shown) -> str:
    """Return the part that looks for the same clicks at every n; where none is left, what is left at this n."""
    same = part_name(task, clicks, of_rest=True)
    return same if has_metric(model.folds, f"{same}.{shown.metric}") else part_name(task, clicks)


def _draw_shares(axes: Axes, models: Sequence[Measured], shown: _Shown) -> None:
    metric, places = f"listed@{shown.cutoff}", range(len(shown.clicks))
    for place, model in enumerate(models):
        values = [100 * model.mean(part_name(NEW_ITEMS, n), metric) for n in shown.clicks]
        style = _LINES[place // len(COLOURS) % len(_LINES)]
        axes.plot(places, values, "o", linestyle=style, color=COLOURS[place % len(COLOURS)], markersize=4)
    deserved = [100 * models[0].mean(part_name(NEW_ITEMS, n), "deserved") for n in shown.clicks]
    axes.plot(places, deserved, ":", color=GREY, linewidth=1.6)
    axes.annotate("deserved", (0, deserved[0]), xytext=(2, 4), textcoords="offset points", fontsize=9, color=GREY)
    axes.set_title("New items' share of the lists", loc="left")
    axes.set_ylabel(f"% of the first {shown.cutoff} places")
    axes.set_ylim(bottom=0)


def _short(model: Measured) -> str:
    return shortened(model.name, _NAME_CHARACTERS)
