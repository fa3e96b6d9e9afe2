"""Features of an item at a moment: how popular it was in the days before, how it was rated, since when it is there.

They belong to an item and a time together, so a model that reads moments makes them itself, of the items that it
scores: :attr:`~coldray.features.moments.ClickMoments.of_items` says which are asked for.

Notation used for shapes: I items, n known clicks, f features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from coldray.features.known_clicks import Floats, KnownClicks, PastRatings, Places

_DAY = 86_400.0
_WINDOWS = (7, 30, 365)
"""Days before a moment in which clicks are counted."""
_SHORT, _LONG = 30, 365
"""Days of the windows of a trend."""


@dataclass(frozen=True)
class _Asked:
    """Items at moments, all of one shape, and where their clicks are."""

    items: Places
    times: Floats
    """Seconds since 1970; the latest known one where the moment is unknown."""
    begin: Places
    """Of an item's clicks."""
    timed: Places
    """Where those of a known time before the moment end."""
    end: Places
    """Where those before the moment end: for an unknown one those of an unknown time are among them."""


class ItemMoments:
    """Features of items at moments, from the clicks before each.

    A click of the same second is not before a moment, one whose time is unknown is before no moment that has one, and
    a moment whose time is unknown is after all that is known. An item beyond the I known ones has no clicks.
    """

    def __init__(self, indptr: Places, times: Floats, ratings: Floats, words: Iterable[str]) -> None:
        self.words = tuple(words)
        """The words of a study that ask for them, in order."""
        self._indptr, self._times, self._ratings = indptr, times, ratings
        self._parts = {part: maker for word in self.words for part, maker in ITEM_WORDS[word].items()}

    @classmethod
    def of(cls, known: KnownClicks, n_items: int, words: Iterable[str]) -> ItemMoments:
        """Read known clicks of I items for the features that `words` name; KeyError if one is none of theirs."""
        order = np.lexsort((known.times, known.items))
        indptr = np.concatenate([[0], np.cumsum(np.bincount(known.items, minlength=n_items))])
        return cls(indptr.astype(np.intp), known.times[order], known.ratings[order], words)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the features, in order ``[f]``."""
        return tuple(self._parts)

    def values(self, items: npt.NDArray[np.integer[Any]], times: Floats) -> npt.NDArray[np.float32]:
        """Return features of items at moments.

        Parameters
        ----------
        items
            Indices ``[...]``.
        times
            Seconds since 1970 ``[...]``, NaN where unknown; of the same shape, or one that goes with it.

        Returns
        -------
        ndarray
            float32 ``[..., f]``, NaN where nothing is known.
        """
        asked = self._asked(*np.broadcast_arrays(items, times))
        made = [maker(self, asked) for maker in self._parts.values()]
        return np.stack(made, axis=-1).astype(np.float32) if made else np.zeros((*asked.times.shape, 0), np.float32)

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return arrays of numbers by name, for :meth:`from_state`."""
        words = np.frombuffer(" ".join(self.words).encode(), np.uint8)
        return {"indptr": self._indptr, "times": self._times, "ratings": self._ratings, "words": words}

    @classmethod
    def from_state(cls, state: Mapping[str, npt.NDArray[Any]]) -> ItemMoments:
        """Return what :meth:`state` is of."""
        words = state["words"].astype(np.uint8).tobytes().decode().split()
        return cls(state["indptr"], state["times"], state["ratings"], words)

    @cached_property
    def _seconds(self) -> Floats:
        """The known times, ascending, each once."""
        return np.unique(self._times[np.isfinite(self._times)])

    @cached_property
    def _keys(self) -> npt.NDArray[np.int64]:
        """One number a click, by item, and of an item by time, ascending ``[n]``."""
        of = np.repeat(np.arange(len(self._indptr) - 1), np.diff(self._indptr))
        place = np.searchsorted(self._seconds, self._times)  # NaN comes behind all
        return of * (len(self._seconds) + 2) + place

    @cached_property
    def _rated(self) -> PastRatings:
        return PastRatings.of(self._ratings)

    def _asked(self, items: npt.NDArray[np.integer[Any]], times: Floats) -> _Asked:
        n_items, unknown = len(self._indptr) - 1, np.isnan(times)
        known: Places = np.where((items < 0) | (items > n_items), n_items, items).astype(np.intp)
        latest = self._seconds[-1] if len(self._seconds) else np.nan
        place = np.searchsorted(self._seconds, times)  # of an unknown time behind all
        timed = self._at(known, place)
        end = np.where(unknown, self._at(known, place + 1), timed)
        return _Asked(known, np.where(unknown, latest, times), self._indptr[known], timed, end)

    def _at(self, items: Places, place: npt.NDArray[Any]) -> Places:
        found: Places = np.searchsorted(self._keys, items * (len(self._seconds) + 2) + place)
        return found

    def _clicks(self, asked: _Asked, days: int) -> Floats:
        """Return how many clicks there were in the days before, NaN where no time is known."""
        begin = self._at(asked.items, np.searchsorted(self._seconds, asked.times - days * _DAY))
        return np.where(np.isnan(asked.times), np.nan, asked.timed - begin)

    def _popularity(self, asked: _Asked, days: int) -> Floats:
        return np.log1p(self._clicks(asked, days))

    def _degree(self, asked: _Asked) -> Floats:
        return np.asarray(np.log1p(asked.end - asked.begin), np.float64)

    def _trend(self, asked: _Asked) -> Floats:
        short, long = self._clicks(asked, _SHORT), self._clicks(asked, _LONG)
        return np.where(long > 0, np.log1p(short) - np.log1p(long * _SHORT / _LONG), np.nan)

    def _rating_mean(self, asked: _Asked) -> Floats:
        return self._rated.mean(asked.begin, asked.end)

    def _rating_variance(self, asked: _Asked) -> Floats:
        return self._rated.variance(asked.begin, asked.end)

    def _recency(self, asked: _Asked) -> Floats:
        return self._since(asked, asked.timed - 1)

    def _age(self, asked: _Asked) -> Floats:
        return self._since(asked, asked.begin)

    def _since(self, asked: _Asked, click: Places) -> Floats:
        some = asked.timed > asked.begin
        since = np.full(some.shape, np.nan)
        since[some] = asked.times[some] - self._times[click[some]]
        return np.asarray(np.log1p(since), np.float64)


_Maker = Callable[[ItemMoments, _Asked], Floats]
ITEM_WORDS: dict[str, dict[str, _Maker]] = {
    "item_popularity": {f"item_popularity:{days}": partial(ItemMoments._popularity, days=days) for days in _WINDOWS},
    "item_trend": {"item_trend": ItemMoments._trend},
    "item_degree": {"item_degree": ItemMoments._degree},
    "item_rating_mean": {"item_rating_mean": ItemMoments._rating_mean},
    "item_rating_variance": {"item_rating_variance": ItemMoments._rating_variance},
    "item_recency": {"item_recency": ItemMoments._recency},
    "item_age": {"item_age": ItemMoments._age},
}
"""The words of `moment_features.attributes` that tell of items, and the numbers that each is made into."""
