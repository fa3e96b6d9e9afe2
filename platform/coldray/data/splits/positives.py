"""Which held-out interactions are to be found: a rule on their ratings, while all of them are known and learned from.

Leaving out low ratings by a filter (:mod:`~coldray.data.filters`) takes them from what is known of users, too, and
changes a published split. A rule of positives changes nothing but what lists are held against: a held-out interaction
that it does not take is still an item that competes for a place, and no hit.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
from pydantic import BaseModel, ConfigDict, field_validator

from coldray.core.errors import ConfigError, EmptyDatasetError, MissingFieldError
from coldray.data.dataset import Dataset, keep_entries, rows_of, without_pairs
from coldray.data.splits.items import Fold, Split
from coldray.data.splits.parts import BoolArray

_OPERATORS = {">=": operator.ge, "<=": operator.le, "==": operator.eq, ">": operator.gt, "<": operator.lt}
_RULE = re.compile(r"\s*(>=|<=|==|>|<)\s*([+-]?\d+(?:\.\d*)?)\s*")


class Positives(BaseModel):
    """What a held-out interaction must be to count as one to be found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rating: str
    """A comparison with the rating: ``">=4"``. Operators: ``>=``, ``>``, ``<=``, ``<`` and ``==``."""

    @field_validator("rating")
    @classmethod
    def _is_rule(cls, rule: str) -> str:
        if (parts := _RULE.fullmatch(rule)) is None:
            raise ConfigError(
                f"positives.rating: {rule!r} is no comparison with a number. Write one of {', '.join(_OPERATORS)} and "
                'a number, such as ">=4".'
            )
        return "".join(parts.groups())

    def check(self, dataset: Dataset, model: str, *, predicts_ratings: bool) -> None:
        """Find out whether a dataset has anything that is to be found, by a model of that name.

        Raises
        ------
        ConfigError
            If the model predicts ratings, each of which is one to be found.
        MissingFieldError
            If it has no ratings.
        EmptyDatasetError
            If none of them is as the rule says.
        """
        if predicts_ratings:
            raise ConfigError(
                f"positives: the model {model!r} predicts every held-out rating, whatever it is. Leave them out."
            )
        self.holding(dataset)

    def holding(self, dataset: Dataset) -> BoolArray:
        """Tell which interactions of a dataset are as the rule says, bool ``[n]``.

        Raises
        ------
        MissingFieldError, EmptyDatasetError
            As :meth:`check`.
        """
        ratings = _ratings(dataset)
        found = self._holds(ratings)
        if not found.any():
            raise EmptyDatasetError(
                f"positives.rating: no rating of dataset {dataset.name!r} is {self.rating}; they are from "
                f"{ratings.data.min():g} to {ratings.data.max():g}. Use another limit."
            )
        return found

    def check_splits(self, splits: Sequence[Split]) -> None:
        """Raise :class:`EmptyDatasetError` for a split with nothing to be found in its validation or its test."""
        for split in splits:
            for part, fold in (("validation", split.for_tuning().fold), ("test", split.test_fold)):
                if self.of(fold).nnz == 0:
                    raise EmptyDatasetError(
                        f"positives.rating: none of {fold.held_out.nnz:,} {part} interactions of {fold.name} is "
                        f"{self.rating}, so there is nothing to be found. Use another limit, or another split."
                    )

    def of(self, fold: Fold) -> sp.csr_array:
        """Return the held-out interactions of a fold that are to be found ``[U, I]``."""
        ratings = _ratings(fold.dataset)
        return without_pairs(fold.held_out, keep_entries(ratings, ~self._holds(ratings)))

    def counted(self, splits: Sequence[Split]) -> str:
        """Return what the rule leaves to be found in the tests of splits, in words."""
        n_held_out, n_found, n_users = 0, 0, 0
        for split in splits:
            fold = split.test_fold
            held_out, found = fold.held_out, self.of(fold)
            n_held_out, n_found = n_held_out + held_out.nnz, n_found + found.nnz
            n_users += len(np.setdiff1d(rows_of(held_out), rows_of(found)))
        users = f"{n_users:,} user{'s' * (n_users != 1)}" if n_users else "no user"
        return (
            f"rating {self.rating}: {n_found:,} of {n_held_out:,} test interactions are to be found, summed over "
            f"splits; {users} with test interactions, but none to be found, left out; every rating is known and learned"
        )

    def _holds(self, ratings: sp.csr_array) -> BoolArray:
        """Tell which of the ratings are as the rule says ``[n]``."""
        sign = next(sign for sign in _OPERATORS if self.rating.startswith(sign))
        found: BoolArray = _OPERATORS[sign](ratings.data, np.float32(self.rating.removeprefix(sign)))
        return found


def _ratings(dataset: Dataset) -> sp.csr_array:
    """Return the ratings of a dataset, or MissingFieldError."""
    if dataset.ratings is None:
        raise MissingFieldError(
            f"positives.rating: dataset {dataset.name!r} has no ratings. Leave positives out; of your own data, name "
            "the column with --rating-column."
        )
    return dataset.ratings
