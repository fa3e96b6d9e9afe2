"""What stands in a matrix of clicks: a one, or what a model reads of a click besides that there was one.

That is what the click is worth, its rating or the weight of its event, or its place among those of its user, or both.
Both are one complex64 number, the worth its real part and the place its imaginary part, so that what parts, slices and
stores clicks need not know of it. Where code says rating of a click, the weight stands for it if that is read.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.core.errors import ConfigError, MissingFieldError
from coldray.data.dataset import Dataset, rows_of

Floats: TypeAlias = npt.NDArray[np.floating[Any]]
Values: TypeAlias = npt.NDArray[np.float32] | npt.NDArray[np.complex64]


@dataclass(frozen=True)
class Reads:
    """What a model reads of a click besides that there was one."""

    ratings: bool = False
    """The rating that came with it."""
    order: bool = False
    """Its place among the clicks of its user, 1 the first. Places ascend with time; some may be missing, and clicks of
    the same place count as clicked in the order of the items."""

    events: bool = False
    """The weight of its strongest event. Nothing reads ratings too: they stand in one place."""
    moments: bool = False
    """When and in which context it was, as its row among the moments of a training set, 1 the first: see
    :class:`~coldray.data.moments.Moments`. Nothing else is read then, as that is found by the row."""

    def __post_init__(self) -> None:
        if self.ratings and self.events:
            raise ConfigError("A model reads ratings of clicks, or weights of their events, not both.")
        if self.moments and (self.ratings or self.events or self.order):
            raise ConfigError("A model reads moments of clicks, or their ratings, events or order, not both.")

    def __or__(self, other: Reads) -> Reads:
        """Return what either reads."""
        return Reads(*(a or b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def __bool__(self) -> bool:
        """Tell whether there is more to read than ones."""
        return self.worth or self.order or self.moments

    @property
    def worth(self) -> bool:
        """Whether it is read what a click is worth: its rating, or the weight of its event."""
        return self.ratings or self.events

    def values(self, ratings: Floats, places: Floats) -> Values:
        """Return what stands for clicks of these ratings, or weights, and places: what is read, ones if nothing is."""
        rated, placed = ratings.astype(np.float32), places.astype(np.float32)
        if self.worth and self.order:
            both = np.empty(len(rated), np.complex64)
            both.real, both.imag = rated, placed
            return both
        return rated if self.worth else placed if self.order else np.ones(len(rated), np.float32)

    def of(self, dataset: Dataset) -> Dataset:
        """Return the dataset with what is read in place of clicks.

        Raises
        ------
        MissingFieldError
            If it has no ratings, no events or no timestamps, and they are read.
        ConfigError
            If there are more interactions than moments can be told apart.
        """
        if not self:
            return dataset
        if self.moments:
            return _numbered(dataset)
        rated = dataset.interactions
        if self.worth:
            rated = _worth(dataset, "ratings" if self.ratings else "events")
        placed = _with_order(dataset).interactions if self.order else dataset.interactions
        values = self.values(rated.data, placed.data)
        return replace(dataset, interactions=sp.csr_array((values, rated.indices, rated.indptr), shape=rated.shape))


def ratings_in(values: npt.NDArray[Any]) -> Floats:
    """Return the ratings in values of one who reads them."""
    return values.real


def places_in(values: npt.NDArray[Any]) -> Floats:
    """Return the places in values of one who reads them."""
    return values.imag if np.iscomplexobj(values) else values


_LACKING = {
    "ratings": "no ratings. Use a model of clicks; of your own data, name the column with --rating-column.",
    "events": "no kinds of events. Let the model read clicks alone; of your own data, name the column with "
    "--event-column and what each kind is worth with --event-weights.",
}
"""What a dataset has not, and the way out."""


_MOST_MOMENTS = 1 << 24
"""Whole numbers that float32 tells apart."""


def numbered(clicks: sp.csr_array) -> sp.csr_array:
    """Return clicks with their place among all that are stored, 1 the first, in place of ones.

    Raises
    ------
    ConfigError
        If there are more than float32 can number.
    """
    if clicks.nnz > _MOST_MOMENTS:
        raise ConfigError(
            f"A model that reads the moments of clicks takes {_MOST_MOMENTS:,} of them at most, and there are "
            f"{clicks.nnz:,}. Use fewer users or items through the filters."
        )
    return sp.csr_array((np.arange(1, clicks.nnz + 1, dtype=np.float32), clicks.indices, clicks.indptr), clicks.shape)


def _numbered(dataset: Dataset) -> Dataset:
    return replace(dataset, interactions=numbered(dataset.interactions))


def _worth(dataset: Dataset, field: Literal["ratings", "events"]) -> sp.csr_array:
    """Return what clicks are worth ``[U, I]``, or MissingFieldError."""
    if (matrix := dataset.of_pairs.get(field)) is None:
        raise MissingFieldError(f"Dataset {dataset.name!r} has {_LACKING[field]}")
    return matrix


def _with_order(dataset: Dataset) -> Dataset:
    """Return the dataset with places in place of clicks, for models that read their order.

    The first click of a user has place 1, their last one as many as they have clicks. Of clicks at the same time, that
    on the item of the lower index comes first.

    Raises
    ------
    MissingFieldError
        If it has no timestamps.
    """
    if dataset.timestamps is None:
        raise MissingFieldError(
            f"Dataset {dataset.name!r} has no timestamps, so nobody knows what came after what. Use a model that reads "
            "no order; of your own data, name the column with --timestamp-column."
        )
    clicks, times = dataset.interactions, dataset.timestamps.data
    order = np.lexsort((clicks.indices, times, rows_of(clicks)))
    places = np.empty(clicks.nnz, np.float32)
    places[order] = np.arange(clicks.nnz) - np.repeat(clicks.indptr[:-1], np.diff(clicks.indptr)) + 1
    return replace(dataset, interactions=sp.csr_array((places, clicks.indices, clicks.indptr), shape=clicks.shape))
