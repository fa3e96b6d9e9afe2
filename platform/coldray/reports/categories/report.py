"""What is told of studies of several categories."""

from __future__ import annotations

from urllib.parse import quote

import polars as pl

from coldray.data.sources.amazon.layout import file_stem
from coldray.experiments.categories import CategoryResults
from coldray.experiments.results import StudyResult, mean_metric
from coldray.reports.categories.figures import category_pictures
from coldray.reports.labels import DASH, config_label, metric_label, metric_number, value_label
from coldray.reports.report import Callout, Cell, Gallery, Links, Report, Section, Table, number
from coldray.reports.tables import facts, interval_label

FINAL = "final_test_results.csv"


def category_report(result: CategoryResults) -> Report:
    """Return the report of studies of several categories, which lies beside those of the categories."""
    return Report(
        title=f"{result.name}: {result.first.model} by category",
        outcome=_headline(result),
        sections=tuple(section(result) for section in _SECTIONS),
        synthetic=result.synthetic,
        files={FINAL: _final_table(result)} if result.tested else {},
    )


def _in_short(result: CategoryResults) -> Section:
    left_out = tuple(f"{name} left out: {why}" for name, why in result.left_out.items())
    edges = Callout(_edges(result), style="yellow")
    return Section("", (_overview(result, sizes=False), edges, Callout(left_out, style="red")), "terminal")


def _choices(result: CategoryResults) -> Section:
    return Section("", (_overview(result, sizes=True), _left_out(result), Callout(_edges(result))), "page")


def _overview(result: CategoryResults, *, sizes: bool) -> Table:
    """Return a row for each category: how large it is, what was chosen, and what the choice reaches."""
    metric = result.first.selection.metric
    rows = []
    for category, study in result.studies.items():
        winner, data = study.selection.winner, study.dataset
        names = ("n_users", "n_items", "n_interactions") if sizes else ("n_interactions",)
        interval = interval_label(study.test_intervals.get(metric)) if sizes else ""
        tested = number(metric_number(mean_metric(study.test, metric)), interval) if study.test else Cell(DASH)
        choice = Cell(config_label(winner.config, study.searched) or DASH)
        reached = (choice, number(metric_number(winner.mean(metric))), tested)
        rows.append((Cell(category), *(number(f"{data[name]:,}") for name in names), *reached))
    label = metric_label(metric)
    counts = ("users", "items", "interactions") if sizes else ("interactions",)
    header = (Cell("category"), *map(number, counts), Cell("choice"))
    header += (number(f"validation {label}"), number(f"test {label}"))
    return Table("The choice in each category" if sizes else "", header, tuple(rows))


def _left_out(result: CategoryResults) -> Table | None:
    """Return the categories of which there is nothing, and why."""
    rows = tuple((Cell(category), Cell(reason)) for category, reason in result.left_out.items())
    return Table("Left out", (Cell("category"), Cell("reason")), rows, look="messages") if rows else None


def _edges(result: CategoryResults) -> tuple[str, ...]:
    """Return what of each category's configuration is on the edge of its search."""
    return tuple(
        f"{category} is on the edge of its search: {edge.told}"
        for category, study in result.studies.items()
        for edge in study.edges
    )


def _reports(result: CategoryResults) -> Section:
    """Return where the report of each category is, seen from this one."""
    targets = {}
    for category in result.studies:
        place, study = f"{quote(file_stem(category))}/report.html", result.origins.get(category)
        name = category if study is None else f"{category}, of {study}"
        targets[name] = place if study is None else f"../{quote(study)}/{place}"
    return Section("", (Links("Each category has a report of its own:", targets),), "page")


def _final(result: CategoryResults) -> Section:
    return Section("Final results", (_final_metrics(result),), "page")


def _final_metrics(result: CategoryResults) -> Table | None:
    """Return the test metrics of each category; None before the test."""
    if not result.tested:
        return None
    rows = tuple(
        (
            Cell(metric_label(metric)),
            *(number(metric_number(mean_metric(study.test, metric))) for study in result.studies.values()),
        )
        for metric in result.first.test[0].metrics
    )
    header = (Cell("metric"), *map(number, result.studies))
    return Table("Test metrics of the choice, tested once", header, rows, look="dense")


def _figures(result: CategoryResults) -> Section:
    return Section("Figures", (Gallery(category_pictures(result)),), "page")


def _protocol(result: CategoryResults) -> Section:
    told = facts("How the numbers came to be, in the first category", result.first.protocol)
    return Section("Protocol", (told,), "page")


_SECTIONS = (_in_short, _choices, _reports, _final, _figures, _protocol)
"""All sections, in their order."""


def tuning_table(result: StudyResult) -> pl.DataFrame:
    """Return a row for each trial: its settings, its mean validation metrics, and whether it was selected."""
    metrics = list(result.selection.winner.folds[0].metrics)
    rows = [
        {
            "trial": trial.number,
            "status": trial.status,
            "selected": trial.number == result.selection.winner.number,
            **{name: value_label(trial.config.get(name)) for name in result.searched},
            **{metric: trial.mean(metric) if trial.folds else None for metric in metrics},
        }
        for trial in result.trials
    ]
    schema = {
        "trial": pl.Int64,
        "status": pl.String,
        "selected": pl.Boolean,
        **dict.fromkeys(result.searched, pl.String),
        **dict.fromkeys(metrics, pl.Float64),
    }
    return pl.DataFrame(rows, schema=schema)


def _final_table(result: CategoryResults) -> pl.DataFrame:
    """Return a row for each category and metric: the choice on validation and, once, on test."""
    rows = [
        {
            "category": category,
            "trial": study.selection.winner.number,
            **{name: value_label(study.selection.winner.config.get(name)) for name in study.searched},
            "metric": metric,
            "validation": study.selection.winner.mean(metric),
            "test": mean_metric(study.test, metric),
            "test_low": study.test_intervals.get(metric, (None, None))[0],
            "test_high": study.test_intervals.get(metric, (None, None))[1],
            **({"study": result.origins[category]} if result.origins else {}),
        }
        for category, study in result.studies.items()
        for metric in study.test[0].metrics
    ]
    schema = {
        "category": pl.String,
        "trial": pl.Int64,
        **dict.fromkeys(result.first.searched, pl.String),
        "metric": pl.String,
        **dict.fromkeys(("validation", "test", "test_low", "test_high"), pl.Float64),
        **({"study": pl.String} if result.origins else {}),
    }
    return pl.DataFrame(rows, schema=schema)


def _headline(result: CategoryResults) -> str:
    """Return what was found in one sentence."""
    metric = result.first.selection.metric
    label, studies = metric_label(metric), list(result.studies.values())
    chosen = [study.selection.winner.mean(metric) for study in studies]
    reached = f"mean validation {label} {metric_number(sum(chosen) / len(chosen))}"
    if result.tested:
        tested = [mean_metric(study.test, metric) for study in studies]
        reached += f", on test {metric_number(sum(tested) / len(tested))}"
    categories = "category" if len(studies) == 1 else "categories"
    return f"{result.first.model} tuned on {len(studies)} {categories}: {reached}."
