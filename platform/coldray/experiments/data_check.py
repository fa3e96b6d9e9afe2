"""The check of a dataset and its split before anything is tuned on it: facts, factors, and what is suspicious."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp

from coldray.core.errors import CatalogTooLargeError, DataError, EmptyDatasetError, MissingFieldError
from coldray.data.dataset import Dataset, keep_entries
from coldray.data.quality.facts import DataQuality, Scale, data_quality
from coldray.data.splits.assignment import PartAssignment
from coldray.data.splits.parts import TRAIN
from coldray.data.splits.positives import Positives
from coldray.experiments.data_findings import (
    Finding,
    data_findings,
    factor_findings,
    positive_findings,
    worst_first,
)
from coldray.experiments.prepared import describe_dataset, split_words
from coldray.experiments.split_config import SplitConfig
from coldray.models.linear.factor_facts import FactorFacts, factor_facts


@dataclass(frozen=True, eq=False)
class DataCheck:
    """What a check found."""

    dataset: Mapping[str, Any]
    """What a report says about the data."""
    protocol: Mapping[str, str]
    """How the numbers came to be."""
    split: str
    """What the split is called."""
    quality: DataQuality
    factors: FactorFacts | None
    without_factors: str | None
    """Why there are no factors; None where there are."""
    findings: tuple[Finding, ...]
    """The worst first."""

    def of_level(self, level: str) -> tuple[Finding, ...]:
        """Return the findings of a level."""
        return tuple(finding for finding in self.findings if finding.level == level)


def check_split(
    split: PartAssignment,
    *,
    scale: Scale | None = None,
    positives: Positives | None = None,
    n_factors: int = 50,
    most_users: int = 10_000,
    seed: int = 42,
) -> DataCheck:
    """Look at a dataset and its split; nothing that is wrong with them is raised, all of it is told.

    Parameters
    ----------
    scale
        Lowest and highest rating there should be; None where nobody knows.
    positives
        The rule by which a study would say what is to be found; None for everything that is held out.
    n_factors, most_users
        As in :func:`~coldray.models.linear.factor_facts.factor_facts`.
    seed
        Seed of the sample of users.
    """
    taken, unfit = None, None
    if positives is not None:
        try:
            taken = positives.holding(split.dataset)
        except (MissingFieldError, EmptyDatasetError) as error:
            unfit = str(error)
    quality = data_quality(split, scale, taken)
    factors, reason = None, None
    try:
        train, matrix = _train_matrix(split)
        factors = factor_facts(
            train, matrix, n_factors=n_factors, most_users=most_users, generator=np.random.default_rng(seed)
        )
    except (DataError, CatalogTooLargeError) as error:
        reason = str(error)
    found = [*data_findings(split, quality), *factor_findings(factors, reason)]
    if positives is not None:
        found += positive_findings(positives, quality, unfit)
    return DataCheck(
        dataset=_describe(split.dataset),
        protocol=_protocol(split, quality, factors, positives, seed),
        split=split.name,
        quality=quality,
        factors=factors,
        without_factors=reason,
        findings=worst_first(found),
    )


def _train_matrix(split: PartAssignment) -> tuple[sp.csr_array, Literal["ratings", "clicks"]]:
    """Return the ratings of the train part, or its clicks where there is no rating but 0."""
    ratings, train = split.dataset.ratings, split.parts == TRAIN
    if ratings is not None and ratings.data[train].any():
        return keep_entries(ratings, train), "ratings"
    return keep_entries(split.dataset.interactions, train), "clicks"


def _describe(dataset: Dataset) -> dict[str, Any]:
    has = {"ratings": dataset.ratings is not None, "timestamps": dataset.timestamps is not None}
    context = {"context": list(dataset.context)} if dataset.context else {}
    return {**describe_dataset(dataset), **has, **context}


def _protocol(
    split: PartAssignment, quality: DataQuality, factors: FactorFacts | None, positives: Positives | None, seed: int
) -> dict[str, str]:
    name = split.name if split.name == split.protocol else f"{split.protocol} ({split.name})"
    words = split_words(SplitConfig(protocol=split.protocol, n_splits=split.n_splits))
    described = {"split": f"{name}: {words}", "seed": str(seed)}
    if quality.scale is not None:
        described["rating scale"] = f"{quality.scale[0]:g} to {quality.scale[1]:g}"
    if positives is not None:
        described["positives"] = f"rating {positives.rating}"
    if factors is not None:
        described["factors"] = f"truncated SVD of the train {factors.matrix}, zero where nothing is known"
        drawn = "all" if factors.listed_users == factors.train_users else f"a random {factors.listed_users:,} of the"
        described["lists"] = (
            f"top {factors.list_length} for {drawn} {factors.train_users:,} train users, without what they know"
        )
    return described
