"""What all models that predict ratings have in common: the scale of the ratings, and predictions of single pairs.

Such a model is fitted on ratings ``[U, I]`` and asked with histories of ratings. As a ranking score it gives the
predicted rating, not clipped. That makes a weak ranker: an item that few rated, all of them highly, comes before one
that many like, because a rating says nothing of how likely it is to be given (Cremonesi, Koren and Turrin, *Performance
of recommender algorithms on top-N recommendation tasks*, 2010). An item without a train rating is predicted by what is
known of its user alone.

Notation used for shapes: U users, I items, b rows of histories, n pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Generic, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.core.errors import DataError
from coldray.data.signals import Reads
from coldray.models.base import ConfigT, Items, Scores, TrainingSet
from coldray.models.state import ArrayModel

_BLOCK_CELLS = 1 << 22
"""Predicted ratings that are held at once at most."""


@dataclass(frozen=True)
class RatingScale:
    """Which ratings there are."""

    lowest: float
    highest: float
    liked: float
    """Mean of the ratings that are not below the mean of all: what stands for a click of unknown rating. Who is known
    to have chosen an item is taken to like it."""

    @classmethod
    def of(cls, train: TrainingSet) -> Self:
        """Return the scale of the train ratings.

        Raises
        ------
        DataError
            If there is no rating, or all are the same.
        """
        ratings = np.asarray(train.interactions.data, np.float64)
        if len(ratings) == 0:
            raise DataError("There is no rating to learn from. Filter less, or check the split.")
        lowest, highest = float(ratings.min()), float(ratings.max())
        if lowest == highest:
            raise DataError(
                f"All {len(ratings):,} ratings of {train.key} are {lowest:g}, so there is nothing to predict. Are they "
                "clicks? Of your own data, name the column of ratings with --rating-column."
            )
        return cls(lowest, highest, float(ratings[ratings >= ratings.mean()].mean()))

    def array(self) -> npt.NDArray[np.float64]:
        """Return the scale as float64 ``[3]``."""
        return np.array([self.lowest, self.highest, self.liked])


class RatingModel(ArrayModel[ConfigT], Generic[ConfigT]):
    """A model that predicts ratings; a subclass keeps its arrays, :meth:`RatingScale.array` as ``scale``, in `_state`.

    Its scores are predicted ratings.
    """

    predicts_ratings: ClassVar[bool] = True

    @property
    def reads(self) -> Reads:
        """Ratings."""
        return Reads(ratings=True)

    @property
    def scale(self) -> RatingScale:
        """The ratings there are."""
        self.check_fitted()
        return RatingScale(*self._state["scale"].tolist())

    @property
    def click_value(self) -> float:
        """What a click of unknown rating is taken for."""
        return self.scale.liked

    def predict_ratings(self, histories: sp.csr_array, rows: Items, items: Items) -> Scores:
        """Return the scores of the pairs, clipped to the scale."""
        scale = self.scale
        columns, places = np.unique(items, return_inverse=True)
        scorer = self.scorer(columns)
        predicted = np.zeros(len(items), np.float32)
        order = np.argsort(rows, kind="stable")
        users, starts = np.unique(rows[order], return_index=True)
        ends, height = np.append(starts, len(order)), max(1, _BLOCK_CELLS // max(1, len(columns)))
        for first in range(0, len(users), height):
            block = users[first : first + height]
            pairs = order[ends[first] : ends[first + len(block)]]
            scores = scorer(sp.csr_array(histories[block]))
            predicted[pairs] = scores[np.searchsorted(block, rows[pairs]), places[pairs]]
        return np.clip(predicted, np.float32(scale.lowest), np.float32(scale.highest))
