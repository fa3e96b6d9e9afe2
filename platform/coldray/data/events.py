"""What kind each interaction was, as a weight: a view, a cart, a purchase.

Of several events of a user with an item the *strongest* is kept, the one of the highest weight: behaviours of one kind
of wish are ordered by strength, and who has bought an item has looked at it before (Chen et al., *Efficient
Heterogeneous Collaborative Filtering without Negative Sampling for Recommendation*, AAAI 2020). A sum would make ten
views a purchase. The time of a pair is that of its latest event, so that a pair that is known at a moment tells nothing
of what came after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

import numpy as np
import polars as pl
from pydantic import BeforeValidator, Field

from coldray.core.errors import ConfigError, UnweightedEventError
from coldray.core.spelling import choices, nearest
from coldray.data.dataset import Dataset
from coldray.data.tables.ids import BLANKS
from coldray.data.tables.named_values import named_values


def _weights_read(value: Any) -> Any:
    return named_values(value, "event_weights", "kind", "weight", "purchase=5,view=1")


_Weight: TypeAlias = Annotated[float, Field(gt=0.0, le=1e6, allow_inf_nan=False)]
EventWeights: TypeAlias = Annotated[dict[str, _Weight], BeforeValidator(_weights_read), Field(min_length=1)]
"""Kind → weight, above 0 and at most a million; text such as ``purchase=5,view=1`` is read as one."""


def check_event_columns(event: str | None, weights: Mapping[str, float] | None, rating: str | None) -> None:
    """Raise ConfigError unless a column of events comes with weights, and without one of ratings."""
    if (event is None) != (weights is None):
        given, lacking = ("event_column", "event_weights") if event else ("event_weights", "event_column")
        raise ConfigError(f"{given} is given and {lacking} is not: a kind of event is read as its weight. Name both.")
    if event is not None and rating is not None:
        raise ConfigError(
            f"event_column {event!r} and rating_column {rating!r} are both given: of several events of a pair nobody "
            "knows whose rating holds. Leave one of them out."
        )


def weighted_kinds(dataset: Dataset) -> list[str]:
    """Return the kinds of events of a dataset with their weights, as far as its provenance tells them: ``view 1``."""
    return [f"{kind} {weight:g}" for kind, weight in dataset.provenance.get("events", {}).get("weights", {}).items()]


def with_strongest(
    pairs: pl.DataFrame, weights: Mapping[str, float], where: str, provenance: dict[str, Any]
) -> pl.DataFrame:
    """Return a row a pair of user and item: `weight` of its strongest event, `timestamp` and `context` of its latest.

    How many events of each kind were read, and of how many pairs each is the strongest, is told in the provenance; so
    is how many pairs had events of several contexts.

    Parameters
    ----------
    pairs
        A row an event: `user`, `item`, `event`, and maybe `timestamp` and `context`, a number.
    where
        The file and the column, for errors and notes.

    Raises
    ------
    UnweightedEventError
        If an event is of a kind without a weight, or of none.
    """
    kinds = sorted(weights, key=lambda kind: -weights[kind])
    events = pairs.with_columns(pl.col("event").cast(pl.String).str.strip_chars(BLANKS).fill_null(""))
    counts = dict(events.group_by("event").len().sort("len", "event", descending=[True, False]).iter_rows())
    _refuse_unweighted(counts, weights, where)
    place = pl.Series(kinds, dtype=pl.String)
    ranked = events.with_columns(
        place=pl.col("event").replace_strict(place, pl.int_range(len(kinds), eager=True), return_dtype=pl.Int32)
    )
    latest = [pl.col("timestamp").max()] if "timestamp" in pairs.columns else []
    if "context" in pairs.columns:
        ranked = ranked.sort("timestamp", maintain_order=True) if latest else ranked
        latest += [pl.col("context").last(), pl.col("context").n_unique().alias("contexts")]
    kept = ranked.group_by("user", "item", maintain_order=True).agg(pl.col("place").min(), *latest)
    strongest = np.bincount(kept["place"].to_numpy(), minlength=len(kinds)).tolist()
    provenance["events"] = {
        "weights": {kind: float(weights[kind]) for kind in kinds},
        "read": {kind: counts.get(kind, 0) for kind in kinds},
        "strongest": dict(zip(kinds, strongest, strict=True)),
    }
    provenance.setdefault("notes", []).extend(_notes(provenance["events"], pairs, kept, where))
    values = np.array([weights[kind] for kind in kinds], np.float32)
    return kept.with_columns(weight=pl.Series(values[kept["place"].to_numpy()])).drop("place", "contexts", strict=False)


def _refuse_unweighted(counts: Mapping[str, int], weights: Mapping[str, float], where: str) -> None:
    unknown = {kind: count for kind, count in counts.items() if kind not in weights}
    if not unknown:
        return
    named = ", ".join(f"{count:,} {kind!r}" if kind else f"{count:,} of no kind" for kind, count in unknown.items())
    raise UnweightedEventError(
        f"{where}: {sum(unknown.values()):,} of {sum(counts.values()):,} events have no weight: {named}."
        f"{nearest(next(iter(unknown)), weights)} Weights are given for {choices(weights)}; add theirs "
        "(--event-weights, event_weights), or leave their rows out."
    )


def _notes(found: Mapping[str, Mapping[str, Any]], events: pl.DataFrame, kept: pl.DataFrame, where: str) -> list[str]:
    """Return what became of the events, a sentence each."""
    told = ", ".join(f"{found['read'][kind]:,} {kind} (weight {found['weights'][kind]:g})" for kind in found["read"])
    pairs = ", ".join(f"{count:,} {kind}" for kind, count in found["strongest"].items())
    notes = [
        f"{where}: {events.height:,} events, {told}, are {kept.height:,} interactions, each of the weight of its "
        f"strongest event ({pairs}){' and the time of its latest' if 'timestamp' in events.columns else ''}."
    ]
    if absent := [kind for kind, count in found["read"].items() if not count]:
        notes.append(f"{where}: no event is of the kind {choices(absent)}, which has a weight.")
    several = int((kept["contexts"] > 1).sum()) if "contexts" in kept.columns else 0
    if several:
        kept_is = "of its latest event" if "timestamp" in events.columns else "of its last row, as there are no times"
        notes.append(
            f"{where}: {several:,} of {kept.height:,} interactions have events in several contexts; each has that "
            f"{kept_is}."
        )
    return notes
