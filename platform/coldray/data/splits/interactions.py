"""Splits of interactions: at random, by time, or by whole users.

Notation used for shapes: U users, n interactions.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from coldray.core.errors import ConfigError
from coldray.data.dataset import Dataset, rows_of
from coldray.data.splits.parts import (
    CHRONOLOGICAL,
    TEST,
    TEST_GIVEN,
    TRAIN,
    UNUSED,
    VALIDATION,
    VALIDATION_GIVEN,
    InteractionSplit,
    Parts,
    timestamps_of,
)
from coldray.data.splits.protocols import InteractionProtocol

logger = logging.getLogger(__name__)
_Counts = npt.NDArray[np.int64]

PUBLISHED = "predefined"
"""The protocol of parts that come with the data."""
_LEAST_INTERACTIONS = 3
"""A user needs one for each part."""


def interaction_splits(
    dataset: Dataset,
    *,
    protocol: InteractionProtocol,
    n_splits: int = 1,
    seeds: Sequence[int] = (42,),
    test_share: float = 0.2,
    validation_share: float = 0.2,
    last: int = 1,
    given_share: float = 0.8,
) -> Iterator[InteractionSplit]:
    """Yield `n_splits` splits of the interactions for each seed, drawn one after another from its generator.

    Parameters
    ----------
    protocol
        ``holdout``: a random `test_share` of each user's interactions is test, `validation_share` of the rest
        validation. ``leave-last``: the `last` interactions of each user are test, as many before them validation.
        ``per-user-temporal``: as ``holdout``, but the last ones of each user. ``temporal``: what comes after the time
        before which ``1 − test_share`` of all interactions lie is test, of the rest in the same way validation.
        ``user-holdout``: a random `test_share` of the users is tested, `validation_share` of the others validates;
        a random `given_share` of their interactions is given, the others are to be found. ``k-fold``: each user's
        interactions are dealt to `n_splits` folds; split j has fold j as test and the next one as validation.
        ``rolling-origin``: all interactions are cut by time into ``n_splits + 2`` blocks; split j is fitted on the
        blocks up to j, validated on the next one and tested on the one after it, and later blocks are left out.

        Shares are rounded to the nearest number, but every part gets at least one. A user with too few interactions
        for that (3; ``leave-last`` ``2 last + 1``; ``user-holdout`` 2) stays in train and is counted. Of interactions
        at the same time, the generator decides which is the later one; ``temporal`` keeps them in the same part.

    Raises
    ------
    ConfigError
        If a parameter is out of range, a chronological protocol is to give several splits, or the dataset has no
        timestamps for one.
    LeakageError
        If the dataset stores a pair twice.
    EmptyDatasetError
        If a part is left without interactions.
    """
    check_interaction_protocol(protocol, n_splits, seeds)
    if protocol == PUBLISHED:
        raise ConfigError(
            f"The parts of the protocol {PUBLISHED!r} come with the data and are not drawn; read them by "
            "coldray.data.sources.registry.load_predefined."
        )
    if last < 1 or not all(0 < share < 1 for share in (test_share, validation_share, given_share)):
        raise ConfigError(
            f"test_share is {test_share:g}, validation_share {validation_share:g}, given_share {given_share:g} and "
            f"last {last}; shares lie between 0 and 1, and last is at least 1."
        )
    if protocol not in CHRONOLOGICAL and dataset.timestamps is not None:
        logger.warning(
            "Dataset %r has timestamps, and %s holds interactions out at random: models are fitted on what came after "
            "their test. leave-last tests what came last.", dataset.name, protocol,
        )  # fmt: skip
    shares = (test_share, validation_share)
    for seed in seeds:
        generator = np.random.default_rng(seed)
        dealt = _deal(dataset, generator, n_splits) if protocol == "k-fold" else None
        for number in range(n_splits):
            if dealt is not None:
                parts, kept = _fold_parts(dealt, number, n_splits)
            elif protocol == "rolling-origin":
                parts, kept = _rolling_parts(timestamps_of(dataset, protocol), number, n_splits), 0
            elif protocol == "temporal":
                parts, kept = _global_parts(timestamps_of(dataset, protocol), shares), 0
            elif protocol == "user-holdout":
                parts, kept = _user_parts(dataset, generator, shares, given_share)
            else:
                times = timestamps_of(dataset, protocol) if protocol in CHRONOLOGICAL else None
                lengths = np.diff(dataset.interactions.indptr).astype(np.int64)
                held_out = _last_counts(lengths, last) if protocol == "leave-last" else share_counts(lengths, shares)
                parts, kept = tail_parts(dataset, generator, times, *held_out)
            yield InteractionSplit(dataset, parts, users_kept_in_train=kept, split=number, seed=seed, protocol=protocol)


def check_interaction_protocol(protocol: str, n_splits: int, seeds: Sequence[int]) -> None:
    """Raise :class:`~coldray.core.errors.ConfigError` if so many splits cannot be drawn by the protocol."""
    known = get_args(InteractionProtocol)
    if protocol not in known:
        raise ConfigError(f"Unknown split protocol {protocol!r} of interactions; choose {', '.join(known)}.")
    if n_splits < 1 or not seeds:
        raise ConfigError(f"n_splits is {n_splits} for {len(seeds)} seeds; at least 1 of each is needed.")
    if protocol == "rolling-origin" and len(seeds) > 1:
        raise ConfigError("The protocol 'rolling-origin' draws nothing: several seeds give the same splits. Use one.")
    if protocol in (*CHRONOLOGICAL, PUBLISHED) and protocol != "rolling-origin" and n_splits * len(seeds) > 1:
        raise ConfigError(
            f"The protocol {protocol!r} gives one split, not {n_splits} for {len(seeds)} seeds: a seed decides little "
            "or nothing. Use n_splits: 1 and a single seed."
        )
    if protocol == "k-fold" and n_splits < _LEAST_INTERACTIONS:
        raise ConfigError(f"k-fold with n_splits={n_splits} leaves nothing to fit on; use at least 3.")


def _places(dataset: Dataset, generator: np.random.Generator, times: npt.NDArray[np.int64] | None) -> _Counts:
    """Return the place of each interaction among its user's, from 0: by time, else and among equals at random."""
    clicks = dataset.interactions
    rows, draws = rows_of(clicks), generator.random(clicks.nnz)
    order = np.lexsort((draws, rows) if times is None else (draws, times, rows))
    places = np.empty(clicks.nnz, np.int64)
    places[order] = np.arange(clicks.nnz) - clicks.indptr[rows]  # rows ascend, before and after
    return places


