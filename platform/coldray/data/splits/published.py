"""Splits that a data set is published with: every interaction is of the train, the validation or the test part.

Notation used for shapes: U users, I items, n interactions.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import polars as pl
import scipy.sparse as sp

from coldray.core.errors import ConfigError, DataFormatError, EmptyDatasetError, LeakageError
from coldray.data.catalogue import Catalogue
from coldray.data.dataset import Attribute, Dataset, Ids, keep_entries, rows_of
from coldray.data.sources.assembly import Profiles, assemble, positions
from coldray.data.splits.parts import VALIDATION, InteractionSplit

logger = logging.getLogger(__name__)

Part: TypeAlias = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = get_args(Part)
"""The parts in the order of their numbers, which are those of :data:`~coldray.data.splits.parts.PART_WORDS`."""


@dataclass(frozen=True)
class _TimeLeaks:
    """How far the held-out interactions are from lying after those that a model is fitted on."""

    within_user: int
    """Validation and test interactions that are earlier than a train interaction of the same user."""
    across_users: int
    """Validation and test interactions that are earlier than a train interaction of anybody."""


@dataclass(frozen=True, eq=False)
class PredefinedSplit:
    """A dataset, and the part each of its interactions was published in. No interaction is in two parts.

    Raises
    ------
    DataFormatError
        If `parts` does not have one valid number an interaction.
    EmptyDatasetError
        If the train or the test part is empty; a split may do without validation.
    """

    dataset: Dataset
    """The interactions of all parts, on one user and one item vocabulary."""
    parts: npt.NDArray[np.uint8]
    """uint8 ``[n]``, aligned with ``dataset.interactions.data``: the number of the part in :data:`PARTS`."""
    name: str
    """The split's name: ``u1`` of MovieLens 100K, a category of Amazon."""

    def __post_init__(self) -> None:
        stored = self.dataset.interactions.nnz
        highest = self.parts.max(initial=0)
        if self.parts.shape != (stored,) or highest >= len(PARTS):
            raise DataFormatError(
                f"Split {self.name!r}: parts of shape {self.parts.shape} with numbers up to {highest} do not put each "
                f"of {stored:,} interactions in one of {len(PARTS)} parts."
            )
        for part in ("train", "test"):
            if not self._in(part).any():
                raise EmptyDatasetError(
                    f"Split {self.name!r} of dataset {self.dataset.name!r}: the {part} part has no interaction. Check "
                    "its file."
                )

    @property
    def train(self) -> sp.csr_array:
        """Clicks of the train part ``[U, I]`` float32."""
        return self._take(self.dataset.interactions, "train")

    @property
    def validation(self) -> sp.csr_array:
        """Clicks of the validation part ``[U, I]`` float32; empty when the split has none."""
        return self._take(self.dataset.interactions, "validation")

    @property
    def test(self) -> sp.csr_array:
        """Clicks of the test part ``[U, I]`` float32."""
        return self._take(self.dataset.interactions, "test")

    def ratings(self, part: Part) -> sp.csr_array:
        """Return the float32 ratings of a part ``[U, I]``; ConfigError if the dataset has none."""
        return self._take(self._required("ratings"), part)

    def timestamps(self, part: Part) -> sp.csr_array:
        """Return the int64 times of a part ``[U, I]``; ConfigError if the dataset has none."""
        return self._take(self._required("timestamps"), part)

    def counts(self) -> dict[str, int]:
        """Return the size of each part, and how many users and items are in no train interaction."""
        interactions = self.dataset.interactions
        counts = {f"{part}_interactions": int(self._in(part).sum()) for part in PARTS}
        train = self.train
        users, items = np.diff(interactions.indptr) > 0, np.bincount(interactions.indices, minlength=train.shape[1]) > 0
        known_users, known_items = np.diff(train.indptr) > 0, np.bincount(train.indices, minlength=train.shape[1]) > 0
        return {
            **counts,
            "users_without_train": int((users & ~known_users).sum()),
            "items_without_train": int((items & ~known_items).sum()),
        }

    def time_leaks(self) -> _TimeLeaks | None:
        """Count the held-out interactions that are earlier than train interactions; None without times."""
        if self.dataset.timestamps is None:
            return None
        times = self.dataset.timestamps.data
        users = rows_of(self.dataset.timestamps)
        in_train = self._in("train")
        last = np.full(self.dataset.n_users, np.iinfo(np.int64).min)
        np.maximum.at(last, users[in_train], times[in_train])
        held_out = ~in_train
        return _TimeLeaks(
            within_user=int((times[held_out] < last[users[held_out]]).sum()),
            across_users=int((times[held_out] < last.max()).sum()),
        )

    def for_study(self, *, validation_share: float, seed: int) -> InteractionSplit:
        """Return the split as a study takes it.

        Where none is published, a random part of each user's train interactions becomes the validation part.

        Parameters
        ----------
        validation_share
            Share of that part, between 0 and 1, rounded; users with a single train interaction keep it.
        seed
            Seed of the draw.

        Raises
        ------
        EmptyDatasetError
            If nobody has two train interactions to draw from.
        """
        parts = self.parts.copy()
        if not self._in("validation").any():
            rows = rows_of(self.dataset.interactions)
            parts[_drawn(rows, self._in("train"), validation_share, np.random.default_rng(seed))] = VALIDATION
        return InteractionSplit(self.dataset, parts, split=0, seed=seed, protocol="predefined")

    def _in(self, part: Part) -> npt.NDArray[np.bool_]:
        return np.equal(self.parts, PARTS.index(part))

    def _required(self, what: Literal["ratings", "timestamps"]) -> sp.csr_array:
        matrix = self.dataset.ratings if what == "ratings" else self.dataset.timestamps
        if matrix is None:
            raise ConfigError(f"Dataset {self.dataset.name!r} has no {what}; use its clicks alone.")
        return matrix

    def _take(self, matrix: sp.csr_array, part: Part) -> sp.csr_array:
        return keep_entries(matrix, self._in(part))


