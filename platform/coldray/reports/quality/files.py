"""The data in the export of a check: a tidy table, and everything that was found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import polars as pl

from coldray.data.quality.activity import Activity
from coldray.data.quality.facts import ALL, PartFacts
from coldray.experiments.data_check import DataCheck
from coldray.models.linear.factor_facts import FactorFacts
from coldray.reports.quality.words import level_labels


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


_PART_FACTS = (
    *("interactions", "users", "items", "density", "sparsity"),
    *("unseen_users", "unseen_items", "of_unseen_users", "of_unseen_items"),
)
_ACTIVITY_FACTS = ("least", "median", "mean", "most", "singles", "top_share", "gini")
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
    return facts


def _activity_facts(activity: Activity) -> dict[str, float]:
    return {name: getattr(activity, name) for name in _ACTIVITY_FACTS}


def _factor_facts(factors: FactorFacts) -> dict[str, float]:
    facts: dict[str, float] = {f"svd_{name}": getattr(factors, name) for name in _FACTOR_FACTS}
    for side, norms in (("user", factors.users), ("item", factors.items)):
        facts |= {f"svd_{side}_norm_{name}": getattr(norms, name) for name in ("smallest", "median", "largest")}
        facts[f"svd_{side}s_negligible"] = norms.negligible
    return facts
