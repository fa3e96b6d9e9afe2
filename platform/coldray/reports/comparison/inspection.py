"""The tables of what a comparison measured besides metrics: costs, parts of the test, nearest items."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import numpy as np

from coldray.evaluation.ratings import RATING_METRICS
from coldray.experiments.comparison.result import ComparisonResult, EntryResult
from coldray.experiments.inspection.config import InspectionConfig
from coldray.experiments.inspection.item_facts import ItemFacts
from coldray.experiments.inspection.item_map import agreement
from coldray.experiments.inspection.slices import SLICES, SliceMetrics
from coldray.reports.comparison.words import shown_metrics
from coldray.reports.labels import DASH, counted, duration_label, mean_and_std, metric_label, metric_number, shortened
from coldray.reports.report import Cell, Table, number
from coldray.reports.tables import known_mean

_LISTED = 5
"""Nearest items that are listed of each entry."""
_TITLE_CHARACTERS = 30


def costs(result: ComparisonResult) -> Table | None:
    """Return what the winner of each entry took to train and takes to answer; None where that was not measured."""
    inspected = inspected_entries(result)
    if not inspected:
        return None
    rows = tuple(
        (
            Cell(entry.name),
            number(metric_number(known_mean(entry.folds, result.metric))),
            number(_time(fit_seconds(entry))),
            number(_megabytes(entry)),
            number(_time(_score_seconds(entry))),
        )
        for entry in inspected
    )
    header = (
        Cell("Entry"),
        number(metric_label(result.metric), note="test"),
        number("Training", note="one fit of the winner"),
        number("Memory", note="more, at the peak of the fit"),
        number("Scoring", note="one user, median"),
    )
    splits = counted(len(inspected[0].inspections), "split")
    caption = (
        f"What each winner costs, mean over {splits}, one split at a time on one CPU; the memory is that of the "
        "fitting process, without what it loads of libraries"
    )
    return Table(caption, header, rows, _champion(result, inspected))


def inspected_entries(result: ComparisonResult) -> tuple[EntryResult, ...]:
    """Return the entries of which more than metrics was measured, in order."""
    return tuple(entry for entry in result.entries if entry.inspections)


def fit_seconds(entry: EntryResult) -> float:
    """Return the mean time of a fit over splits."""
    return statistics.fmean(one.costs.fit_seconds for one in entry.inspections)


def _score_seconds(entry: EntryResult) -> float:
    """Return the mean over splits of the median time to answer one user."""
    return statistics.fmean(one.costs.score_seconds for one in entry.inspections)


def _fit_peak_bytes(entry: EntryResult) -> float | None:
    """Return the mean memory of a fit over splits; None where the system does not tell."""
    peaks = [one.costs.fit_peak_bytes for one in entry.inspections]
    return None if any(peak is None for peak in peaks) else statistics.fmean(peak or 0 for peak in peaks)


def _megabytes(entry: EntryResult) -> str:
    peak = _fit_peak_bytes(entry)
    if peak is None:
        return DASH
    return f"{peak / 1e6:,.0f} MB" if peak >= 1e6 else "< 1 MB"


def _time(seconds: float) -> str:
    """Return a duration that may be far below a second: ``0.36 ms``, ``41 ms``, ``2 min 3 s``."""
    if seconds >= 1:
        return duration_label(seconds)
    return f"{1000 * seconds:.2f} ms" if seconds < 0.01 else f"{1000 * seconds:.0f} ms"


def slices(result: ComparisonResult) -> Table | None:
    """Return the metric that decided on each part of the test; None where that was not measured.

    Where it is of predicted ratings, the first of lists that is shown beside it: parts are measured by their lists.
    """
    inspected = inspected_entries(result)
    if not inspected or result.inspection is None:
        return None
    metric = next(name for name in shown_metrics(result) if name not in RATING_METRICS)
    header = [Cell("Entry"), number(metric_label(metric), note="all")]
    for name, words in _slice_words(result.inspection).items():
        header.append(number(words[0], note=f"{words[1]}, {_sizes(inspected[0], name)}"))
    rows = tuple(
        (
            Cell(entry.name),
            number(metric_number(known_mean(entry.folds, metric))),
            *(number(_slice(entry, name, metric)) for name in SLICES),
        )
        for entry in inspected
    )
    caption = (
        f"Test {metric_label(metric)} of cold and warm items and users. Items of a part compete among "
        "themselves alone, so a column is to be read down, not across"
    )
    return Table(caption, tuple(header), rows, _champion(result, inspected))


def _slice_words(config: InspectionConfig) -> dict[str, tuple[str, str]]:
    """Return the name of each part of the test, and what it consists of."""
    items, users = config.cold_item_clicks, config.cold_user_clicks
    few = f"at most {counted(items, 'train click')}" if items else "no train click"
    return {
        "cold_items": ("Cold items", few),
        "warm_items": ("Warm items", "more"),
        "cold_users": ("Cold users", f"at most {counted(users, 'known click')}"),
        "warm_users": ("Warm users", "more"),
    }


def _parts(entry: EntryResult, name: str) -> list[SliceMetrics]:
    return [one.slices[name] for one in entry.inspections]


def _sizes(entry: EntryResult, name: str) -> str:
    """Return how many users are measured in a part, the mean over splits."""
    return counted(round(statistics.fmean(part.n_users for part in _parts(entry, name))), "user")


def _slice(entry: EntryResult, name: str, metric: str) -> str:
    values = [part.metrics[metric] for part in _parts(entry, name) if metric in part.metrics]
    if not values:
        return DASH
    return mean_and_std(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0, len(values))


def nearest_items(result: ComparisonResult) -> list[Table]:
    """Return for each of some items which items each model holds nearest to it, for a person to judge."""
    shown = result.shown
    mapped = [(entry, entry.inspections[0].map) for entry in inspected_entries(result)]
    if shown is None:
        return []
    tables = []
    for query in shown.queries:
        rows = []
        for entry, drawn in mapped:
            if drawn is None:
                continue
            place = int(np.searchsorted(drawn.items, query))
            near = drawn.neighbours[place][:_LISTED]
            rows.append((Cell(entry.name), *(_item(shown, item) for item in near)))
        width = max(len(row) for row in rows) - 1
        header = (Cell("Entry"), *(Cell(f"{rank}.") for rank in range(1, width + 1)))
        about = _labels(shown, int(query))
        caption = f"Nearest to {shown.names[query]}" + (f" ({about})" if about else "")
        tables.append(Table(caption, header, tuple(rows), look="dense"))
    return tables


def _item(shown: ItemFacts, item: int) -> Cell:
    name = shown.names[item]
    short = shortened(name, _TITLE_CHARACTERS)
    return Cell(short, note=_labels(shown, item), title=name if short != name else "")


def _labels(shown: ItemFacts, item: int) -> str:
    return ", ".join(str(shown.labels[label]) for label in shown.matrix[[item]].indices[:3])


def agreement_words(result: ComparisonResult, entry: EntryResult) -> str:
    """Return how often neighbours have a label in common: ``62 % (chance 31 %)``; nothing where it is not known."""
    drawn = entry.inspections[0].map if entry.inspections else None
    if drawn is None or result.shown is None or result.shown.attribute is None:
        return ""
    found, chance = agreement(drawn, result.shown.matrix)
    return "" if math.isnan(found) else f"{100 * found:.0f} % (chance {100 * chance:.0f} %)"


def _champion(result: ComparisonResult, entries: Sequence[EntryResult]) -> int | None:
    names = [entry.name for entry in entries]
    return names.index(result.champion) if result.champion in names else None
