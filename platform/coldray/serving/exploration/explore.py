"""Exploration: lists in which items are tried out, chosen among the best by the model, and fed by feedback.

What is learned is a function of the log of events and of the model that is served. A replica that starts, or takes up
another version, has it as soon as it has read the log; there is nothing else to keep, and nothing to be merged.

There are two ways to try out items that may be better than is known, LinUCB and Thompson sampling. Both learn from
sums (:mod:`~coldray.serving.exploration.outcomes`), so that what they know does not depend on the order in which they
heard of it.

Notation used for shapes: I items, p items of a pool, m items with outcomes, c numbers of a context, f of an item, n =
f + c.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Annotated, Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt
from scipy.linalg import cho_solve, cholesky, solve_triangular

from coldray.bundle.item_space import item_vectors
from coldray.features.feature_set import FeatureSet, ScalarFeature
from coldray.models.base import Items, Recommender, Scores
from coldray.serving.engine.queries import ExplorationMethod, ItemId
from coldray.serving.exploration.outcomes import (
    CONTEXT,
    SCORE,
    contexts,
    known_part,
    on_grid,
    relative_scores,
    written_context,
)

_Array = npt.NDArray[np.float64]
_Vectors = npt.NDArray[np.float32]
_Places = npt.NDArray[np.integer[Any]]
_DIMENSIONS = 32
"""Of the vectors of items; a multiple of 8."""
_LEAST_STANDING = 0.1
"""Part of the prior clicks of the best item of a pool that the last one has."""


@dataclass(frozen=True, eq=False)
class _Pool:
    """The items among which a list is chosen."""

    items: _Places
    """Their indices ``[p]``, best score first."""
    scores: npt.NDArray[np.float32]
    """What the model gives them ``[p]``."""
    contexts: _Array
    """What is known of the request and of each item's score in it ``[p, c]``."""
    draw: int
    """The number of the random draw."""


class _Bandit(Protocol):
    """Learns from what became of items what they are worth to be shown."""

    def add(self, items: _Places, sums: _Array) -> None:
        """Take in what became of m items, given by their indices: ``Σ y yᵀ`` of each, ``[m, c + 1, c + 1]``."""

    def settle(self) -> None:
        """Make what was added count."""

    def values(self, pool: _Pool) -> _Array:
        """Return what each item of a pool is worth to be shown ``[p]``."""


class _LinUCB:
    """Clicks as a linear function of item and context, and the upper bound of what they may be.

    The hybrid model of Li et al. (2010, algorithm 2): ``r = βᵀx + γᵢ``, with one β for all items, of which
    ``x = [item, context]``, and a constant of each item's own, so that those that are alike in all that is known of
    them are told apart by what becomes of them. A ridge λ holds β to β₀, which is 1 for the score and 0 elsewhere, and
    a ridge κ holds γ to 0: before any feedback the order is the model's, but for what the bound adds.

    With ``aᵢ = 1 / (nᵢ + κ)``, nᵢ outcomes of the item, and the sums ``x̄ᵢ = aᵢ Σ x`` and ``r̄ᵢ = aᵢ Σ r`` over these::

        A = λI + Σ x xᵀ − Σᵢ x̄ᵢ x̄ᵢᵀ / aᵢ,   b = λβ₀ + Σ r x − Σᵢ r̄ᵢ x̄ᵢ / aᵢ,   β = A⁻¹ b

    and the item is worth ``βᵀ(x − x̄ᵢ) + r̄ᵢ + α √((x − x̄ᵢ)ᵀ A⁻¹ (x − x̄ᵢ) + aᵢ)``.
    """

    def __init__(self, vectors: _Vectors, *, alpha: float, ridge: float, own_ridge: float) -> None:
        """Begin without outcomes; `vectors` describe the items ``[I, f]``."""
        self._vectors, self._alpha, self._ridge, self._own_ridge = vectors, alpha, ridge, own_ridge
        size = vectors.shape[1] + CONTEXT
        self.sums = np.zeros((len(vectors), CONTEXT + 1, CONTEXT + 1))
        """``Σ y yᵀ`` of each item ``[I, c + 1, c + 1]``."""
        self.gram = np.zeros((size, size))
        """``Σ x xᵀ`` ``[n, n]``, exact as the sums are."""
        self.moment = np.zeros(size)
        """``Σ r x`` ``[n]``."""
        self.settle()

    def add(self, items: _Places, sums: _Array) -> None:
        """Take in what became of m items."""
        x, f = self._vectors[items].astype(np.float64), self._vectors.shape[1]
        shown, clicked = sums[:, 0, :CONTEXT], sums[:, :CONTEXT, CONTEXT]  # the first number of a context is 1
        across = x.T @ shown
        self.gram[:f, :f] += x.T @ (shown[:, :1] * x)
        self.gram[:f, f:] += across
        self.gram[f:, :f] += across.T
        self.gram[f:, f:] += sums[:, :CONTEXT, :CONTEXT].sum(axis=0)
        self.moment[:f] += x.T @ clicked[:, 0]
        self.moment[f:] += clicked.sum(axis=0)
        self.sums[items] += sums

    def settle(self) -> None:
        """Solve for β, and for what the bounds take."""
        size = len(self.moment)
        means, clicks, shares = self._means(np.flatnonzero(self.sums[:, 0, 0]))
        A = self.gram + self._ridge * np.eye(size) - means.T @ (means / shares[:, None])
        b = self.moment - means.T @ (clicks / shares)
        b[self._vectors.shape[1] + SCORE] += self._ridge
        factor = cholesky(A, lower=True)
        # Both at once: lists are made meanwhile.
        self._solved = cho_solve((factor, True), b), solve_triangular(factor, np.eye(size), lower=True)

    def _means(self, items: _Places) -> tuple[_Array, _Array, _Array]:
        """Return x̄ ``[m, n]``, r̄ ``[m]`` and a ``[m]`` of some items."""
        sums = self.sums[items]
        shares = 1 / (sums[:, 0, 0] + self._own_ridge)
        x = np.concatenate([sums[:, :1, 0] * self._vectors[items], sums[:, 0, :CONTEXT]], axis=1)
        return shares[:, None] * x, shares * sums[:, 0, CONTEXT], shares

    def values(self, pool: _Pool) -> _Array:
        """Return the upper bounds ``[p]``."""
        beta, root = self._solved
        means, clicks, shares = self._means(pool.items)
        x = np.concatenate([self._vectors[pool.items], pool.contexts], axis=1) - means
        bounds: _Array = x @ beta + clicks + self._alpha * np.sqrt(((x @ root.T) ** 2).sum(axis=1) + shares)
        return bounds


