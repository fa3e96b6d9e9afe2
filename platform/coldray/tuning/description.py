"""What a report says about the data and the protocol of a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from coldray.data.dataset import Dataset
from coldray.data.filters import FilterConfig
from coldray.data.splits import Split
from coldray.features.builder import attribute_names
from coldray.tuning.space import StudyConfig


def describe_dataset(dataset: Dataset, config: StudyConfig) -> dict[str, Any]:
    """Return what a report says about the data."""
    return {
        "name": dataset.name,
        "synthetic": dataset.synthetic,
        "n_users": dataset.n_users,
        "n_items": dataset.n_items,
        "n_interactions": int(dataset.interactions.nnz),
        "density": dataset.density,
        "fingerprint": dataset.fingerprint,
        "attributes": list(attribute_names(dataset, config.features)),
    }


def describe_protocol(config: StudyConfig, dataset: Dataset, splits: Sequence[Split]) -> dict[str, str]:
    """Return how the numbers came to be, in words: they belong beside every number."""
    parts = {
        "notebook": "items permuted; 60 % train, 20 % validation, 20 % test",
        "balanced": "80/20 of the interactions, best of ten assignments of items, twice",
    }
    listed = {
        "cold": "the held-out cold items",
        "all": "every item but the user's train positives",
    }
    counts = splits[0].counts()
    left_out = sum(split.counts()["users_without_train_clicks"] for split in splits)
    return {
        "split": f"{config.splits.protocol}: {parts[config.splits.protocol]}",
        "splits": f"{config.splits.n_splits} for each seed ({', '.join(map(str, config.splits.seeds))})",
        "first split": ", ".join(f"{counts[f'{part}_items']:,} {part}" for part in ("train", "validation", "test"))
        + " items",
        "candidates": f"{config.candidates}: {listed[config.candidates]}",
        "users": "with a train and a held-out click"
        + (f"; {left_out} without a train click left out, summed over splits" if left_out else "; none left out"),
        "filters": "; ".join(map(_filter_words, dataset.provenance.get("filters", []))) or "none",
        "metrics": "hr@k (Eq. 12) and ndcg@k (Eq. 13) of Monteil et al. 2024: hits over min(k, relevant items)",
        "selection": f"mean validation {config.selection.metric}; test items are used once, by the winner",
    }


def _filter_words(entry: Mapping[str, Any]) -> str:
    """Name the filters of one entry of the provenance that are not at their default."""
    defaults = FilterConfig().model_dump()
    changed = {name: entry["config"][name] for name in defaults if entry["config"][name] != defaults[name]}
    return ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in changed.items()) or "none"
