"""Kinds of events: how many interactions are of each, by their weights.

Notation used for shapes: n interactions, k weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from coldray.data.dataset import Dataset, rows_of

_Weights = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class EventKinds:
    """The kinds of events of a dataset, the strongest first; those of one weight are one."""

    names: tuple[str, ...]
    """``purchase``; of kinds of one weight ``like, share``; ``weight 2`` where the data name none."""
    weights: _Weights
    """float32 ``[k]``, descending."""
    read: tuple[int, ...] | None
    """Events of each that were read, before the strongest of each pair was kept; None where nobody counted them."""
    users: int
    """Users with an interaction."""
    weakest_users: int
    """Of the users, those whose interactions are all of the weakest kind; 0 where there is one kind alone."""

    def counts(self, weights: _Weights) -> tuple[int, ...]:
        """Return the interactions of each kind, from their weights."""
        places = np.searchsorted(-self.weights, -weights)
        return tuple(np.bincount(places, minlength=len(self.weights)).tolist())


def event_kinds(dataset: Dataset) -> EventKinds | None:
    """Return the kinds of events of a dataset; None where interactions are of one kind."""
    if dataset.events is None:
        return None
    told = dataset.provenance.get("events", {})
    kinds = {kind: np.float32(weight) for kind, weight in told.get("weights", {}).items()}
    weights = np.unique(np.concatenate([dataset.events.data, np.array(list(kinds.values()), np.float32)]))[::-1]
    of_weight = [[kind for kind, own in kinds.items() if own == weight] for weight in weights]
    names = [", ".join(found) or f"weight {weight:g}" for found, weight in zip(of_weight, weights, strict=True)]
    read = tuple(sum(told["read"][kind] for kind in found) for found in of_weight) if "read" in told else None
    n_of_users = np.diff(dataset.events.indptr)
    strong = np.bincount(rows_of(dataset.events)[dataset.events.data > weights[-1]], minlength=dataset.n_users)
    users, alone = n_of_users > 0, (n_of_users > 0) & (strong == 0)
    weakest = int(alone.sum()) if len(weights) > 1 else 0
    return EventKinds(tuple(names), weights, read, int(users.sum()), weakest)
