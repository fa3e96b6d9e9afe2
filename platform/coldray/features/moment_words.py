"""Words for what is known of who asks at a moment: the time, and the clicks that they had made earlier.

Notation used for shapes: m moments, n known clicks, d labels.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.core.memory import require_memory
from coldray.data.dataset import Dataset, LabelAttribute
from coldray.data.moments import Moments
from coldray.features.feature_set import VectorFeature
from coldray.features.known_clicks import Floats, KnownClicks, PastRatings, Places, RunningMeans

logger = logging.getLogger(__name__)

TASTE = "taste"
"""The word for shares of labels among earlier clicks: a vector, where all others are numbers."""
_DAY = 86_400.0
_YEAR = 365.2425 * _DAY
"""The mean of a Gregorian year: day 0 is within two of 1 January from 1970 to 2100."""
_MOST_LABELS = 64


@dataclass(frozen=True, eq=False)
class Past:
    """What was known before each of m moments."""

    moments: Moments
    known: KnownClicks

    @property
    def times(self) -> Floats:
        """Seconds since 1970 of the moments ``[m]``, NaN where unknown."""
        return self.moments.times

    @cached_property
    def bounds(self) -> tuple[Places, Places]:
        """Where in :attr:`KnownClicks.by_user` a user's clicks begin, and those before the moment end ``[m]``."""
        return self.known.earlier(self.moments)

    @property
    def counts(self) -> Places:
        """How many clicks of the user were before ``[m]``."""
        begin, end = self.bounds
        return end - begin

    @cached_property
    def ratings(self) -> PastRatings:
        """Of clicks by user and time."""
        return PastRatings.of(self.known.ratings[self.known.by_user])

    @cached_property
    def clicked(self) -> Floats:
        """Times of clicks by user and time ``[n]``, NaN where unknown."""
        times = self.known.times[self.known.by_user]
        return np.where(np.isfinite(times), times, np.nan)

    def mean(self, values: npt.NDArray[Any]) -> Floats:
        """Return means of `values` of clicks by user and time ``[n]`` over those before, NaN where there are none."""
        return RunningMeans.of(values).mean(*self.bounds)

    def since(self, click: Places) -> Floats:
        """Return the log of the seconds since clicks of the users ``[m]``, NaN where one has none before."""
        some = self.counts > 0
        since = np.full(len(some), np.nan)
        since[some] = self.times[some] - self.clicked[click[some]]
        return np.asarray(np.log1p(since), np.float64)


Maker = Callable[[Past], Floats]
_Wave = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]


def _on_circle(word: str, share: Callable[[Floats], Floats]) -> dict[str, Maker]:
    """Return the makers of the two coordinates of a time that comes back, told as a share of its round."""

    def part(wave: _Wave) -> Maker:
        return lambda past: np.asarray(wave(2 * np.pi * share(past.times)), np.float64)

    return {f"{word}:sin": part(np.sin), f"{word}:cos": part(np.cos)}


def _rhythm(wave: _Wave) -> Maker:
    return lambda past: past.mean(wave(2 * np.pi * (past.clicked % _DAY) / _DAY))


WORDS: dict[str, dict[str, Maker]] = {
    "hour": _on_circle("hour", lambda times: times % _DAY / _DAY),
    "weekday": _on_circle("weekday", lambda times: times // _DAY % 7 / 7),
    "season": _on_circle("season", lambda times: times % _YEAR / _YEAR),
    "activity": {"activity": lambda past: np.log1p(past.counts)},
    "gap": {"gap": lambda past: past.since(past.bounds[1] - 1)},
    "tenure": {"tenure": lambda past: past.since(past.bounds[0])},
    "rhythm": {"rhythm:sin": _rhythm(np.sin), "rhythm:cos": _rhythm(np.cos)},
    "rating_mean": {"rating_mean": lambda past: past.ratings.mean(*past.bounds)},
    "rating_spread": {"rating_spread": lambda past: np.sqrt(past.ratings.variance(*past.bounds))},
}
"""The words of `moment_features.attributes` that are numbers, and those that each is made into."""


def default_labels(dataset: Dataset) -> dict[str, LabelAttribute]:
    """Return the default attributes of items that are labels."""
    named = ((name, dataset.attributes[name]) for name in dataset.default_attributes)
    return {name: one for name, one in named if isinstance(one, LabelAttribute)}


@dataclass(frozen=True, eq=False)
class Taste:
    """Labels of items, by whose shares among earlier clicks a taste is told."""

    matrix: sp.csc_array
    """float32 zeros and ones ``[I, d]``."""
    terms: tuple[str, ...]
    """Names of the labels, after their attributes'."""

    @classmethod
    def of(cls, dataset: Dataset, known: KnownClicks) -> Taste:
        """Return the labels of a dataset's default attributes, the most clicked ones."""
        labels = default_labels(dataset)
        matrix = sp.csc_array(sp.hstack([one.matrix for one in labels.values()], format="csc"), dtype=np.float32)
        matrix.eliminate_zeros()
        terms = [f"{name}: {label}" for name, one in labels.items() for label in one.labels]
        clicked = np.bincount(known.items, minlength=dataset.n_items) @ matrix
        most = np.sort(np.argsort(-clicked, kind="stable")[: min(_MOST_LABELS, np.count_nonzero(clicked))])
        if len(most) < np.count_nonzero(clicked):
            logger.warning(
                "Tastes are shares of the %d most clicked labels of %d. Fewer default attributes leave fewer out.",
                len(most),
                np.count_nonzero(clicked),
            )
        return cls(sp.csc_array(matrix[:, most]), tuple(terms[column] for column in most))

    def shares(self, past: Past) -> VectorFeature:
        """Return the share of earlier clicks whose items have each label ``[m, d]``; a row of none where none was.

        Raises
        ------
        CatalogTooLargeError
            If the shares do not fit in memory.
        """
        shape = (len(past.times), len(self.terms))
        require_memory(
            16 * shape[0] * max(shape[1], 1),
            purpose=f"tastes by {shape[1]:,} labels at {shape[0]:,} moments",
            way_out=f"Leave {TASTE!r} out of moment_features.",
        )
        items = past.known.items[past.known.by_user]
        made = np.zeros(shape, np.float32)
        for column in range(shape[1]):
            of_items = np.append(self.matrix[:, [column]].toarray().ravel(), np.nan)  # labels of later items: unknown
            made[:, column] = np.nan_to_num(past.mean(of_items[np.minimum(items, self.matrix.shape[0])]))
        return VectorFeature(sp.csr_array(made), self.terms)

    def state(self) -> dict[str, Any]:
        """Return what :meth:`from_state` needs: arrays and JSON values."""
        matrix = self.matrix
        return {
            "indices": matrix.indices,
            "indptr": matrix.indptr,
            "items": int(matrix.shape[0]),
            "terms": list(self.terms),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Taste:
        """Restore it."""
        indices, terms = state["indices"], tuple(state["terms"])
        parts = (np.ones(len(indices), np.float32), indices, state["indptr"])
        return cls(sp.csc_array(parts, shape=(int(state["items"]), len(terms))), terms)
