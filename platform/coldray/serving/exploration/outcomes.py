"""What became of the items that were shown: sums over the log of events, from which exploration learns.

All numbers are multiples of 2⁻¹⁰ and 1 at most. So their products are multiples of 2⁻²⁰ and sums of billions of them
are exact in float64: they do not depend on the order of the events, the sums of two parts of a log add up to those of
the whole, and every replica has the same ones, to the last bit.

Notation used for shapes: p items of a pool, c = 3 numbers of a context.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from coldray.serving.engine.queries import ItemId
from coldray.serving.live.store import Event

Array = npt.NDArray[np.float64]
_GRID = 2.0**10
CONTEXT = 3
"""c: one, the score, and how well the user is known."""
SCORE = 1
"""The place of the score among them."""
_HALF_KNOWN = 10
"""Length of a history that counts one half."""


def on_grid(values: npt.ArrayLike) -> Array:
    """Return values rounded to multiples of 2⁻¹⁰."""
    rounded: Array = np.rint(np.multiply(values, _GRID, dtype=np.float64)) / _GRID
    return rounded


def relative_scores(scores: npt.NDArray[np.float32], open_: npt.NDArray[np.bool_], items: npt.NDArray[Any]) -> Array:
    """Return what some items score ``[p]``: 1 is the best item of the catalogue that is open to the user, 0 the mean.

    It does not depend on filters or on the length of the list, which are not known any more when feedback comes.
    Scores as far below the mean as the best is above it are −1, and so is all below.
    """
    compared = scores[open_]
    mean = float(compared.mean(dtype=np.float64)) if len(compared) else 0.0
    spread = float(compared.max()) - mean if len(compared) else 0.0
    if spread <= 0:
        return np.zeros(len(items))
    return on_grid(np.clip((scores[items].astype(np.float64) - mean) / spread, -1, 1))


def contexts(relative: Array, history: float) -> Array:
    """Return what is known of a request for each item of a pool ``[p, c]``, by its scores and :func:`known_part`."""
    return np.stack([np.ones(len(relative)), relative, np.full(len(relative), history)], axis=1)


def known_part(n_history: int) -> float:
    """Return how well a user with so many items in their history is known, from 0 to 1."""
    return float(on_grid(n_history / (n_history + _HALF_KNOWN)))


def written_context(relative: float, history: float) -> dict[str, float]:
    """Return what the log keeps of a context."""
    return {"score": relative, "history": history}


def _read_context(written: Mapping[str, Any] | None) -> Array | None:
    """Return a context of the log ``[c]``, or None if it is not such a one."""
    if written is None:
        return None
    relative, history = written.get("score"), written.get("history")
    if not (isinstance(relative, int | float) and isinstance(history, int | float)):
        return None
    values = np.array([relative, history], np.float64)
    if not (np.abs(values) <= 1).all():
        return None
    relative, history = on_grid(values).tolist()
    found: Array = contexts(np.array([relative]), history)[0]
    return found


class Outcomes:
    """Of each item ``Σ y yᵀ`` over what became of it, ``y`` being its context and 1 if it was clicked, 0 if not.

    Events without a context, which came while there was no exploration, do not count: among them are no items that
    were not clicked.
    """

    def __init__(self) -> None:
        self.sums: dict[ItemId, Array] = {}
        """By item, ``[c + 1, c + 1]``."""

    def add(self, events: Iterable[Event]) -> dict[ItemId, Array]:
        """Take in events, each of them once; return what they add, by item."""
        rows: dict[ItemId, list[Array]] = {}
        for event in events:
            context = _read_context(event.context)
            if context is not None:
                rows.setdefault(event.item_id, []).append(np.append(context, float(event.clicked)))
        added = {item: np.transpose(found) @ np.asarray(found) for item, found in rows.items()}
        for item, sums in added.items():
            self.sums[item] = self.sums[item] + sums if item in self.sums else sums
        return added
