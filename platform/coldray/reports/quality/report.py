"""What is told of a check of data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import polars as pl

from coldray.data.quality.activity import Activity
from coldray.data.quality.facts import ALL, PartFacts
from coldray.data.quality.levels import RatingFacts
from coldray.data.splits.parts import PART_WORDS, TEST, VALIDATION
from coldray.experiments.data_check import DataCheck
from coldray.experiments.data_findings import LEVELS, share_label
from coldray.models.linear.factor_facts import FactorFacts, Magnitudes
from coldray.reports.labels import DASH, is_synthetic
from coldray.reports.quality.contexts import context_table
from coldray.reports.quality.figures import FIGURES, left_out, quality_pictures
from coldray.reports.quality.wanted import counted_cell, event_table, positive_table
from coldray.reports.quality.words import amount_label, filled_parts, headline, level_labels
from coldray.reports.report import Callout, Cell, Columns, Gallery, Report, Section, Table, Text, number
from coldray.reports.tables import origin

VALUES = "results.json"
_LEVELS = {"problem": ("Problems", "bold red"), "warning": ("Warnings", "yellow"), "note": ("Notes", "dim")}
"""What the findings of a level are called, and how they look in a terminal."""
_FARTHEST = 253_402_300_799
"""The last second of the year 9999, beyond which there are no dates."""
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
    "first day": lambda part: _day_label(part.first),
    "last day": lambda part: _day_label(part.last),
}


def quality_report(check: DataCheck) -> Report:
    """Return the report of a check of data."""
    return Report(
        title=f"Data check of {check.dataset['name']}, split {check.split}",
        outcome=headline(check),
        sections=(
            *(_findings(check, level) for level in LEVELS),
            *(section(check) for section in _SECTIONS),
            *(_findings_in_short(check, level) for level in LEVELS),
        ),
        synthetic=is_synthetic(check),
        files={"summary.csv": summary_table(check), VALUES: values_of(check)},
        formats=(".png", ".svg"),
        names=FIGURES,
    )


def _findings(check: DataCheck, level: str) -> Section:
    found = tuple(finding.sentence for finding in check.of_level(level))
    return Section(_LEVELS[level][0], (Callout(found) if found else None,), "page")


def _findings_in_short(check: DataCheck, level: str) -> Section:
    found = tuple(finding.sentence for finding in check.of_level(level))
    return Section("", (Callout(found, level, _LEVELS[level][1]) if found else None,), "terminal")


def _in_short(check: DataCheck) -> Section:
    tables = (
        *(_parts_table(check), event_table(check), positive_table(check)),
        *(context_table(check), _factor_table(check)),
    )
    return Section("", tables, "terminal")


def _parts(check: DataCheck) -> Section:
    return Section("Parts of the split", (_parts_table(check), _overlap_table(check), _order_table(check)), "page")


def _wanted(check: DataCheck) -> Section:
    return Section("What is to be found", (event_table(check), positive_table(check)), "page")


def _activity(check: DataCheck) -> Section:
    ratings = _rating_table(check)
    tables = (_activity_table(check), *((ratings,) if ratings else ()))
    return Section("Activity and ratings", (Columns(tables),), "page")


def _contexts(check: DataCheck) -> Section:
    said = (
        "What was known before each interaction. The evenness is the entropy of how often each value comes, over that "
        "of values which all come as often: 1 where they do, towards 0 where one is in nearly all."
    )
    table = context_table(check)
    return Section("Context", (Text(said), table) if table else (), "page")


def _factors(check: DataCheck) -> Section:
    said = (
        "What a truncated SVD of the train part carries: the norms of its factors, how far it reconstructs the entries "
        "it was made of, and how much of the catalogue its lists show. Zero stands where nothing is known, so the "
        "reconstruction is no prediction of ratings."
    )
    table = _factor_table(check)
    return Section("Factors of train", (Text(said), table) if table else (), "page")


def _figures(check: DataCheck) -> Section:
    return Section("Figures", (Gallery(quality_pictures(check)), Callout(tuple(left_out(check).values()))), "page")


def _protocol(check: DataCheck) -> Section:
    known = {name: value for name, value in check.dataset.items() if name != "notes"}  # they are among the findings
    return Section("Protocol and data", (origin(check.protocol, known, "Dataset"),), "page")


_SECTIONS = (_in_short, _parts, _wanted, _activity, _contexts, _factors, _figures, _protocol)
"""All sections but the findings, in their order."""


def _parts_table(check: DataCheck) -> Table:
    """Return the facts of all parts: facts down, parts across; rows that nothing is known for are left out."""
    parts = check.quality.parts
    rows = [(Cell(name), *(number(write(part)) for part in parts)) for name, write in _PART_ROWS.items()]
    known = tuple(row for row in rows if any(cell.text != DASH for cell in row[1:]))
    header = (Cell("Fact"), *(number(part.name) for part in parts))
    return Table("Parts; density and sparsity are of the part's own users × items", header, known)


def _overlap_table(check: DataCheck) -> Table:
    """Return what of validation and test is unseen in train, and what is shared that must not be."""
    quality = check.quality
    parts = [quality.part(name) for name in PART_WORDS[VALIDATION : TEST + 1]]
    rows = (
        (Cell("users unseen in train"), *(counted_cell(part.unseen_users, part.users) for part in parts)),
        (Cell("their interactions"), *(counted_cell(part.of_unseen_users, part.interactions) for part in parts)),
        (Cell("items unseen in train"), *(counted_cell(part.unseen_items, part.items) for part in parts)),
        (Cell("their interactions"), *(counted_cell(part.of_unseen_items, part.interactions) for part in parts)),
    )
    shared = f"pairs in two parts: {quality.pairs_in_two_parts:,}"
    return Table(f"Overlap with train; {shared}", (Cell("Fact"), *(number(part.name) for part in parts)), rows)


def _order_table(check: DataCheck) -> Table | None:
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
    cells = tuple((Cell(name), counted_cell(count, whole)) for name, count, whole in rows)
    return Table("Order of times", (Cell("Fact"), number("Count")), cells)


def _activity_table(check: DataCheck) -> Table:
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


def _rating_table(check: DataCheck) -> Table | None:
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


def _factor_table(check: DataCheck) -> Table | None:
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


def _day_label(seconds: int | None) -> str:
    """Return a time as its day (UTC); beyond the dates there are, as the number."""
    if seconds is None:
        return DASH
    if not 0 <= seconds <= _FARTHEST:
        return f"{seconds:,} s"
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _spread(ratings: RatingFacts) -> str:
    if ratings.highest >= _LARGE:
        return f"{amount_label(ratings.mean)} ± {amount_label(ratings.std)}"
    return f"{ratings.mean:.3f} ± {ratings.std:.3f}"


def _error(error: float, without: float) -> str:
    return f"{amount_label(error)} ({amount_label(without)} without factors)"


def _norms(side: Magnitudes) -> str:
    values = (side.smallest, side.median, side.largest)
    return ", ".join(amount_label(value) if value >= _ROUNDING else f"< {_ROUNDING:g}" for value in values)


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
    if quality.kinds is not None:
        yield ALL, "weakest_event_users", quality.kinds.weakest_users
        for place, name in enumerate(quality.kinds.names):
            yield ALL, f"event_weight {name}", float(quality.kinds.weights[place])
            if quality.kinds.read is not None:
                yield ALL, f"events_read {name}", quality.kinds.read[place]
    if quality.times is not None:
        yield from ((ALL, f"times_{name}", value) for name, value in asdict(quality.times).items())
    for prefix, activity in (("user", quality.users), ("item", quality.items)):
        yield from ((ALL, f"{prefix}_interactions_{name}", value) for name, value in _activity_facts(activity).items())
    for context in quality.contexts:
        facts = {name: getattr(context, name) for name in _CONTEXT_FACTS}
        yield from (
            (ALL, f"context_{context.name}_{name}", value) for name, value in facts.items() if value is not None
        )
    if check.factors is not None:
        yield from (("train", name, value) for name, value in _factor_facts(check.factors).items())


_PART_FACTS = (
    *("interactions", "users", "items", "density", "sparsity"),
    *("unseen_users", "unseen_items", "of_unseen_users", "of_unseen_items"),
)
_ACTIVITY_FACTS = ("least", "median", "mean", "most", "singles", "top_share", "gini")
_CONTEXT_FACTS = ("values", "unknown", "evenness", "of_commonest", "held_out", "unseen")
_FACTOR_FACTS = (
    *("n_factors", "energy", "rmse", "mae", "rmse_without", "mae_without"),
    *("coverage", "list_length", "listed_users"),
)


def _part_facts(part: PartFacts, check: DataCheck) -> dict[str, float | None]:
    facts: dict[str, float | None] = {name: getattr(part, name) for name in _PART_FACTS}
    facts |= {"first_time": part.first, "last_time": part.last}
    if part.ratings is not None and check.quality.levels is not None:
        rated = part.ratings
        facts |= {f"rating_{name}": getattr(rated, name) for name in ("mean", "std", "lowest", "highest")}
        labels = level_labels(check.quality.levels)
        facts |= {f"ratings_of {label}": count for label, count in zip(labels, rated.counts, strict=True)}
    if part.events is not None and check.quality.kinds is not None:
        names = check.quality.kinds.names
        facts |= {f"events_of {name}": count for name, count in zip(names, part.events, strict=True)}
    if part.positives is not None:
        facts |= {"positives": part.positives.interactions, "positive_users": part.positives.users}
    return facts


def _activity_facts(activity: Activity) -> dict[str, float]:
    return {name: getattr(activity, name) for name in _ACTIVITY_FACTS}


def _factor_facts(factors: FactorFacts) -> dict[str, float]:
    facts: dict[str, float] = {f"svd_{name}": getattr(factors, name) for name in _FACTOR_FACTS}
    for side, norms in (("user", factors.users), ("item", factors.items)):
        facts |= {f"svd_{side}_norm_{name}": getattr(norms, name) for name in ("smallest", "median", "largest")}
        facts[f"svd_{side}s_negligible"] = norms.negligible
    return facts
