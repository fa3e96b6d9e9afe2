"""A check of data as files: a tidy table, everything as JSON, figures, the report, and an archive of them all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from coldray.data.quality.activity import Activity
from coldray.data.quality.facts import ALL, PartFacts
from coldray.experiments.data_check import DataCheck
from coldray.models.linear.factor_facts import FactorFacts
from coldray.reports.export_files import exporting, plain
from coldray.reports.quality.figures import FIGURES, quality_figures
from coldray.reports.quality.report import write_quality_report
from coldray.reports.quality.words import level_labels
from coldray.reports.style import save_figure

SUMMARY = "summary.csv"
VALUES = "results.json"
REPORT = "report.html"
_SUFFIXES = (".png", ".svg")
_FILES = (REPORT, SUMMARY, VALUES, *(f"{name}{suffix}" for name in FIGURES for suffix in _SUFFIXES))


@dataclass(frozen=True)
class QualityFiles:
    """Where a check was written."""

    folder: Path
    archive: Path
    """All files of the folder in one zip file beside it."""
    report: Path


def export_check(check: DataCheck, folder: Path) -> QualityFiles:
    """Write all files of `check` to `folder` and to a zip file beside it, completely or not at all.

    An earlier export of the same check is replaced, by the same bytes; another one stays, and this one goes to a folder
    beside it with a number behind its name.

    Raises
    ------
    OutputError
        If the folder cannot be written, or holds files that are not those of an export.
    """
    text = json.dumps(plain(values_of(check)), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    folder = _of_this(folder.absolute(), text)
    with exporting(folder, _FILES) as (made, archive):
        summary_table(check).write_csv(made / SUMMARY)
        (made / VALUES).write_text(text, encoding="utf-8")
        figures = quality_figures(check)
        for name, figure in figures.items():
            for suffix in _SUFFIXES:
                save_figure(figure, made / f"{name}{suffix}")
        write_quality_report(check, made / REPORT, figures)
    return QualityFiles(folder, archive, folder / REPORT)


def _of_this(folder: Path, text: str) -> Path:
    """Return the folder, or the first one with a number, that holds no other check than that with these values."""
    number, found = 1, folder
    while (found / VALUES).is_file() and (found / VALUES).read_text(encoding="utf-8") != text:
        number += 1
        found = folder.with_name(f"{folder.name}-{number}")
    return found


def summary_table(check: DataCheck) -> pl.DataFrame:
    """Return a row for each part and fact, all of them numbers; what is not known has none."""
    rows = [(part, fact, float(value)) for part, fact, value in _facts(check)]
    return pl.DataFrame(rows, schema={"part": pl.String, "fact": pl.String, "value": pl.Float64}, orient="row")


def values_of(check: DataCheck) -> dict[str, Any]:
    """Return what was found and how, without the values of single users or items."""
    facts: dict[str, dict[str, float]] = {}
    for part, fact, value in _facts(check):
        facts.setdefault(part, {})[fact] = value
    timeline, factors = check.quality.timeline, check.factors
    return {
        "dataset": dict(check.dataset),
        "protocol": dict(check.protocol),
        "split": check.split,
        "findings": [asdict(finding) for finding in check.findings],
        "facts": facts,
        "singular_values": None if factors is None else factors.values,
        "without_factors": check.without_factors,
        "heat_map": check.quality.map.density,
        "over_time": None
        if timeline is None
        else {
            "period": timeline.period,
            "edges": [str(day) for day in timeline.edges],
            "interactions": timeline.counts.sum(axis=0),
        },
    }


def _facts(check: DataCheck) -> Iterator[tuple[str, str, float]]:
    """Yield part, name and value of each fact that is known."""
    quality = check.quality
    for part in quality.parts:
        for name, value in _part_facts(part, check).items():
            if value is not None:
                yield part.name, name, value
    for name in ("pairs_in_two_parts", "repeated_pairs", "alike_users", "alike_items", "outside_scale"):
        if getattr(quality, name) is not None:
            yield ALL, name, getattr(quality, name)
    if quality.times is not None:
        yield from ((ALL, f"times_{name}", value) for name, value in asdict(quality.times).items())
    for prefix, activity in (("user", quality.users), ("item", quality.items)):
        yield from ((ALL, f"{prefix}_interactions_{name}", value) for name, value in _activity_facts(activity).items())
    if check.factors is not None:
        yield from (("train", name, value) for name, value in _factor_facts(check.factors).items())


def _part_facts(part: PartFacts, check: DataCheck) -> dict[str, float | None]:
    facts: dict[str, float | None] = {
        "interactions": part.interactions,
        "users": part.users,
        "items": part.items,
        "density": part.density,
        "sparsity": part.sparsity,
        "unseen_users": part.unseen_users,
        "unseen_items": part.unseen_items,
        "of_unseen_users": part.of_unseen_users,
        "of_unseen_items": part.of_unseen_items,
        "first_time": part.first,
        "last_time": part.last,
    }
    if part.ratings is not None and check.quality.levels is not None:
        rated = part.ratings
        facts |= {"rating_mean": rated.mean, "rating_std": rated.std}
        facts |= {"rating_lowest": rated.lowest, "rating_highest": rated.highest}
        labels = level_labels(check.quality.levels)
        facts |= {f"ratings_of {label}": count for label, count in zip(labels, rated.counts, strict=True)}
    return facts


def _activity_facts(activity: Activity) -> dict[str, float]:
    return {
        "least": activity.least,
        "median": activity.median,
        "mean": activity.mean,
        "most": activity.most,
        "singles": activity.singles,
        "top_share": activity.top_share,
        "gini": activity.gini,
    }


def _factor_facts(factors: FactorFacts) -> dict[str, float]:
    named = ("n_factors", "energy", "rmse", "mae", "rmse_without", "mae_without", "coverage", "list_length")
    facts: dict[str, float] = {f"svd_{name}": getattr(factors, name) for name in (*named, "listed_users")}
    for side, norms in (("user", factors.users), ("item", factors.items)):
        facts |= {
            f"svd_{side}_norm_smallest": norms.smallest,
            f"svd_{side}_norm_median": norms.median,
            f"svd_{side}_norm_largest": norms.largest,
            f"svd_{side}s_negligible": norms.negligible,
        }
    return facts
