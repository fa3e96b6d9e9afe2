"""What a truncated SVD makes of the train part: factor magnitudes, reconstruction, and coverage of the catalogue.

The matrix R of ratings, or of clicks where there are none, with zeros where nothing is known, is taken as ``U S Vᵀ``
(Cremonesi, Koren and Turrin, *Performance of recommender algorithms on top-N recommendation tasks*, 2010). The factors
of users are ``U S^½``, those of items ``V S^½``, and an entry is reconstructed as their product.

Notation used for shapes: U users, I items, W warm items, n train entries, k factors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.core.errors import DataError
from coldray.core.memory import require_memory
from coldray.data.dataset import rows_of
from coldray.evaluation.metrics import ranking_metrics
from coldray.evaluation.ranking import Ranking, rank
from coldray.features.feature_set import FeatureSet
from coldray.models.base import Scores, TrainingSet
from coldray.models.linalg.singular import singular_vectors, usable_factors

Double: TypeAlias = npt.NDArray[np.float64]

_LIST_LENGTH = 10
_BLOCK_ENTRIES = 1 << 16
"""Entries reconstructed at a time."""
NEGLIGIBLE, ROUNDING = 1e-3, 1e-6
"""A norm below this share of the median one, or of the largest one, is nothing."""


@dataclass(frozen=True)
class Magnitudes:
    """Norms of the factors of the users, or the items, that have a train interaction."""

    norms: Double
    """float64, ascending."""

    @property
    def smallest(self) -> float:
        """Smallest norm."""
        return float(self.norms[0])

    @property
    def median(self) -> float:
        """Norm of the one in the middle."""
        return float(np.median(self.norms))

    @property
    def largest(self) -> float:
        """Largest norm."""
        return float(self.norms[-1])

    @property
    def negligible(self) -> int:
        """How many the factors say next to nothing of: a norm below a thousandth of the median, or rounding."""
        return int((self.norms <= max(NEGLIGIBLE * self.median, ROUNDING * self.largest)).sum())


@dataclass(frozen=True, eq=False)
class FactorFacts:
    """A truncated SVD of the train part."""

    matrix: Literal["ratings", "clicks"]
    """What was decomposed."""
    values: Double
    """Singular values ``[k]``, descending."""
    energy: float
    """Share of the sum of squares of R that the factors carry."""
    users: Magnitudes
    items: Magnitudes
    rmse: float
    """Root mean squared error of the reconstruction over the train entries."""
    mae: float
    """Mean absolute error over them."""
    rmse_without: float
    """The same of no factors at all, which reconstruct every entry as 0."""
    mae_without: float
    coverage: float
    """Share of all items that are in at least one list of `list_length`."""
    list_length: int
    listed_users: int
    """Users whose lists were made."""
    train_users: int
    """Users with a train interaction."""

    @property
    def n_factors(self) -> int:
        """Factors that were used."""
        return len(self.values)


def factor_facts(
    train: sp.csr_array,
    matrix: Literal["ratings", "clicks"],
    *,
    n_factors: int = 50,
    most_users: int = 10_000,
    generator: np.random.Generator,
) -> FactorFacts:
    """Decompose the train part and look at what comes of it.

    More factors than the matrix can have are reduced to what there is, with a warning.

    Parameters
    ----------
    train
        R, CSR ``[U, I]``. Its stored entries are the known ones, a stored 0 included.
    matrix
        What the entries are.
    most_users
        Lists are made for so many users at most, drawn at random.
    generator
        What they are drawn from.

    Raises
    ------
    DataError
        If fewer than two users or two items have an entry, or all entries are 0.
    CatalogTooLargeError
        If the factors do not fit in memory.
    """
    entries = train.data.astype(np.float64)
    if not entries.any():
        raise DataError(f"All {train.nnz:,} {matrix} of the train part are 0: there is nothing to decompose.")
    data = TrainingSet(train, FeatureSet({}, train.shape[1]), "the train part")
    used = usable_factors("factors", n_factors, data)
    require_memory(
        16 * used * sum(train.shape) + 16 * used * _BLOCK_ENTRIES,
        purpose=f"{used:,} factors of {train.shape[0]:,} users and {train.shape[1]:,} items",
        way_out="Use fewer factors, or fewer users or items through the filters.",
    )
    vectors, values = _decompose(data, used)
    square_root = np.sqrt(values)
    item_factors = vectors * square_root
    user_factors = np.asarray(train @ (vectors / np.maximum(square_root, np.finfo(np.float64).tiny)))
    rmse, mae = _reconstruction(train, user_factors, item_factors)
    ranking, coverage = _lists(data, vectors, most_users, generator)
    return FactorFacts(
        matrix,
        values=values,
        energy=min(1.0, float((values**2).sum() / (entries**2).sum())),
        users=_magnitudes(user_factors[np.diff(train.indptr) > 0]),
        items=_magnitudes(item_factors[data.warm_items]),
        rmse=rmse,
        mae=mae,
        rmse_without=float(np.sqrt((entries**2).mean())),
        mae_without=float(np.abs(entries).mean()),
        coverage=coverage,
        list_length=ranking.k,
        listed_users=len(ranking.users),
        train_users=int((np.diff(train.indptr) > 0).sum()),
    )


def _decompose(data: TrainingSet, n_factors: int) -> tuple[Double, Double]:
    """Return the right singular vectors ``[I, k]``, zero at items without an entry, and the values."""
    warm, values = singular_vectors(data, n_factors=n_factors, alpha=0.0, centred=False)
    vectors = np.zeros((data.interactions.shape[1], len(values)))
    vectors[data.warm_items] = warm
    return vectors, values.astype(np.float64)


def _magnitudes(factors: Double) -> Magnitudes:
    return Magnitudes(np.sort(np.linalg.norm(factors, axis=1)))


def _reconstruction(train: sp.csr_array, user_factors: Double, item_factors: Double) -> tuple[float, float]:
    """Return RMSE and MAE over the stored entries."""
    rows, squares, absolutes = rows_of(train), 0.0, 0.0
    for start in range(0, train.nnz, _BLOCK_ENTRIES):
        block = slice(start, start + _BLOCK_ENTRIES)
        products = np.einsum("ek,ek->e", user_factors[rows[block]], item_factors[train.indices[block]])
        errors = train.data[block] - products
        squares += float(errors @ errors)
        absolutes += float(np.abs(errors).sum())
    return float(np.sqrt(squares / train.nnz)), absolutes / train.nnz


def _lists(
    data: TrainingSet, vectors: Double, most_users: int, generator: np.random.Generator
) -> tuple[Ranking, float]:
    """Return the lists of a sample of the users, without what they have an entry of, and their coverage."""
    train, candidates = data.interactions, data.warm_items
    users = np.flatnonzero(np.diff(train.indptr) > 0)
    if len(users) > most_users:
        users = np.sort(generator.choice(users, most_users, replace=False))
    onto = vectors.astype(np.float32)
    back = np.ascontiguousarray(onto[candidates].T)

    def scores(histories: sp.csr_array) -> Scores:
        return np.asarray((histories @ onto) @ back, np.float32)

    # Not the entries themselves: one of 0 is known as well, and is not to be listed.
    known = sp.csr_array((np.ones(train.nnz, np.float32), train.indices, train.indptr), shape=train.shape)
    length = min(_LIST_LENGTH, len(candidates))
    ranking = rank(scores, train, candidates, k=length, exclude=known, users=users)
    measured = ranking_metrics(ranking, known, (length,), (), n_candidates=train.shape[1])
    return ranking, float(measured.coverage[f"coverage@{length}"])
