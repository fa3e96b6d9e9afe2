"""Studies of several categories as tables: files of tidy rows, and what a page and a terminal show."""

from __future__ import annotations

import polars as pl

from coldray.experiments.categories import CategoryResults
from coldray.experiments.results import StudyResult, mean_metric
from coldray.reports.labels import DASH, config_label, is_synthetic, metric_label, metric_number, value_label
from coldray.reports.tables import Cell, Table, number


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


def final_table(result: CategoryResults) -> pl.DataFrame:
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


def headline(result: CategoryResults) -> str:
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


def categories_synthetic(result: CategoryResults) -> bool:
    """Tell whether any of the data were generated."""
    return any(is_synthetic(study) for study in result.studies.values())


def overview(result: CategoryResults) -> Table:
    """Return a row for each category: how large it is, what was chosen, and what the choice reaches."""
    metric = result.first.selection.metric
    label = metric_label(metric)
    titles = ("category", "users", "items", "interactions", "choice", f"validation {label}", f"test {label}")
    header = tuple(Cell(title, is_number=place in (1, 2, 3, 5, 6)) for place, title in enumerate(titles))
    rows = []
    for category, study in result.studies.items():
        winner, data = study.selection.winner, study.dataset
        interval = study.test_intervals.get(metric)
        note = f"{metric_number(interval[0])} to {metric_number(interval[1])}" if interval else ""
        sizes = (number(f"{data[name]:,}") for name in ("n_users", "n_items", "n_interactions"))
        tested = number(metric_number(mean_metric(study.test, metric)), note) if study.test else Cell(DASH)
        choice = Cell(config_label(winner.config, study.searched) or DASH)
        rows.append((Cell(category), *sizes, choice, number(metric_number(winner.mean(metric))), tested))
    return Table("The choice in each category", header, tuple(rows))


def final_metrics(result: CategoryResults) -> Table | None:
    """Return the test metrics of each category; None before the test."""
    if not result.tested:
        return None
    header = (Cell("metric"), *(Cell(category, is_number=True) for category in result.studies))
    rows = tuple(
        (
            Cell(metric_label(metric)),
            *(number(metric_number(mean_metric(study.test, metric))) for study in result.studies.values()),
        )
        for metric in result.first.test[0].metrics
    )
    return Table("Test metrics of the choice, tested once", header, rows)


def edge_findings(result: CategoryResults) -> list[str]:
    """Return what of each category's configuration is on the edge of its search."""
    return [
        f"{category} is on the edge of its search: {edge.told}"
        for category, study in result.studies.items()
        for edge in study.edges
    ]


def left_out(result: CategoryResults) -> Table | None:
    """Return the categories of which there is nothing, and why."""
    if not result.left_out:
        return None
    rows = tuple((Cell(category), Cell(reason)) for category, reason in result.left_out.items())
    return Table("Left out", (Cell("category"), Cell("reason")), rows)
