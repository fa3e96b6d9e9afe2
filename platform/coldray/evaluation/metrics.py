"""How good ranked lists are, user by user.

Every measure is over the first k places. H_k: hits among them; n_u: the number of relevant items of user u (|I_u| in
the paper), candidates or not.

==============  ======================================================================================
``hr``          H_k / min(k, n_u), the truncated recall of MARec, Eq. 12
``ndcg``        Σ hit_r / log₂(1 + r) over the same sum for an ideal list of min(k, n_u) hits, Eq. 13; of graded
                relevance Σ w_r / log₂(1 + r), with the weight w of each hit, over that of the heaviest items first
``recall``      H_k / n_u
``precision``   H_k / k
``map``         Σ hit_r · H_r / r over min(k, n_u)
``mrr``         1 / rank of the first hit; 0 without a hit
``coverage``    share of the candidates that are in at least one list; one number for all users
==============  ======================================================================================

Gains are linear in the weights, which say what an event is worth (Järvelin and Kekäläinen, *Cumulated Gain-Based
Evaluation of IR Techniques*, 2002; ``NDCG`` of LensKit, ``ndcg`` of ranx), and not 2^w − 1 (Burges et al., *Learning to
Rank Using Gradient Descent*, 2005), which is for grades of 0 to 4. All other measures count a hit of any weight as one.

Notation used for shapes: U users, I items, m ranked users, e evaluated users, K list length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.core.errors import ConfigError, EmptyDatasetError, PluginError
from coldray.core.plugins import Plugins
from coldray.core.spelling import choices, nearest
from coldray.evaluation.ranking import FloatArray, IntArray, Ranking
from coldray.evaluation.ratings import RATING_METRICS, RatingMetrics
from coldray.evaluation.topk import cell_positions, nonzero_pattern

_BLOCK_BYTES = 2 << 20
"""Size of the dense block in which hits are looked up; it stays in the cache."""

LEADING = ("ndcg", "recall", "precision")
"""Measures that are kept of a part of a test."""

Doubles: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RankingMetrics:
    """The measures of the users that have relevant items."""

    users: IntArray
    """User indices ``[e]``, in the order of the ranking."""
    per_user: Mapping[str, FloatArray]
    """float32 ``[e]`` by name and cutoff, such as ``hr@10``."""
    coverage: Mapping[str, float]
    """By cutoff, such as ``coverage@10``; over all lists of the ranking, also those of users left out above."""
    ratings: RatingMetrics | None = None
    """How near a model that predicts ratings comes to the held-out ones; None for others."""
    parts: Mapping[str, RankingMetrics] = field(default_factory=dict)
    """Measures of parts of the test, by name; each has users of its own."""

    def means(self) -> dict[str, float]:
        """Return the mean over users of every measure, summed in float64, the coverage, and the errors of ratings."""
        means = {name: float(values.mean(dtype=np.float64)) for name, values in self.per_user.items()}
        return means | dict(self.coverage) | ({} if self.ratings is None else self.ratings.means())

    def leading(self, names: Sequence[str] = LEADING) -> RankingMetrics:
        """Return the measures of these names alone, at any cutoff: what is kept of a part."""
        kept = {name: values for name, values in self.per_user.items() if name.partition("@")[0] in names}
        return RankingMetrics(self.users, kept, {})

    def every_per_user(self) -> dict[str, FloatArray]:
        """Return the values of users by name, those of parts as in :meth:`part_means`."""
        of_parts = ((f"{part}.{name}", of) for part, one in self.parts.items() for name, of in one.per_user.items())
        return {**self.per_user, **dict(of_parts)}

    def part_means(self) -> dict[str, float]:
        """Return the means of every part, such as ``overall.n5.ndcg@10``."""
        return {f"{part}.{name}": value for part, one in self.parts.items() for name, value in one.means().items()}


@dataclass(frozen=True, eq=False)
class Hits:
    """What every measure is computed from; that of another package too, see :data:`METRICS`."""

    flags: npt.NDArray[np.bool_]
    """Is the item at this place relevant, ``[e, K]``."""
    counts: IntArray
    """Hits up to and including this place, ``[e, K]``."""
    n_relevant: npt.NDArray[np.int64]
    """``[e]``, all positive."""
    gains: Doubles | None = None
    """What the item at this place is worth, 0 where it is not relevant ``[e, K]``; None where all hits are alike."""
    ideal: Doubles | None = None
    """The same of the list that begins with what is worth most."""

    def attainable(self, k: int) -> npt.NDArray[np.int64]:
        """Return the most hits that a list of k can have, ``[e]``."""
        return np.minimum(k, self.n_relevant)


def ranking_metrics(
    ranking: Ranking,
    relevant: sp.csr_array,
    cutoffs: Sequence[int] = (10, 25, 50),
    names: Sequence[str] | None = None,
    *,
    n_candidates: int,
    graded: bool = False,
) -> RankingMetrics:
    """Measure `ranking` against the items that were relevant.

    Users without relevant items are left out.

    Parameters
    ----------
    ranking
        Lists of at least ``max(cutoffs)`` places.
    relevant
        CSR ``[U, I]``; an item is relevant where the value is not zero.
    cutoffs
        The k's, each from 1 to the length of the lists.
    names
        Which of :data:`METRICS`; by default all that can be used. Coverage is always computed.
    n_candidates
        Number of items that competed for a place, the base of the coverage.
    graded
        Whether the values of `relevant` say what an item is worth to its user; else all relevant items are alike.

    Raises
    ------
    ConfigError
        If a graded value is below 0, a cutoff or a name is not usable, the ranking's users or items are not in
        `relevant`, or the lists hold more items than `n_candidates`.
    EmptyDatasetError
        If no ranked user has a relevant item.
    """
    names = tuple(METRICS.usable[0]) if names is None else names
    _check_request(ranking, relevant, cutoffs, names, n_candidates)
    pattern = nonzero_pattern(relevant)
    if graded and (pattern.data < 0).any():
        raise ConfigError(
            f"An item is worth {pattern.data.min():g} to its user; graded relevance needs values above 0. Leave "
            "the item out of what is relevant."
        )
    n_relevant, worth = _look_up(ranking, pattern, np.float32 if graded else np.bool_)
    evaluated = n_relevant > 0
    if not evaluated.any():
        raise EmptyDatasetError(
            f"None of the {len(evaluated)} ranked users has a relevant item, so there is nothing to average. "
            "Check that the relevant matrix is of the held-out side of this split."
        )
    worth = worth[evaluated]
    flags = worth > 0
    hits = Hits(flags, np.cumsum(flags, axis=1, dtype=np.int32), n_relevant[evaluated])
    if graded:
        ideal = _heaviest(sp.csr_array(pattern[ranking.users[evaluated]]), ranking.k)
        hits = replace(hits, gains=worth.astype(np.float64), ideal=ideal)
    per_user: dict[str, FloatArray] = {}
    for name in dict.fromkeys(names):
        per_user |= {f"{name}@{k}": values for k, values in _measured(name, hits, cutoffs).items()}
    return RankingMetrics(
        users=ranking.users[evaluated],
        per_user=per_user,
        coverage={f"coverage@{k}": _coverage(ranking.items[:, :k], relevant.shape[1], n_candidates) for k in cutoffs},
    )


def _measured(name: str, hits: Hits, cutoffs: Sequence[int]) -> dict[int, FloatArray]:
    """Return what a metric gives for each cutoff; that of another package is held to what a metric promises."""
    measure = METRICS[name]
    if not (package := METRICS.package_of(name)):
        return {k: values.astype(np.float32) for k, values in measure(hits, cutoffs).items()}
    try:
        found = measure(hits, cutoffs)
        values = {k: np.asarray(found[k], np.float32) for k in cutoffs}
    except Exception as error:  # whatever code of others does
        raise PluginError(f"The metric {name!r} of {package} failed ({type(error).__name__}: {error}).") from error
    for k, array in values.items():
        if array.shape != hits.n_relevant.shape or not np.isfinite(array).all():
            raise PluginError(
                f"The metric {name!r} of {package} gives an array {list(array.shape)} for the cutoff {k}; wanted are "
                f"{len(hits.n_relevant)} finite values, one a user."
            )
    return values


def _look_up(
    ranking: Ranking, relevant: sp.csr_array, dtype: type[np.generic]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[Any]]:
    """Return the number of relevant items ``[m]`` and what each listed item is worth, in such a type ``[m, K]``."""
    n_items = relevant.shape[1]
    n_relevant = np.diff(relevant.indptr)[ranking.users].astype(np.int64)
    worth = np.zeros(ranking.items.shape, dtype)
    size = max(1, _BLOCK_BYTES // max(1, n_items * worth.itemsize))
    for start in range(0, len(worth), size):
        block = slice(start, start + size)
        rows = relevant[ranking.users[block]]
        wanted = np.zeros(rows.shape, dtype)
        wanted.reshape(-1)[cell_positions(rows)] = rows.data.astype(dtype)
        worth[block] = np.take_along_axis(wanted, ranking.items[block], axis=1)
    worth[ranking.items < 0] = 0  # -1 pads a list; as an index it is the last item
    return n_relevant, worth


def _heaviest(relevant: sp.csr_array, k: int) -> Doubles:
    """Return the k highest values of each row, descending ``[e, k]``; 0 where there are fewer."""
    rows = np.repeat(np.arange(relevant.shape[0]), np.diff(relevant.indptr))
    order = np.lexsort((-relevant.data, rows))
    places = np.arange(len(rows)) - relevant.indptr[rows]
    found, kept = np.zeros((relevant.shape[0], k)), places < k
    found[rows[kept], places[kept]] = relevant.data[order][kept]
    return found


def _truncated_recall(hits: Hits, cutoffs: Sequence[int]) -> dict[int, Doubles]:
    return {k: hits.counts[:, k - 1] / hits.attainable(k) for k in cutoffs}


def _recall(hits: Hits, cutoffs: Sequence[int]) -> dict[int, Doubles]:
    return {k: hits.counts[:, k - 1] / hits.n_relevant for k in cutoffs}


def _precision(hits: Hits, cutoffs: Sequence[int]) -> dict[int, Doubles]:
    return {k: hits.counts[:, k - 1] / k for k in cutoffs}


def _ndcg(hits: Hits, cutoffs: Sequence[int]) -> dict[int, Doubles]:
    discounts = 1.0 / np.log2(np.arange(2, hits.flags.shape[1] + 2))
    if hits.gains is not None and hits.ideal is not None:
        found, best = (np.cumsum(gains * discounts, axis=1) for gains in (hits.gains, hits.ideal))
        return {k: found[:, k - 1] / best[:, k - 1] for k in cutoffs}
    gains = np.cumsum(hits.flags * discounts, axis=1)
    # Summed in the same order as the gains, so that a perfect list is worth exactly 1.
    ideal = np.cumsum(discounts)
    return {k: gains[:, k - 1] / ideal[hits.attainable(k) - 1] for k in cutoffs}


def _map(hits: Hits, cutoffs: Sequence[int]) -> dict[int, Doubles]:
    ranks = np.arange(1, hits.flags.shape[1] + 1)
    precisions = np.cumsum(hits.flags * (hits.counts / ranks), axis=1)
    return {k: precisions[:, k - 1] / hits.attainable(k) for k in cutoffs}


def _mrr(hits: Hits, cutoffs: Sequence[int]) -> dict[int, Doubles]:
    reciprocal = 1.0 / (hits.flags.argmax(axis=1) + 1)
    return {k: np.where(hits.counts[:, k - 1] > 0, reciprocal, 0.0) for k in cutoffs}


def _fault(name: str, found: object) -> str:
    """Return why something of another package cannot be the metric called `name`; nothing if it can."""
    if not name.isidentifier() or name in ("coverage", *RATING_METRICS):
        return "needs a name of letters, digits and '_' that is not that of another metric"
    return "" if callable(found) else "is no function of hits and cutoffs"


Measure: TypeAlias = Callable[[Hits, Sequence[int]], Mapping[int, Doubles]]
"""Values float64 ``[e]`` of every user for each cutoff, finite, the higher the better."""
METRICS: Plugins[Measure] = Plugins(
    "metric",
    {
        "hr": _truncated_recall,
        "ndcg": _ndcg,
        "recall": _recall,
        "precision": _precision,
        "map": _map,
        "mrr": _mrr,
    },
    _fault,
)
"""By name, with those that other packages add."""


def metric_names(cutoffs: Iterable[int], *, ratings: bool = False) -> list[str]:
    """Return every metric that is computed, the errors of predicted ratings too if a model predicts `ratings`."""
    ranking = [f"{name}@{k}" for name in (*METRICS.usable[0], "coverage") for k in cutoffs]
    return [*ranking, *(RATING_METRICS if ratings else ())]


def check_metric(where: str, metric: str, cutoffs: Iterable[int], *, ratings: bool = False) -> None:
    """Refuse a metric that is not computed, and one of another package that cannot be used.

    Parameters
    ----------
    where
        What names it, such as the field of a file.
    metric
        Its name, with the cutoff of one of lists.
    cutoffs
        Lengths of lists that are measured.
    ratings
        True if ratings are predicted, and their errors measured.

    Raises
    ------
    ConfigError
        With the nearest valid name, or what the metric needs.
    PluginError
        If the package of the metric has a fault.
    """
    known = metric_names(cutoffs, ratings=ratings)
    if metric in known:
        return
    if (name := metric.partition("@")[0]) in METRICS:
        METRICS[name]  # says itself what is wrong with it
    if metric in RATING_METRICS:
        raise ConfigError(
            f"{where} {metric!r} is not computed: it is of predicted ratings, and the model predicts none. Take a "
            f"model that does (mf, rating_knn, rating_svd), or choose by what is of lists: {choices(known)}."
        )
    raise ConfigError(f"{where} {metric!r} is not computed.{nearest(metric, known)} Computed: {choices(known)}.")


def _coverage(items: IntArray, n_items: int, n_candidates: int) -> float:
    shown = np.zeros(n_items + 1, bool)
    shown[items] = True
    n_shown = int(shown[:-1].sum())
    if n_shown > n_candidates:
        raise ConfigError(
            f"The lists hold {n_shown} different items, n_candidates is {n_candidates}; pass the number of items that "
            "were ranked."
        )
    return n_shown / n_candidates


def _check_request(
    ranking: Ranking, relevant: sp.csr_array, cutoffs: Sequence[int], names: Sequence[str], n_candidates: int
) -> None:
    if n_candidates < 1:
        raise ConfigError(f"n_candidates is {n_candidates}; pass the number of items that were ranked.")
    if len(cutoffs) == 0:
        raise ConfigError("There is no cutoff; pass at least one, such as cutoffs=(10,).")
    for k in cutoffs:
        if not 1 <= k <= ranking.k:
            raise ConfigError(
                f"Cutoff {k} is not possible: the lists have {ranking.k} places. Use cutoffs from 1 to {ranking.k}, or "
                f"rank with k={k}."
            )
    for name in names:
        if name not in METRICS:
            raise ConfigError(f"Unknown metric {name!r}.{nearest(name, METRICS)} Metrics: {choices(METRICS)}.")
    n_users, n_items = relevant.shape
    for axis, indices, lowest, size in (("user", ranking.users, 0, n_users), ("item", ranking.items, -1, n_items)):
        if indices.size and (indices.min() < lowest or indices.max() >= size):
            raise ConfigError(
                f"The ranking has {axis} indices from {indices.min()} to {indices.max()}; the relevant matrix has "
                f"{size} {axis}s. They must be of the same dataset."
            )
