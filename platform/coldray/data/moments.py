"""When somebody clicked, or asks, and in which context: hour and weekday, a device, a page.

Context is what is known *before* a click: a row of a table an interaction, whose columns are attributes as those of
items and users are. Of several events of a pair the context is that of the latest, as its time is.

Notation used for shapes: m moments, U users, I items, r rows of a table of contexts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.data.attributes import Attribute, LabelAttribute, NumberAttribute, TextAttribute, VectorAttribute
from coldray.data.dataset import Dataset, rows_of


@dataclass(frozen=True, eq=False)
class Moments:
    """When users click, or ask, and in which context: a row each."""

    users: npt.NDArray[np.intp]
    """Index of the user ``[m]``."""
    times: npt.NDArray[np.float64]
    """Seconds since 1970 in UTC ``[m]``, NaN where nobody knows."""
    context: Mapping[str, Attribute]
    """What is known beside the time, by name: each describes m moments."""

    @classmethod
    def of(cls, dataset: Dataset) -> Moments:
        """Return the moments of all interactions, in the order in which these are stored."""
        clicks, times = dataset.interactions, dataset.timestamps
        known = np.full(clicks.nnz, np.nan) if times is None else times.data.astype(np.float64)
        return cls(rows_of(clicks), known, contexts_of(dataset))

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.users)

    def and_unknown(self) -> Moments:
        """Return the moments with one more, of which nothing is known."""
        context = {name: _and_unknown(attribute) for name, attribute in self.context.items()}
        return Moments(np.append(self.users, -1), np.append(self.times, np.nan), context)

    def take(self, rows: npt.NDArray[np.integer[Any]]) -> Moments:
        """Return some of them."""
        return Moments(self.users[rows], self.times[rows], {name: one.take(rows) for name, one in self.context.items()})


def contexts_of(dataset: Dataset) -> dict[str, Attribute]:
    """Return in which context each interaction was, by name, in the order in which these are stored."""
    rows = dataset.context_rows
    return {} if rows is None else {name: one.take(rows.data) for name, one in dataset.context.items()}


def _and_unknown(attribute: Attribute) -> Attribute:
    if isinstance(attribute, LabelAttribute):
        none = sp.csr_array((1, attribute.matrix.shape[1]), dtype=attribute.matrix.dtype)
        return LabelAttribute(sp.csr_array(sp.vstack([attribute.matrix, none], format="csr")), attribute.labels)
    if isinstance(attribute, NumberAttribute):
        return NumberAttribute(np.append(attribute.values, np.nan))
    if isinstance(attribute, VectorAttribute):
        return attribute.followed_by(VectorAttribute(np.full((1, attribute.dim), np.nan, np.float32)))
    return TextAttribute((*attribute.texts, ""))


def first_rows(clicks: sp.csr_array, times: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """Return the row of the earliest click of each user, of those at the same time the first ``[U]``; -1 for none.

    Parameters
    ----------
    clicks
        Clicks ``[U, I]``, whose values are rows of `times`, 1 the first.
    times
        Seconds since 1970, NaN where unknown: such a click is the earliest only where no other is.
    """
    rows, users = clicks.data.astype(np.intp) - 1, rows_of(clicks)
    order = np.lexsort((rows, times[rows], users))[::-1]  # NaN sorts last, and so is written first
    first = np.full(clicks.shape[0], -1, np.intp)
    first[users[order]] = rows[order]
    return first


def asked_moments(moments: Moments, held_out: sp.csr_array) -> Moments:
    """Return when each user asks for the list that held-out clicks are held against: at the earliest of these.

    Of clicks at the same time it is the first stored. The time and the context of a user without held-out clicks are
    unknown.

    Parameters
    ----------
    moments
        Of all interactions of a dataset.
    held_out
        Clicks to be found ``[U, I]``, whose values are rows of `moments`, 1 the first.

    Returns
    -------
    Moments
        One a user ``[U]``.
    """
    first = first_rows(held_out, moments.times)
    asking = moments.and_unknown().take(first)
    return replace(asking, users=np.arange(len(first)))
