"""Why an item has the score it has: shares of attributes and of clicked items that add up to it.

Notation used for shapes: h clicked items, p parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.models.base import Items

COMMON = "(all items)"
"""The part of a score that an item owes to what all items have in common."""
POPULARITY = "(popularity)"
"""The part of a score that an item owes to its predicted popularity."""
CLICKS = "(clicks)"
"""The part of a score that an item owes to the clicks on it."""


@dataclass(frozen=True, eq=False)
class Explanation:
    """The score of one item for one history, taken apart."""

    item: int
    score: float
    history: Items
    """The clicked items that count ``[h]``."""
    parts: tuple[str, ...]
    """Names of attributes, `COMMON` and, where the model has them, `POPULARITY` and `CLICKS` ``[p]``."""
    shares: npt.NDArray[np.float64]
    """What each clicked item adds through each part ``[h, p]``; all of them add up to the score."""

    @property
    def by_part(self) -> Mapping[str, float]:
        """What each part adds to the score, largest first."""
        return _ordered(dict(zip(self.parts, self.shares.sum(axis=0).tolist(), strict=True)))

    @property
    def by_item(self) -> Mapping[int, float]:
        """What each clicked item adds to the score, largest first."""
        return _ordered(dict(zip(self.history.tolist(), self.shares.sum(axis=1).tolist(), strict=True)))


@runtime_checkable
class Explaining(Protocol):
    """A model that can take its scores apart."""

    def explanations(self, history: sp.csr_array, items: Items) -> list[Explanation]:
        """Return the explanation of each of `items` for the clicks of one user, CSR ``[1, I]``."""


def _ordered(shares: dict[int, float] | dict[str, float]) -> dict:  # type: ignore[type-arg]
    return dict(sorted(shares.items(), key=lambda share: -share[1]))