def _drawn(
    rows: npt.NDArray[np.intp], among: npt.NDArray[np.bool_], share: float, generator: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """Mark a random share of the interactions marked `among` of each user, and leave them at least one of them."""
    counts = np.bincount(rows[among], minlength=rows.max() + 1)
    wanted = np.clip(np.floor(share * counts + 0.5), 1, None) * (counts > 1)
    order = np.lexsort((generator.random(len(rows)), ~among, rows))  # of each user, those to draw from come first
    starts = np.searchsorted(rows, rows)
    places = np.empty(len(rows), np.int64)
    places[order] = np.arange(len(rows)) - starts
    drawn: npt.NDArray[np.bool_] = among & (places < np.minimum(wanted, counts - 1)[rows])
    return drawn


def assemble_split(
    parts: Mapping[Part, pl.DataFrame],
    attributes: Callable[[Ids], dict[str, Attribute]],
    *,
    name: str,
    split: str,
    file: str,
    default_attributes: Iterable[str],
    provenance: dict[str, Any],
    catalogue: Catalogue | None = None,
    profiles: Profiles | None = None,
) -> PredefinedSplit:
    """Build a split from a table of interactions a part, and warn of what it cannot be used for.

    The tables have the columns of :func:`~coldray.data.sources.assembly.assemble`, to which the other arguments go.
    The counts of the split and its time leaks are added to the provenance as ``split``.

    Raises
    ------
    LeakageError
        If a (user, item) pair is in two parts.
    DataFormatError
        If a pair is twice in one part.
    EmptyDatasetError
        If the train or the test part is empty.
    """
    numbered = [table.with_columns(part=pl.lit(PARTS.index(part), pl.UInt8)) for part, table in parts.items()]
    pairs = pl.concat(numbered)
    del numbered
    try:
        dataset = assemble(
            pairs,
            attributes,
            name=name,
            file=file,
            default_attributes=default_attributes,
            provenance=provenance,
            catalogue=catalogue,
            profiles=profiles,
        )
    except DataFormatError:
        _refuse_shared(pairs, file)
        raise
    rows, columns = positions(pairs["user"], dataset.user_ids), positions(pairs["item"], dataset.item_ids)
    order = np.lexsort((columns, rows))  # of the stored entries of the interactions: by row, then by column
    built = PredefinedSplit(dataset, pairs["part"].to_numpy()[order], split)
    leaks = built.time_leaks()
    provenance["split"] = {
        "name": split,
        **built.counts(),
        "time_leaks": None if leaks is None else {"within_user": leaks.within_user, "across_users": leaks.across_users},
    }
    _warn(built, leaks)
    return built


def _refuse_shared(pairs: pl.DataFrame, file: str) -> None:
    """Raise LeakageError if a pair is in two parts: a model would be tested on what it was fitted on."""
    shared = pairs.group_by("user", "item").agg(pl.col("part").unique().sort()).filter(pl.col("part").list.len() > 1)
    if shared.is_empty():
        return
    user, item, numbers = shared.sort("user", "item").row(0)
    raise LeakageError(
        f"{file}: {shared.height:,} (user, item) pairs are in two parts; the first, user {user!r} and item {item!r}, "
        f"is in {' and '.join(PARTS[number] for number in numbers)}. Keep each pair in one part."
    )


def _warn(split: PredefinedSplit, leaks: _TimeLeaks | None) -> None:
    counts = split.counts()
    if users := counts["users_without_train"]:
        logger.warning(
            "Split %s of %s: %s users have no train interaction; a model answers them by its fallback.",
            split.name, split.dataset.name, f"{users:,}",
        )  # fmt: skip
    if items := counts["items_without_train"]:
        logger.warning(
            "Split %s of %s: %s items have no train interaction; without attributes no model can recommend them.",
            split.name, split.dataset.name, f"{items:,}",
        )  # fmt: skip
    if leaks is not None and leaks.within_user:
        logger.warning(
            "Split %s of %s: %s held-out interactions are earlier than a train interaction of their user, as in a "
            "random split; its figures are not those of predicting the future.",
            split.name, split.dataset.name, f"{leaks.within_user:,}",
        )  # fmt: skip