class _BetaThompson:
    """Draws from what the share of clicks of each item may be (Thompson, 1933; Chapelle and Li, 2011).

    The share of an item is ``Beta(a s + clicks, a + b − a s + misses)``: the prior holds a + b outcomes, of which the
    item that the model puts first in the pool has a as clicks (s = 1), and one that it puts lower fewer.
    """

    def __init__(self, n_items: int, *, prior: tuple[float, float], seed: int) -> None:
        """Begin without outcomes."""
        self._prior, self._seed = prior, seed
        self.clicks, self.misses = np.zeros(n_items), np.zeros(n_items)
        """Of each item ``[I]``."""

    def add(self, items: _Places, sums: _Array) -> None:
        """Take in what became of m items."""
        shown, clicked = sums[:, 0, 0], sums[:, 0, CONTEXT]
        np.add.at(self.clicks, items, clicked)
        np.add.at(self.misses, items, shown - clicked)

    def settle(self) -> None:
        """Do nothing: counts are all there is."""

    def values(self, pool: _Pool) -> _Array:
        """Draw a share of clicks for each item ``[p]``; the same one for the same pool, number and seed."""
        scores = pool.scores.astype(np.float64)
        spread = scores.max() - scores.min()
        standing = (scores - scores.min()) / spread if spread > 0 else np.ones(len(scores))
        a, b = self._prior
        clicks = a * (_LEAST_STANDING + (1 - _LEAST_STANDING) * standing)
        generator = np.random.default_rng([self._seed, pool.draw])
        drawn: _Array = generator.beta(clicks + self.clicks[pool.items], a + b - clicks + self.misses[pool.items])
        return drawn


Outcome: TypeAlias = Annotated[float, Field(ge=0.01, le=1e6)]
"""A number of clicks or misses, which may be broken."""


class ExplorationConfig(BaseModel):
    """Whether lists are explored, and how."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["none"] | ExplorationMethod = "none"
    """``linucb`` learns from attributes, so that what becomes of an item tells of all that are like it; ``thompson``
    counts for each item alone, for everybody."""
    alpha: Annotated[float, Field(ge=0, le=100)] = 0.3
    """α of LinUCB, how much uncertainty is worth: 0 shows what is best by what is known."""
    ridge: Annotated[float, Field(ge=1e-3, le=1e6)] = 1.0
    """λ of LinUCB: how far what is learned of attributes is held back."""
    own_ridge: Annotated[float, Field(ge=1e-3, le=1e6)] = 10.0
    """κ of LinUCB: the number of outcomes of an item that count as much as what is known of others like it."""
    prior: tuple[Outcome, Outcome] = (3.0, 27.0)
    """Of Thompson sampling: clicks and misses of the item that the model puts first, before there were any. The more,
    the longer the model is believed, and the less is tried out."""
    seed: NonNegativeInt = 0
    """Of the draws of Thompson sampling; the n-th list of a replica has the n-th draw."""


@runtime_checkable
class _Uncertain(Protocol):
    """A model that knows how little it knows of an item."""

    def variance(self, items: Items) -> npt.NDArray[np.float32]:
        """Return the variance of each item's prediction ``[n]``."""


