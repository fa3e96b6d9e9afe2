"""The columns of weights that scores are made of, kept while clicks become known: a click changes that of its item.

Columns of all items as they are before any new item has a click are held as one matrix. Those of new items with clicks
are held beside it, some in a block; of what an item's click changes, its block is copied and nothing else. Neither is
ever written to, so that whoever has columns may use them while others are made.

Notation used for shapes: b rows, W warm items, n items, c columns of a block.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.models.base import Items
from coldray.models.linalg.products import click_products

Matrix = npt.NDArray[np.float32]
_BLOCK = 64
"""Columns of a block: what is copied for a click is no more than so many."""


class _Make(Protocol):
    """Makes the columns of some items."""

    def __call__(self, asked: Items, own: Matrix, *, by_attributes: bool = False) -> Matrix:
        """Return columns ``[W, n]``, given the items' factors ``[n]``; without clicks on new ones `by_attributes`."""


@dataclass(frozen=True, eq=False)
class _Columns:
    """Columns of some items."""

    places: Mapping[int, int]
    """Where each item is."""
    factors: Matrix
    """``[n]``."""
    whole: Matrix
    """Without clicks on new items ``[W, n]``."""
    known: Mapping[int, Any]
    """What was known of the new items with clicks when their columns were made; compared by identity."""
    slots: Mapping[int, int]
    """Number of the column of each of these among those in blocks."""
    blocks: tuple[tuple[Items, Matrix], ...] = ()
    """Places ``[c]`` and columns ``[W, c]`` of these."""

    def knowing(self, known: Mapping[int, Any], make: _Make) -> _Columns:
        """Return columns in which those of items of which something else is known are made anew."""
        if self.known.keys() - known.keys():  # forgotten: by attributes again
            return replace(self, known={}, slots={}, blocks=()).knowing(known, make)
        changed = [item for item, said in known.items() if self.known.get(item) is not said and item in self.places]
        if not changed:
            return self
        slots = dict(self.slots)
        for item in changed:
            slots.setdefault(item, len(slots))
        made = make(np.array(changed), self.factors[[self.places[item] for item in changed]])
        blocks = list(self.blocks)
        numbers = np.array([slots[item] for item in changed])
        for number in np.unique(numbers // _BLOCK).tolist():
            own = np.flatnonzero(numbers // _BLOCK == number)
            there = numbers[own] - number * _BLOCK
            old = blocks[number] if number < len(blocks) else (np.zeros(0, np.intp), made[:, :0])
            wider = max(0, int(there.max()) + 1 - len(old[0]))
            places, columns = np.pad(old[0], (0, wider)), np.pad(old[1], ((0, 0), (0, wider)))
            places[there], columns[:, there] = [self.places[changed[one]] for one in own], made[:, own]
            blocks[number : number + 1] = [(places, columns)]
        return replace(self, known=known, slots=slots, blocks=tuple(blocks))

    def products(self, clicks: sp.csr_array) -> Matrix:
        """Return ``X B`` for clicks X on the warm items ``[b, W]``."""
        found = click_products(clicks, self.whole)
        for places, columns in self.blocks:
            found[:, places] = click_products(clicks, columns)
        return found


class LatestColumns:
    """The columns that were asked for last."""

    def __init__(self) -> None:
        self._latest: tuple[Items, _Columns] | None = None

    def of(self, items: Items, factors: Matrix, known: Mapping[int, Any], make: _Make) -> _Columns:
        """Return the columns of `items`, whose factors are ``[n]``; what is held of them is not made again."""
        latest = self._latest
        if latest is not None and np.array_equal(latest[0], items) and np.array_equal(latest[1].factors, factors):
            columns = latest[1]
        else:
            places = {item: place for place, item in enumerate(items.tolist())}
            columns = _Columns(places, factors, make(items, factors, by_attributes=True), {}, {})
        columns = columns.knowing(known, make)
        self._latest = np.array(items), columns
        return columns
