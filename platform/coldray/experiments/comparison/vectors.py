"""Entries of a comparison that are no study: vectors of users and items by file, as others publish those they trained.

A score is the product of the vector of the user and that of the item. Nothing is fitted or chosen: they are measured on
the validation and the test folds as the winners of the studies are.

Notation used for shapes: U users, I items of the dataset, d dimensions, n rows of a file.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from coldray.core.errors import DataFileError, DataFormatError
from coldray.data.dataset import Dataset, Ids
from coldray.data.splits.item_file import listed_places
from coldray.data.splits.items import Fold, Split
from coldray.data.vector_files import Matrix, read_matrix
from coldray.evaluation.metrics import RankingMetrics, ranking_metrics
from coldray.evaluation.ranking import rank
from coldray.experiments.comparison.config import VectorsConfig, VectorsEntry
from coldray.experiments.folds import prepare_task
from coldray.experiments.prepared import describe_dataset, describe_protocol
from coldray.experiments.results import FoldMetrics, Selection, StudyResult, TrialResult
from coldray.experiments.space import StudyConfig
from coldray.experiments.winner import metric_intervals


@dataclass(frozen=True, eq=False)
class Vectors:
    """The vectors of a dataset's users and items; those that the files lack are 0, and so are their scores."""

    users: Matrix
    """``[U, d]``."""
    items: Matrix
    """``[I, d]``."""
    item_ids: Ids
    """Of the dataset ``[I]``."""
    notes: tuple[str, ...]
    """What the files lack and what the dataset does, a sentence each."""

    def metrics(self, fold: Fold, study: StudyConfig) -> RankingMetrics:
        """Return the metrics of the lists of a fold.

        Parameters
        ----------
        study
            A study of the comparison: its candidates, cutoffs and measured users are those of all entries.
        """
        task = prepare_task(fold, None, users=study.splits.users, positives=study.positives)
        n_items, cold = fold.dataset.n_items, study.candidates == "cold"
        candidates = task.held_out_items if cold else np.arange(n_items, dtype=np.int32)
        columns = self.items[np.searchsorted(self.item_ids, fold.dataset.item_ids[candidates])].T  # [d, candidates]
        # In the place of a history each user has one cell, which says who it is.
        n_users = len(self.users)
        who = sp.csr_array(
            (np.arange(n_users, dtype=np.float64) + 1, np.zeros(n_users, np.int32), np.arange(n_users + 1)),
            shape=(n_users, n_items),
        )

        def scores(rows: sp.csr_array) -> Matrix:
            return np.asarray(self.users[rows.data.astype(np.intp) - 1] @ columns, np.float32)

        exclude = None if cold else task.known
        ranking = rank(scores, who, candidates, k=max(study.cutoffs), exclude=exclude, users=task.users)
        return ranking_metrics(ranking, task.held_out, study.cutoffs, n_candidates=len(candidates), graded=task.graded)


def load_vectors(config: VectorsConfig, dataset: Dataset) -> Vectors:
    """Read the vectors of the users and items of a dataset.

    Raises
    ------
    DataFileError
        If a file is missing or unreadable.
    DataFormatError
        If vectors are no table of numbers, not as many as ids, or of another length for users than for items; or an id
        is blank or listed twice.
    NumericalError
        If a vector is not finite.
    UnmatchedItemsError
        If none of the ids is of a user, or of an item, of the dataset.
    """
    (user_rows, user_note), (item_rows, item_note) = (
        _of_dataset(vectors, ids, known, what)
        for vectors, ids, known, what in (
            (config.users, config.user_ids, dataset.user_ids, "users"),
            (config.items, config.item_ids, dataset.item_ids, "items"),
        )
    )
    if user_rows.shape[1] != item_rows.shape[1]:
        raise DataFormatError(
            f"{config.users.name} has vectors of {user_rows.shape[1]} numbers and {config.items.name} of "
            f"{item_rows.shape[1]}. A score is their product: both must be of one model."
        )
    return Vectors(user_rows, item_rows, dataset.item_ids, tuple(note for note in (user_note, item_note) if note))


def _of_dataset(path: Path, id_path: Path, known: Ids, what: str) -> tuple[Matrix, str]:
    """Return the vectors of the users or items of a dataset, and what is lacking, in words."""
    found, (places, _) = _read(path), listed_places(id_path, known, what)
    if len(found) != len(places):
        raise DataFormatError(
            f"{path.name} has {len(found):,} vectors, and {id_path.name} {len(places):,} ids. There must be one a row."
        )
    ours = places >= 0
    vectors = np.zeros((len(known), found.shape[1]), np.float32)
    vectors[places[ours]] = found[ours]
    absent, unknown = len(known) - int(ours.sum()), int(np.sum(~ours))
    if not absent and not unknown:
        return vectors, ""
    return vectors, (
        f"{path.name}: {absent:,} of {len(known):,} {what} have no vector, and score 0; {unknown:,} of {len(places):,} "
        f"vectors are of {what} that the data lack."
    )


def _read(path: Path) -> Matrix:
    try:
        return read_matrix(path)
    except DataFileError as error:
        raise DataFileError(
            f"{error} Name them from the folder of the comparison file, or put them in the folder that COLDRAY_DATA "
            "names."
        ) from error


def vectors_study(
    entry: VectorsEntry, vectors: Vectors, dataset: Dataset, splits: Sequence[Split], study: StudyConfig
) -> StudyResult:
    """Return what is measured of vectors, as of a study that had nothing to search.

    Parameters
    ----------
    study
        One of the comparison, for all that they have in common.
    """
    started = time.perf_counter()
    validated = tuple(_fold(vectors.metrics(split.for_tuning().fold, study), split) for split in splits)
    measured = tuple(vectors.metrics(split.test_fold, study) for split in splits)
    only = TrialResult(entry.name, 0, {name: str(path) for name, path in entry.files}, validated, "finished")
    selection = Selection(only, only, (only,), study.selection.metric, study.selection.tolerance, ())
    return StudyResult(
        name=entry.name,
        model=entry.model,
        dataset={**describe_dataset(dataset, study), "attributes": []},
        protocol=describe_protocol(study, dataset, splits),
        searched=(),
        cutoffs=study.cutoffs,
        trials=(only,),
        selection=selection,
        test=tuple(_fold(metrics, split) for metrics, split in zip(measured, splits, strict=True)),
        test_intervals=metric_intervals(measured, study.search.seed),
        seconds=time.perf_counter() - started,
        held_out=study.splits.held_out,
        notes=vectors.notes,
        measured=measured,
    )


def _fold(metrics: RankingMetrics, split: Split) -> FoldMetrics:
    return FoldMetrics(split.seed, split.split, metrics.means())