def _share(counts: npt.NDArray[Any], share: float, left: int) -> _Counts:
    """Return the share of each count to the nearest number: at least 1, and at least `left` are left."""
    return np.clip(np.floor(share * counts + 0.5), 1, np.maximum(counts - left, 1)).astype(np.int64)


def share_counts(lengths: _Counts, shares: tuple[float, float]) -> tuple[_Counts, _Counts]:
    """Return how many interactions of each user are test and validation ``[U]``; 0 where there are too few."""
    enough = lengths >= _LEAST_INTERACTIONS
    test = _share(lengths, shares[0], left=2)
    validation = _share(lengths - test, shares[1], left=1)
    return test * enough, validation * enough


def _last_counts(lengths: _Counts, last: int) -> tuple[_Counts, _Counts]:
    counts = last * (lengths > 2 * last).astype(np.int64)
    return counts, counts


def tail_parts(
    dataset: Dataset,
    generator: np.random.Generator,
    times: npt.NDArray[np.int64] | None,
    test: _Counts,
    validation: _Counts,
) -> tuple[Parts, int]:
    """Hold out the last places of each user; return the parts, and how many users have none held out."""
    rows = rows_of(dataset.interactions)
    lengths = np.diff(dataset.interactions.indptr)
    from_end = lengths[rows] - 1 - _places(dataset, generator, times)
    parts = np.full(len(rows), TRAIN, np.uint8)
    parts[from_end < (test + validation)[rows]] = VALIDATION
    parts[from_end < test[rows]] = TEST
    return parts, int(((lengths > 0) & (test == 0)).sum())


def _global_parts(times: npt.NDArray[np.int64], shares: tuple[float, float]) -> Parts:
    parts = np.full(len(times), TRAIN, np.uint8)
    for part, share in zip((TEST, VALIDATION), shares, strict=True):
        rest = parts == TRAIN
        at = int((1 - share) * (rest.sum() - 1))  # no quantile: float64 does not hold every int64
        parts[rest & (times > np.partition(times[rest], at)[at])] = part
    return parts


def _rolling_parts(times: npt.NDArray[np.int64], number: int, n_splits: int) -> Parts:
    """Cut the interactions by time into blocks of about equal size; those of one time are in one block."""
    ordered = np.sort(times)
    n_blocks = n_splits + 2
    starts = ordered[[len(ordered) * block // n_blocks for block in range(1, n_blocks)]]
    blocks = np.searchsorted(starts, times, side="right")
    parts = np.full(len(times), UNUSED, np.uint8)
    parts[blocks <= number] = TRAIN
    parts[blocks == number + 1] = VALIDATION
    parts[blocks == number + 2] = TEST
    return parts


def _user_parts(
    dataset: Dataset, generator: np.random.Generator, shares: tuple[float, float], given_share: float
) -> tuple[Parts, int]:
    """Hold out whole users, with a given and a hidden side each."""
    lengths = np.diff(dataset.interactions.indptr).astype(np.int64)
    side = user_sides(dataset, generator, shares)
    rows = rows_of(dataset.interactions)
    given = _places(dataset, generator, None) < _share(lengths, given_share, left=1)[rows]
    parts = side[rows]
    for found, shown in ((TEST, TEST_GIVEN), (VALIDATION, VALIDATION_GIVEN)):
        parts[given & (parts == found)] = shown
    return parts, int((lengths == 1).sum())


def user_sides(dataset: Dataset, generator: np.random.Generator, shares: tuple[float, float]) -> Parts:
    """Draw who is tested and who validates, of the users with two interactions; return the part of each ``[U]``."""
    enough = generator.permutation(np.flatnonzero(np.diff(dataset.interactions.indptr) >= 2))
    side = np.full(dataset.n_users, TRAIN, np.uint8)
    if len(enough) >= _LEAST_INTERACTIONS:
        ((test,), (validation,)) = share_counts(np.array([len(enough)]), shares)
        side[enough[:test]], side[enough[test : test + validation]] = TEST, VALIDATION
    return side


def _deal(dataset: Dataset, generator: np.random.Generator, n_folds: int) -> tuple[_Counts, int]:
    """Return the fold of each interaction, −1 for users with too few, and how many users these are."""
    rows, lengths = rows_of(dataset.interactions), np.diff(dataset.interactions.indptr)
    first = generator.integers(n_folds, size=len(lengths))  # else users with few would fill the first folds alone
    folds = (_places(dataset, generator, None) + first[rows]) % n_folds
    few = lengths < _LEAST_INTERACTIONS
    folds[few[rows]] = -1
    return folds, int((few & (lengths > 0)).sum())


def _fold_parts(dealt: tuple[_Counts, int], number: int, n_folds: int) -> tuple[Parts, int]:
    folds, kept = dealt
    parts = np.full(len(folds), TRAIN, np.uint8)
    parts[folds == number] = TEST
    parts[folds == (number + 1) % n_folds] = VALIDATION
    return parts, kept
