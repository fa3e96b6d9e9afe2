"""The report of a check of data: one HTML page that needs no other file and no network.

An export has it beside a tidy table, everything as JSON, the figures, and an archive of them all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
from matplotlib.figure import Figure

from coldray.data.quality.activity import Activity
from coldray.data.quality.facts import ALL, PartFacts
from coldray.data.quality.levels import RatingFacts
from coldray.data.splits.parts import PART_WORDS, TEST, VALIDATION
from coldray.experiments.data_check import DataCheck
from coldray.experiments.data_findings import share_label
from coldray.models.linear.factor_facts import FactorFacts, Magnitudes
from coldray.reports.export_files import exporting, plain
from coldray.reports.labels import DASH, is_synthetic, value_label
from coldray.reports.page import render, save_page
from coldray.reports.pictures import pictures
from coldray.reports.quality.figures import FIGURES, left_out, quality_figures
from coldray.reports.quality.words import (
    amount_label,
    figure_words,
    filled_parts,
    findings_by_level,
    headline,
    level_labels,
)
from coldray.reports.style import save_figure
from coldray.reports.tables import DATASET_WORDS, Cell, Table, facts, number

_FARTHEST = 253_402_300_799
"""The last second of the year 9999, beyond which there are no dates."""
_FINGERPRINT = 12
"""Characters of a fingerprint that are shown."""
_LARGE = 100.0
"""Ratings from which on their decimals say nothing."""
_ROUNDING = 1e-6
_PART_ROWS: dict[str, Callable[[PartFacts], str]] = {
    "interactions": lambda part: f"{part.interactions:,}",
    "users": lambda part: f"{part.users:,}",
    "items": lambda part: f"{part.items:,}",
    "density": lambda part: _percent(part.density) if part.interactions else DASH,
    "sparsity": lambda part: _percent(part.sparsity) if part.interactions else DASH,
    "mean rating ± std": lambda part: _spread(part.ratings) if part.ratings else DASH,
    "lowest rating": lambda part: amount_label(part.ratings.lowest) if part.ratings else DASH,
    "highest rating": lambda part: amount_label(part.ratings.highest) if part.ratings else DASH,
    "first day": lambda part: day_label(part.first),
    "last day": lambda part: day_label(part.last),
}


def parts_table(check: DataCheck) -> Table:
    """Return the facts of all parts: facts down, parts across; rows that nothing is known for are left out."""
    parts = check.quality.parts
    rows = [(Cell(name), *(number(write(part)) for part in parts)) for name, write in _PART_ROWS.items()]
    known = tuple(row for row in rows if any(cell.text != DASH for cell in row[1:]))
    header = (Cell("Fact"), *(number(part.name) for part in parts))
    return Table("Parts; density and sparsity are of the part's own users × items", header, known)


def overlap_table(check: DataCheck) -> Table:
    """Return what of validation and test is unseen in train, and what is shared that must not be."""
    quality = check.quality
    parts = [quality.part(name) for name in PART_WORDS[VALIDATION : TEST + 1]]
    rows = (
        (Cell("users unseen in train"), *(_counted(part.unseen_users, part.users) for part in parts)),
        (Cell("their interactions"), *(_counted(part.of_unseen_users, part.interactions) for part in parts)),
        (Cell("items unseen in train"), *(_counted(part.unseen_items, part.items) for part in parts)),
        (Cell("their interactions"), *(_counted(part.of_unseen_items, part.interactions) for part in parts)),
    )
    shared = f"pairs in two parts: {quality.pairs_in_two_parts:,}"
    return Table(f"Overlap with train; {shared}", (Cell("Fact"), *(number(part.name) for part in parts)), rows)


def order_table(check: DataCheck) -> Table | None:
    """Return how the times of held-out and train interactions lie; None without times."""
    times, held_out = check.quality.times, check.quality.held_out
    if times is None:
        return None
    rows = (
        ("held-out before a train interaction of the same user", times.within_user, held_out),
        ("held-out before a train interaction of anybody", times.across_users, held_out),
        ("held-out at the time of the user's last train interaction", times.tied, held_out),
        ("before 1990 or after 2099", times.implausible, check.quality.part("all").interactions),
        ("users with several interactions, all at one time", times.one_time_users, times.users),
    )
    cells = tuple((Cell(name), _counted(count, whole)) for name, count, whole in rows)
    return Table("Order of times", (Cell("Fact"), number("Count")), cells)


def activity_table(check: DataCheck) -> Table:
    """Return how the interactions spread over users and items."""
    rows: dict[str, Callable[[Activity], str]] = {
        "fewest": lambda side: f"{side.least:,}",
        "median": lambda side: amount_label(side.median),
        "mean": lambda side: f"{side.mean:.1f}",
        "most": lambda side: f"{side.most:,}",
        "with one": lambda side: f"{side.singles:,}",
        "share of top 1 %": lambda side: _percent(side.top_share),
        "Gini coefficient": lambda side: f"{side.gini:.3f}",
    }
    sides = (check.quality.users, check.quality.items)
    cells = tuple((Cell(name), *(number(write(side)) for side in sides)) for name, write in rows.items())
    return Table("Interactions a user and an item", (Cell("Fact"), number("a user"), number("an item")), cells)


def rating_table(check: DataCheck) -> Table | None:
    """Return the ratings at each level, part by part; None without ratings."""
    levels, parts = check.quality.levels, filled_parts(check)
    if levels is None:
        return None
    columns = [(part.ratings.counts, part.interactions) for part in parts if part.ratings is not None]
    rows = tuple(
        (Cell(label), *(number(f"{100 * counts[place] / whole:.2f} %") for counts, whole in columns))
        for place, label in enumerate(level_labels(levels))
    )
    return Table("Share of each part's ratings", (Cell("Rating"), *(number(part.name) for part in parts)), rows)


def factor_table(check: DataCheck) -> Table | None:
    """Return what the SVD of the train part gave; None without one."""
    found = check.factors
    if found is None:
        return None
    rows = (
        ("factors", f"{found.n_factors:,}"),
        ("largest and smallest singular value", f"{amount_label(found.values[0])}, {amount_label(found.values[-1])}"),
        ("share of the sum of squares", _percent(found.energy)),
        ("norm of a user: min, median, max", _norms(found.users)),
        ("norm of an item: min, median, max", _norms(found.items)),
        ("RMSE of train entries", _error(found.rmse, found.rmse_without)),
        ("MAE of train entries", _error(found.mae, found.mae_without)),
        (f"items in a top {found.list_length}", _percent(found.coverage)),
        ("users with lists", share_label(found.listed_users, found.train_users)),
    )
    cells = tuple((Cell(name), number(value)) for name, value in rows)
    return Table(f"Truncated SVD of the train {found.matrix}", (Cell("Fact"), number("Value")), cells)


def dataset_table(check: DataCheck) -> Table:
    """Return what is known of the dataset."""
    rows = []
    for name, value in check.dataset.items():
        if name == "notes":  # they are among the findings
            continue
        shown = f"{value:,}" if name in DATASET_WORDS else _percent(value) if name == "density" else value_label(value)
        cell = Cell(shown[:_FINGERPRINT], title=shown) if name == "fingerprint" else Cell(shown)
        rows.append((Cell(DATASET_WORDS.get(name, name)), cell))
    return Table("Dataset", (), tuple(rows))


def day_label(seconds: int | None) -> str:
    """Return a time as its day (UTC); beyond the dates there are, as the number."""
    if seconds is None:
        return DASH
    if not 0 <= seconds <= _FARTHEST:
        return f"{seconds:,} s"
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _counted(count: int, whole: int) -> Cell:
    """Return a count, with its share of the whole below."""
    share, _, of_whole = share_label(count, whole).rpartition(" (")
    return number(f"{count:,}", note=f"{of_whole.rstrip(')')} of {share.rpartition(' ')[2]}") if whole else number(DASH)


def _spread(ratings: RatingFacts) -> str:
    if ratings.highest >= _LARGE:
        return f"{amount_label(ratings.mean)} ± {amount_label(ratings.std)}"
    return f"{ratings.mean:.3f} ± {ratings.std:.3f}"


def _error(error: float, without: float) -> str:
    return f"{amount_label(error)} ({amount_label(without)} without factors)"


def _norms(side: Magnitudes) -> str:
    values = (side.smallest, side.median, side.largest)
    return ", ".join(amount_label(value) if value >= _ROUNDING else f"< {_ROUNDING:g}" for value in values)


def write_quality_report(check: DataCheck, path: Path, figures: Mapping[str, Figure]) -> Path:
    """Write the report of `check`, with its figures by name, to `path` and return the path.

    Raises
    ------
    OutputError
        If the folder cannot be created or written.
    """
    return save_page(quality_page(check, figures), path)


def quality_page(check: DataCheck, figures: Mapping[str, Figure]) -> str:
    """Return the report as one HTML page; nothing in `check` is trusted, every text is escaped."""
    return render(
        "quality.html",
        synthetic=is_synthetic(check),
        title=f"Data check of {check.dataset['name']}, split {check.split}",
        outcome=headline(check),
        findings=findings_by_level(check),
        parts=parts_table(check),
        overlap=overlap_table(check),
        order=order_table(check),
        activity=activity_table(check),
        ratings=rating_table(check),
        factors=factor_table(check),
        left_out=list(left_out(check).values()),
        figures=pictures(figures, figure_words(check)),
        protocol=facts("How the numbers came to be", check.protocol),
        dataset=dataset_table(check),
    )


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
