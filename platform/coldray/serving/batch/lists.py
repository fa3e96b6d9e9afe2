"""Lists of many users who are described by what they clicked, as the service makes them for one who asks.

Notation used for shapes: I items, n candidates, m users.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import scipy.sparse as sp

from coldray.bundle.io import Bundle
from coldray.core.errors import ConfigError, DataFormatError, UnknownIdError
from coldray.data.dataset import Ids
from coldray.data.signals import Reads
from coldray.data.tables.histories import ITEM, RATING, TIME, USER
from coldray.data.tables.ids import without_blanks
from coldray.data.tables.numbers import LARGEST
from coldray.evaluation.ranking import Ranking, Scorer, rank
from coldray.evaluation.ratings import ones_where_stored
from coldray.serving.engine.queries import ItemId, plain

Candidates: TypeAlias = Literal["all", "warm", "cold"] | tuple[ItemId, ...]
LISTED_CELLS = 1 << 20
"""Places of lists that are held at a time."""
BLOCK_BYTES = 8 << 20
"""Scores that are held at a time: larger blocks are hardly faster, and what they took stays with the process."""
PATHS = ("history", "attributes", "popularity")
"""How a list came to be: see `Path`. The model's own histories are not asked for."""


@dataclass
class Counts:
    """What was made, and what could not be used."""

    users: int = 0
    history: int = 0
    """Lists by each of the :data:`PATHS`."""
    attributes: int = 0
    popularity: int = 0
    unknown_items: int = 0
    """Rows with an item that the model does not know; they are left out."""
    without_user: int = 0
    """Rows without a user; they are left out."""
    blanks: int = 0
    """Ids with blanks around them, which are left out."""
    merged_users: int = 0
    """Users beyond the first whose ids are one without blanks."""

    def add(self, other: Counts) -> None:
        """Add those of another part."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


@dataclass(frozen=True, eq=False)
class BatchLists:
    """Makes lists of `k` items; a user of whom nothing is known gets the items with the most clicks.

    It holds what scores are made from and nothing else of the bundle, and is sent to workers: they share its arrays.
    """

    scorer: Scorer
    """Of the candidates."""
    item_ids: Ids
    """Of all items ``[I]``."""
    candidates: npt.NDArray[np.int32]
    """Indices of the items that may be listed ``[n]``, ascending."""
    clicks: npt.NDArray[np.int64]
    """Of all items, when the model was fitted ``[I]``."""
    click_value: float
    """Rating of an item that was clicked without one."""
    reads: Reads
    k: int
    exclude_seen: bool

    @classmethod
    def of(cls, bundle: Bundle, *, k: int, exclude_seen: bool = True, candidates: Candidates = "all") -> Self:
        """Prepare a bundle.

        Parameters
        ----------
        k
            Length of a list; lists of users with fewer candidates are shorter.
        exclude_seen
            Whether the items of a history are left out of its list.
        candidates
            Items that may be listed: all that the model can tell apart, those with clicks, those without, or those
            named.

        Raises
        ------
        UnknownIdError
            If a named candidate is none of the bundle's items.
        ConfigError
            If no item may be listed.
        """
        model = bundle.model
        clicks = np.bincount(bundle.interactions.indices, minlength=model.n_items)
        chosen = bundle.listed_items if candidates == "all" else _chosen(candidates, bundle.item_ids, clicks)
        if len(chosen) == 0:
            raise ConfigError(f"The model has no item to list: candidates are {candidates!r}. Use other ones.")
        value = model.click_value
        return cls(model.scorer(chosen), bundle.item_ids, chosen, clicks, value, model.reads, k, exclude_seen)

    def check_ids(self, schema: pa.Schema) -> None:
        """Refuse histories whose item ids are not of the kind of the model's, as none of them would be known.

        Raises
        ------
        DataFormatError
            If one are integers and the others strings.
        """
        own, given = self.item_ids.dtype.kind in "iu", str(schema.field(ITEM).type) == "int64"
        if own != given:
            kinds = {True: "integers", False: "strings"}
            raise DataFormatError(
                f"The items of the histories are {kinds[given]}, those of the model {kinds[own]}. Write the column as "
                f"{kinds[own]}, such as {plain(self.item_ids[0])!r}."
            )

    def of_histories(self, rows: pl.DataFrame, counts: Counts) -> Iterator[pl.DataFrame]:
        """Yield the lists of all users of some rows, a row a user, by ascending id.

        Columns: the user's id, ``items`` and ``scores``, best first and of equal length, and ``path``, one of
        :data:`PATHS`. An item that is twice in a history counts once, with the mean of its ratings, or
        where it came first. To a model that reads the order of clicks, that of their times is it, of clicks at the same
        time that of the items; that of the rows where there are no times.

        Parameters
        ----------
        rows
            Of :meth:`~coldray.data.tables.histories.Histories.batches`; all rows of a user.
        counts
            What is made and left out is added to.

        Raises
        ------
        DataFormatError
            If a click has no time among others that have one, and the model reads their order.
        """
        users, histories = self._histories(rows, counts)
        at_once = max(1, LISTED_CELLS // self.k)
        for start in range(0, max(1, len(users)), at_once):  # no user is a table too
            some = histories[start : start + at_once]
            lists = rank(
                self._scores,
                some,
                self.candidates,
                k=self.k,
                exclude=ones_where_stored(some) if self.exclude_seen else None,
                block_size=max(1, BLOCK_BYTES // (4 * len(self.candidates))),
                n_threads=1,  # there is a worker for each CPU
            )
            paths = self._paths(some)
            for number, path in enumerate(PATHS):
                setattr(counts, path, getattr(counts, path) + int((paths == number).sum()))
            yield self._table(users[start : start + at_once], lists, paths)

    def _histories(self, rows: pl.DataFrame, counts: Counts) -> tuple[pl.Series, sp.csr_array]:
        """Return the users, ascending, and what they clicked or rated ``[m, I]``."""
        named = self._without_blanks(rows, counts)
        users = named[USER].unique().sort()
        numbers = pl.DataFrame({USER: users}).with_row_index("user")
        items = pl.DataFrame({ITEM: self.item_ids}).with_row_index("item")
        found = named.join(items, on=ITEM).join(numbers, on=USER)
        when = _order_of(found) if self.reads.order else "row"
        known = self.reads.ratings and RATING in rows.columns
        if known and (beyond := int(rows[RATING].is_infinite().sum())):
            raise DataFormatError(f"{beyond:,} ratings of the histories are beyond {LARGEST:g}. Correct or blank them.")
        rating = (pl.col(RATING).fill_nan(None).mean() if known else pl.lit(None, pl.Float32).first()).fill_null(
            self.click_value
        )
        cells = found.group_by("user", "item").agg(rating.alias("rating"), pl.col(when).min()).sort("user", "item")
        # A place is one among the clicks of its own user: models read how far apart two of theirs are. Of clicks at the
        # same time that on the item of the lower index comes first, as ordinal ranks are in the order of the cells.
        place = pl.col(when).rank("ordinal").over("user") if self.reads.order else pl.lit(1)
        cells = cells.with_columns(place.alias("place"))
        counts.users += len(users)
        counts.unknown_items += named.height - named[ITEM].null_count() - found.height
        ends = np.searchsorted(cells["user"].to_numpy(), np.arange(len(users) + 1))
        rated, placed, columns = (cells[name].to_numpy() for name in ("rating", "place", "item"))
        values, shape = self.reads.values(rated, placed), (len(users), len(self.item_ids))
        return users, sp.csr_array((values, columns.astype(np.int32), ends), shape=shape)

    def _without_blanks(self, rows: pl.DataFrame, counts: Counts) -> pl.DataFrame:
        """Return the rows with a user, numbered as `row`, their ids without blanks around them."""
        bare = {name: without_blanks(rows[name]) for name in (USER, ITEM)}
        has_user = bare[USER].is_not_null() & (bare[USER].cast(pl.String) != "").fill_null(False)
        counts.blanks += sum(int((ids != rows[name]).sum()) for name, ids in bare.items())
        counts.merged_users += rows[USER].filter(has_user).n_unique() - bare[USER].filter(has_user).n_unique()
        counts.without_user += rows.height - int(has_user.sum())
        return rows.with_columns(ids.alias(name) for name, ids in bare.items()).with_row_index("row").filter(has_user)

    def _scores(self, histories: sp.csr_array) -> npt.NDArray[np.float32]:
        """Return the model's scores of the candidates ``[b, n]``; their popularity where a history is empty."""
        scores = self.scorer(histories)
        empty = np.diff(histories.indptr) == 0
        if not empty.any():
            return scores
        return np.where(empty[:, None], np.log1p(self.clicks[self.candidates]).astype(np.float32), scores)

    def _paths(self, histories: sp.csr_array) -> npt.NDArray[np.int8]:
        """Return the place among :data:`PATHS` of how each list is made ``[m]``."""
        warm = np.zeros(len(self.clicks), np.bool_)
        warm[self.candidates] = self.clicks[self.candidates] > 0
        seen = np.diff(np.concatenate([[0], np.cumsum(warm[histories.indices])])[histories.indptr])
        left = np.count_nonzero(warm) - (seen if self.exclude_seen else 0)
        return np.where(np.diff(histories.indptr) == 0, 2, np.where(left > 0, 0, 1)).astype(np.int8)

    def _table(self, users: pl.Series, lists: Ranking, paths: npt.NDArray[np.int8]) -> pl.DataFrame:
        listed = lists.items >= 0
        ends = np.concatenate([[0], np.cumsum(listed.sum(axis=1))])
        items = pa.array(self.item_ids[lists.items[listed]])
        return pl.DataFrame(
            {
                USER: users,
                "items": pl.Series(pa.LargeListArray.from_arrays(ends, items)),
                "scores": pl.Series(pa.LargeListArray.from_arrays(ends, pa.array(lists.scores[listed]))),
                "path": np.asarray(PATHS)[paths],
            }
        )


def _order_of(clicks: pl.DataFrame) -> str:
    """Return the column that tells the order of clicks."""
    if TIME not in clicks.columns:
        return "row"
    if missing := clicks[TIME].null_count():
        raise DataFormatError(
            f"{missing:,} of {len(clicks):,} clicks have no time, and the model reads their order. Fill the column, or "
            "do not name it: then the order of the rows is that of the clicks."
        )
    return TIME


def _chosen(candidates: Candidates, item_ids: Ids, clicks: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
    """Return the indices of the candidates, ascending."""
    if candidates in ("warm", "cold"):
        return np.flatnonzero((clicks > 0) == (candidates == "warm")).astype(np.int32)
    index = {item: place for place, item in enumerate(item_ids.tolist())}
    unknown = [item for item in candidates if item not in index]
    if unknown:
        raise UnknownIdError(
            f"{len(unknown):,} of the {len(candidates):,} candidates are no items of the model; the first is "
            f"{unknown[0]!r}. Leave them out, or fit the model on them."
        )
    return np.unique(np.asarray([index[item] for item in candidates], np.int32))