class Explorer:
    """Says what items are worth to be shown, for one catalogue."""

    def __init__(
        self,
        config: ExplorationConfig,
        vectors: npt.NDArray[np.float32],
        uncertainty: Callable[[], npt.NDArray[np.float32]],
        find: Callable[[ItemId], int | None],
        draws: Iterator[int],
    ) -> None:
        """Begin without outcomes.

        Parameters
        ----------
        config
            With a method.
        vectors
            What is known of all items ``[I, d]``, of :class:`ItemProjection`.
        uncertainty
            Returns that of all items ``[I]``: :func:`uncertainty_of`. It may cost as much as a fit, so that only a
            method that reads it asks for it.
        find
            Returns the index of an item, or None if there is no such item.
        draws
            Numbers of the draws.
        """
        if config.method == "none":
            raise ValueError("There is no explorer of the method 'none'.")
        self.method: ExplorationMethod = config.method
        self.bandit: _Bandit
        if config.method == "linucb":
            described = np.concatenate([vectors, uncertainty()[:, None]], axis=1)
            self.bandit = _LinUCB(described, alpha=config.alpha, ridge=config.ridge, own_ridge=config.own_ridge)
        else:
            self.bandit = _BetaThompson(len(vectors), prior=config.prior, seed=config.seed)
        self._find, self._draws = find, draws

    def learn(self, outcomes: Mapping[ItemId, npt.NDArray[np.float64]]) -> None:
        """Take in sums of outcomes by item; items that are not in this catalogue are left out."""
        found = {place: sums for item, sums in outcomes.items() if (place := self._find(item)) is not None}
        if found:
            self.bandit.add(np.fromiter(found, np.intp), np.stack(list(found.values())))
            self.bandit.settle()

    def values(
        self, items: Items, scores: Scores, open_: npt.NDArray[np.bool_], n_history: int, draw: int | None
    ) -> npt.NDArray[np.float64]:
        """Return what the items of a pool are worth to be shown ``[p]``.

        Parameters
        ----------
        items
            The pool, as indices ``[p]``.
        scores
            Of all items ``[I]``.
        open_
            The items that the user could be shown, were there no filters ``[I]``.
        n_history
            Items of the user's history.
        draw
            The number of the draw; the next one if None.
        """
        pool = _Pool(
            items,
            scores[items],
            contexts(relative_scores(scores, open_, items), known_part(n_history)),
            next(self._draws) if draw is None else draw,
        )
        return self.bandit.values(pool)


def context_of(item: int, scores: Scores, open_: npt.NDArray[np.bool_], n_history: int) -> dict[str, float]:
    """Return what is kept of the context in which an item was shown, to learn from its outcome."""
    (relative,) = relative_scores(scores, open_, np.array([item])).tolist()
    return written_context(relative, known_part(n_history))


def uncertainty_of(model: Recommender[Any], warm: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """Return how little the model knows of each item, from 0 to 1, float32 ``[I]``.

    By the variance if the model has one, ½ being the mean of the items with clicks; otherwise 1 for an item that nobody
    had clicked when the model was fitted and 0 for the others.
    """
    if not isinstance(model, _Uncertain):
        return np.where(warm, np.float32(0), np.float32(1))
    variance = model.variance(np.arange(len(warm))).astype(np.float64)
    usual = variance[warm].mean() if warm.any() else 0.0
    total = variance + usual
    return on_grid(np.divide(variance, total, out=np.full(len(warm), 0.5), where=total > 0)).astype(np.float32)


class ItemProjection:
    """Short vectors of the items of a catalogue and of those that come to it, which new items and models do not change.

    Each label or word has signs of its own, drawn by a hash of the attribute and the term (Achlioptas,
    *Database-friendly random projections*, 2003), and an item is the sum of those it has. So cosines stay about what
    they were, and an item has one vector in whatever catalogue it is. Shapes: D terms of all attributes, d dimensions.
    """

    def __init__(self, features: FeatureSet) -> None:
        """Project the items there are, which stay as they are; those that come after them may change."""
        self._signs = _signs(features)
        self._known = self._projected(features, np.arange(features.n_items))

    def vectors(self, features: FeatureSet) -> npt.NDArray[np.float32]:
        """Return the vectors of the known items and of all that `features` has after them, float32 ``[I, d]``.

        Their length is 1, but for rounding to multiples of 2⁻¹⁰; it is 0 where nothing is known.
        """
        later = np.arange(len(self._known), features.n_items)
        return np.concatenate([self._known, self._projected(features, later)])

    def _projected(self, features: FeatureSet, items: npt.NDArray[np.intp]) -> npt.NDArray[np.float32]:
        projected = np.asarray(item_vectors(features, items) @ self._signs)
        lengths = np.linalg.norm(projected, axis=1, keepdims=True)
        return on_grid(projected / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def _signs(features: FeatureSet) -> npt.NDArray[np.float32]:
    """Return −1 or 1 for each term and dimension, float32 ``[D, d]``."""
    terms = [
        f"{name}\0{term}"
        for name, feature in features.features.items()
        if not isinstance(feature, ScalarFeature)
        for term in feature.terms
    ]
    if not terms:
        return np.zeros((1, _DIMENSIONS), np.float32)
    digests = [blake2b(term.encode("utf-8", "surrogatepass"), digest_size=_DIMENSIONS // 8).digest() for term in terms]
    bits = np.unpackbits(np.frombuffer(b"".join(digests), np.uint8)).reshape(len(terms), _DIMENSIONS)
    return np.asarray(2 * bits.astype(np.float32) - 1)
