"""Clicks that a training is stopped by: a share of those it was given, held out as its study holds out others.

Notation used for shapes: U' validation users, I items, n candidates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.data.dataset import keep_entries
from coldray.evaluation.metrics import ranking_metrics
from coldray.evaluation.ranking import rank
from coldray.evaluation.ratings import ones_where_stored
from coldray.models.base import Scores, TrainingSet

_CUTOFF = 10
METRIC = f"ndcg@{_CUTOFF}"


@dataclass(frozen=True, eq=False)
class Validation:
    """Users whose lists are held against what was held out of their clicks."""

    histories: sp.csr_array
    """What the training sees of their clicks ``[U', I]``."""
    clicks: sp.csr_array
    """What is to be found ``[U', I]``."""
    candidates: npt.NDArray[np.integer[Any]]
    """Items that compete ``[n]``."""
    users: npt.NDArray[np.integer[Any]]
    """Who they are among all users ``[U']``, ascending."""

    def __len__(self) -> int:
        """Return U'."""
        return int(self.clicks.shape[0])

    def of(self, places: npt.NDArray[np.integer[Any]]) -> Validation:
        """Return that of some of the users, by their places, ascending."""
        histories, clicks = (sp.csr_array(rows[places]) for rows in (self.histories, self.clicks))
        return replace(self, histories=histories, clicks=clicks, users=self.users[places])

    def ndcg(
        self, scorer: Callable[..., Scores], users: slice, profiles: sp.csr_array | None = None
    ) -> npt.NDArray[np.floating[Any]]:
        """Return the ndcg of the users in that range, whose known items compete no more.

        Parameters
        ----------
        scorer
            Scores of the candidates, for histories, and what else is known of the users if `profiles` are given.
        profiles
            What is known of all users beside their clicks ``[U, F]``.
        """
        histories, those = sp.csr_array(self.histories[users]), self.users[users]
        known = None if profiles is None else lambda rows: sp.csr_array(profiles[those[rows]])
        exclude = ones_where_stored(histories)
        ranking = rank(scorer, histories, self.candidates, k=_CUTOFF, exclude=exclude, profiles=known, n_threads=1)
        found = ranking_metrics(
            ranking, sp.csr_array(self.clicks[users]), (_CUTOFF,), ("ndcg",), n_candidates=len(self.candidates)
        )
        return found.per_user[METRIC]


def hold_out_clicks(
    train: TrainingSet, share: float, most_users: int, generator: np.random.Generator
) -> tuple[TrainingSet, Validation | None]:
    """Hold out single clicks of users who have others.

    Parameters
    ----------
    share
        Of the clicks of each user.
    most_users
        How many users are asked about at most; the clicks of others are not held out.

    Returns
    -------
    tuple
        What is left, and the validation: None where there is nobody to ask, and then nothing is held out.
    """
    clicks = train.interactions
    users = np.flatnonzero(np.diff(clicks.indptr) > 1)
    users = np.sort(generator.permutation(users)[:most_users])
    asked = np.zeros(clicks.shape[0], bool)
    asked[users] = True
    rows = np.repeat(np.arange(clicks.shape[0]), np.diff(clicks.indptr))
    drawn = generator.random(clicks.nnz)
    # In each row the first by chance stays, so that a history is left.
    order = np.lexsort((drawn, rows))
    held = asked[rows] & (drawn > 1 - share)
    held[order[clicks.indptr[:-1][np.diff(clicks.indptr) > 0]]] = False
    return _parted(train, held, lambda rest: rest.warm_items)


def hold_out_items(
    train: TrainingSet, share: float, most_users: int, generator: np.random.Generator
) -> tuple[TrainingSet, Validation | None]:
    """Hold out all clicks of some items, as if these were cold.

    Parameters
    ----------
    share
        Of the items with clicks.
    most_users
        How many users are asked about at most.

    Returns
    -------
    tuple
        As of :func:`hold_out_clicks`; the held-out items alone compete.
    """
    warm = train.warm_items
    cold = np.sort(generator.permutation(warm)[: round(share * len(warm))])
    rest, validation = _parted(train, np.isin(train.interactions.indices, cold), lambda _: cold)
    if validation is None or len(validation) <= most_users:
        return rest, validation
    users = np.sort(generator.permutation(len(validation))[:most_users])
    return rest, validation.of(users)


def hold_out_users(
    train: TrainingSet, share: float, most_users: int, generator: np.random.Generator
) -> tuple[TrainingSet, Validation | None]:
    """Hold out all clicks of some users, as if these had just arrived.

    Parameters
    ----------
    share
        Of the users with clicks.
    most_users
        How many users are held out at most.

    Returns
    -------
    tuple
        As of :func:`hold_out_clicks`; the histories are empty.
    """
    clicks = train.interactions
    users = generator.permutation(np.flatnonzero(np.diff(clicks.indptr)))
    asked = np.zeros(clicks.shape[0], bool)
    asked[users[: min(round(share * len(users)), most_users)]] = True
    return _parted(train, np.repeat(asked, np.diff(clicks.indptr)), lambda rest: rest.warm_items, newcomers=True)


def hold_out_last(
    train: TrainingSet,
    most_users: int,
    generator: np.random.Generator,
    times: npt.NDArray[np.floating[Any]] | None = None,
) -> tuple[TrainingSet, Validation | None]:
    """Hold out the last click of users who have others.

    Parameters
    ----------
    most_users
        How many users are asked about at most; the clicks of others are not held out.
    times
        What clicks ascend by ``[c]``; unless given the clicks are places in their order.

    Returns
    -------
    tuple
        As of :func:`hold_out_clicks`.
    """
    clicks = train.interactions
    users = np.flatnonzero(np.diff(clicks.indptr) > 1)
    asked = np.zeros(clicks.shape[0], bool)
    asked[generator.permutation(users)[:most_users]] = True
    rows = np.repeat(np.arange(clicks.shape[0]), np.diff(clicks.indptr))
    order = np.lexsort((clicks.indices, clicks.data if times is None else times, rows))
    held = np.zeros(clicks.nnz, bool)
    held[order[clicks.indptr[1:][asked] - 1]] = True
    return _parted(train, held, lambda rest: rest.warm_items)


def _parted(
    train: TrainingSet, held: npt.NDArray[np.bool_], candidates: Any, *, newcomers: bool = False
) -> tuple[TrainingSet, Validation | None]:
    key = f"{train.key} / without what is validated"
    rest = replace(train, interactions=keep_entries(train.interactions, ~held), key=key)
    wanted = keep_entries(train.interactions, held)
    asked = np.diff(wanted.indptr) > 0
    users = np.flatnonzero(asked if newcomers else asked & (np.diff(rest.interactions.indptr) > 0))
    compete = candidates(rest)
    if len(users) == 0 or len(compete) == 0:
        return train, None
    clicks = ones_where_stored(sp.csr_array(wanted[users]))
    return rest, Validation(sp.csr_array(rest.interactions[users]), clicks, compete, users)
