"""Exploration: lists in which items are tried out, chosen among the best by the model, and fed by feedback.

What is learned is a function of the log of events and of the model that is served. A replica that starts, or takes up
another version, has it as soon as it has read the log; there is nothing else to keep, and nothing to be merged.

Notation used for shapes: I items, p items of a pool.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt

from coldray.models.base import Items, Recommender, Scores
from coldray.serving.engine.queries import ExplorationMethod, ItemId
from coldray.serving.exploration.bandits import Bandit, BetaThompson, LinUCB, Pool
from coldray.serving.exploration.outcomes import contexts, known_part, on_grid, relative_scores, written_context

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
class Uncertain(Protocol):
    """A model that knows how little it knows of an item."""

    def variance(self, items: Items) -> npt.NDArray[np.float32]:
        """Return the variance of each item's prediction ``[n]``."""


class Explorer:
    """Says what items are worth to be shown, for one catalogue."""

    def __init__(
        self,
        config: ExplorationConfig,
        vectors: npt.NDArray[np.float32],
        uncertainty: npt.NDArray[np.float32],
        find: Callable[[ItemId], int | None],
        draws: Iterator[int],
    ) -> None:
        """Begin without outcomes.

        Parameters
        ----------
        config
            With a method.
        vectors
            What is known of all items ``[I, d]``, of :class:`~coldray.serving.vectors.item_projection.ItemProjection`.
        uncertainty
            Of all items ``[I]``: :func:`uncertainty_of`.
        find
            Returns the index of an item, or None if there is no such item.
        draws
            Numbers of the draws.
        """
        if config.method == "none":
            raise ValueError("There is no explorer of the method 'none'.")
        self.method: ExplorationMethod = config.method
        self.bandit: Bandit
        if config.method == "linucb":
            described = np.concatenate([vectors, uncertainty[:, None]], axis=1)
            self.bandit = LinUCB(described, alpha=config.alpha, ridge=config.ridge, own_ridge=config.own_ridge)
        else:
            self.bandit = BetaThompson(len(vectors), prior=config.prior, seed=config.seed)
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
        pool = Pool(
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
    if not isinstance(model, Uncertain):
        return np.where(warm, np.float32(0), np.float32(1))
    variance = model.variance(np.arange(len(warm))).astype(np.float64)
    usual = variance[warm].mean() if warm.any() else 0.0
    total = variance + usual
    return on_grid(np.divide(variance, total, out=np.full(len(warm), 0.5), where=total > 0)).astype(np.float32)
