"""Lists of many users who are described by what they clicked, as the service makes them for one who asks.

Notation used for shapes: I items, n candidates, m users.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import scipy.sparse as sp

from coldray.bundle.lists import ORIGINS, Candidates, ListMaker, Lists
from coldray.bundle.model import Bundle
from coldray.bundle.people import People
from coldray.core.errors import DataFormatError
from coldray.data.dataset import Ids
from coldray.data.tables.histories import ITEM, RATING, TIME, USER
from coldray.data.tables.ids import without_blanks
from coldray.data.tables.numbers import LARGEST
from coldray.features.feature_set import FeatureSet
from coldray.serving.engine.queries import plain

_LISTED_CELLS = 1 << 20
"""Places of lists that are held at a time."""


@dataclass
class Counts:
    """What was made, and what could not be used."""

    users: int = 0
    history: int = 0
    """Lists by each of the :data:`~coldray.bundle.lists.ORIGINS`."""
    attributes: int = 0
    popularity: int = 0
    profile: int = 0
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

    maker: ListMaker
    item_ids: Ids
    """Of all items ``[I]``."""
    k: int
    exclude_seen: bool
    form: str
    """How lists are found, in words."""
    people: People | None = None
    """What is known of users of the bundle beside their clicks, where the model reads it."""
    user_places: Mapping[Any, int] = field(default_factory=dict)
    """Their rows by id."""

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
            Items that may be listed.

        Raises
        ------
        UnknownIdError
            If a named candidate is none of the bundle's items.
        ConfigError
            If no item may be listed.
        """
        form = bundle.lists_form.told if candidates == "all" else "All candidates are scored."
        places = {} if bundle.people is None else bundle.user_places
        return cls(bundle.list_maker(candidates), bundle.item_ids, k, exclude_seen, form, bundle.people, places)

    @property
    def index_bytes(self) -> int:
        """What the index of vectors takes, which is not shared."""
        return 0 if self.maker.index is None else self.maker.index.n_bytes

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
        :data:`~coldray.bundle.lists.ORIGINS`. An item that is twice in a history counts once, with the mean of its
        ratings, or where it came first. To a model that reads the order of clicks, that of their times is it, of clicks
        at the same time that of the items; that of the rows where there are no times.

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
        at_once = max(1, _LISTED_CELLS // self.k)
        for start in range(0, max(1, len(users)), at_once):  # no user is a table too
            some = histories[start : start + at_once]
            people = self._people(users[start : start + at_once])
            made = list(self.maker.in_blocks(some, self.k, exclude_seen=self.exclude_seen, people=people))
            origins = np.concatenate([lists.origins for lists in made])
            for number, origin in enumerate(ORIGINS):
                setattr(counts, origin, getattr(counts, origin) + int((origins == number).sum()))
            yield self._table(users[start : start + at_once], made, origins)

    def _people(self, users: pl.Series) -> FeatureSet | None:
        """Return what is known of users of the bundle; of the moment at which they will read their lists, nothing."""
        return None if self.people is None else self.people.asking([*map(self.user_places.get, users.to_list())])

    def _histories(self, rows: pl.DataFrame, counts: Counts) -> tuple[pl.Series, sp.csr_array]:
        """Return the users, ascending, and what they clicked or rated ``[m, I]``."""
        named = self._without_blanks(rows, counts)
        users = named[USER].unique().sort()
        numbers = pl.DataFrame({USER: users}).with_row_index("user")
        items = pl.DataFrame({ITEM: self.item_ids}).with_row_index("item")
        found = named.join(items, on=ITEM).join(numbers, on=USER)
        reads = self.maker.reads
        when = _order_of(found) if reads.order else "row"
        known = reads.ratings and RATING in rows.columns
        if known and (beyond := int(rows[RATING].is_infinite().sum())):
            raise DataFormatError(f"{beyond:,} ratings of the histories are beyond {LARGEST:g}. Correct or blank them.")
        rating = pl.col(RATING).fill_nan(None).mean() if known else pl.lit(None).first()
        cells = found.group_by("user", "item").agg(rating.cast(pl.Float32).alias("rating"), pl.col(when).min())
        # Of clicks at the same time that on the item of the lower index comes first.
        cells = cells.sort("user", *([when] if reads.order else []), "item")
        counts.users += len(users)
        counts.unknown_items += named.height - named[ITEM].null_count() - found.height
        ends = np.searchsorted(cells["user"].to_numpy(), np.arange(len(users) + 1))
        values = self.maker.values(cells["rating"].fill_null(np.nan).to_numpy(), ends)
        shape = (len(users), len(self.item_ids))
        return users, sp.csr_array((values, cells["item"].to_numpy().astype(np.int32), ends), shape=shape)

    def _without_blanks(self, rows: pl.DataFrame, counts: Counts) -> pl.DataFrame:
        """Return the rows with a user, numbered as `row`, their ids without blanks around them."""
        bare = {name: without_blanks(rows[name]) for name in (USER, ITEM)}
        has_user = bare[USER].is_not_null() & (bare[USER].cast(pl.String) != "").fill_null(False)
        counts.blanks += sum(int((ids != rows[name]).sum()) for name, ids in bare.items())
        counts.merged_users += rows[USER].filter(has_user).n_unique() - bare[USER].filter(has_user).n_unique()
        counts.without_user += rows.height - int(has_user.sum())
        return rows.with_columns(ids.alias(name) for name, ids in bare.items()).with_row_index("row").filter(has_user)

    def _table(self, users: pl.Series, made: Sequence[Lists], origins: npt.NDArray[np.int8]) -> pl.DataFrame:
        found, scores = np.vstack([one.items for one in made]), np.vstack([one.scores for one in made])
        listed = found >= 0
        ends = np.concatenate([[0], np.cumsum(listed.sum(axis=1))])
        items = pa.array(self.item_ids[found[listed]])
        return pl.DataFrame(
            {
                USER: users,
                "items": pl.Series(pa.LargeListArray.from_arrays(ends, items)),
                "scores": pl.Series(pa.LargeListArray.from_arrays(ends, pa.array(scores[listed]))),
                "path": np.asarray(ORIGINS)[origins],
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
