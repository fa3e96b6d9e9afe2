"""Whether two models are of the same catalogue: one may take the other's place only then.

A champion of films by number must not give way to a model of other items, whatever that one reaches on its own data.
The same family has

- ids of the same types, of users and of items;
- enough of the champion's items: so many of them, as a share, that the new version knows too;
- the champion's attributes, of the same kinds, as far as the champion reads them; and where both know an item, they say
  the same of it: ids from 1 to 1682 are in many catalogues.

Generated data never take the place of real ones. Real data may take the place of generated ones, whatever their ids.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from coldray.bundle import MIN_ITEM_OVERLAP
from coldray.bundle.io import FILES, read_manifest
from coldray.bundle.item_table import column_kinds, item_table
from coldray.bundle.model import Bundle
from coldray.core.errors import BundleError
from coldray.core.spelling import choices
from coldray.data.dataset import Attribute, Dataset, Ids
from coldray.features.builder import attribute_kinds

_Rows: TypeAlias = Callable[[npt.NDArray[np.intp]], pl.DataFrame]
_MIN_AGREEMENT = 0.5
"""Share of the items of both, of which the attribute that agrees most has to say the same."""
_COMPARED_ITEMS = 2000
"""Items of both whose attributes are compared, evenly spaced among them all."""


@dataclass(frozen=True, eq=False)
class Family:
    """What tells the data of one model from those of another."""

    dataset: str
    synthetic: bool
    """True if the data are known to be generated."""
    user_type: str
    """``text`` or ``integer``."""
    item_ids: Ids
    kinds: Mapping[str, str]
    """What each attribute of the items holds, by name."""
    read: tuple[str, ...]
    """Names of the attributes that the model reads."""
    rows: _Rows
    """Returns the attributes of some items, by position, as a table with a column a name."""

    @property
    def item_type(self) -> str:
        """``text`` or ``integer``."""
        return _id_words(self.item_ids)

    @classmethod
    def of_dataset(cls, dataset: Dataset) -> Family:
        """Return the family of a dataset; all of its attributes may be read."""
        return cls(
            dataset.name,
            dataset.synthetic,
            _id_words(dataset.user_ids),
            dataset.item_ids,
            attribute_kinds(dataset.attributes),
            tuple(dataset.attributes),
            _taken(dataset.item_ids, dataset.attributes),
        )

    @classmethod
    def of_bundle(cls, bundle: Bundle) -> Family:
        """Return the family of a bundle."""
        data = bundle.manifest.get("dataset", {})
        return cls(
            str(data.get("name", "unknown data")),
            bool(data.get("synthetic", False)),
            _id_words(bundle.user_ids),
            bundle.item_ids,
            bundle.kinds,
            tuple(bundle.encoder.kinds),
            _taken(bundle.item_ids, bundle.attributes),
        )

    @classmethod
    def of_folder(cls, folder: Path) -> Family:
        """Return the family of a bundle in a folder, of which the arrays need not be there.

        Raises
        ------
        BundleError
            If it is no bundle.
        """
        manifest = read_manifest(folder)
        try:
            table = pl.read_parquet(folder / FILES[1], glob=False)
            users = pl.read_parquet_schema(folder / FILES[2])["user_id"]
            kinds = column_kinds(table.schema)
            data = manifest.get("dataset", {})
            read = [str(name) for name, method in manifest["encoder"]["methods"] if method != "count"]
        except (OSError, KeyError, TypeError, ValueError, pl.exceptions.PolarsError) as error:
            raise BundleError(f"The bundle {folder} cannot be read: {error}.") from error
        names = {column: column.partition(":")[2] for column in table.columns if ":" in column}
        shown = table.select(list(names)).rename(names)
        ids = table["item_id"]
        return cls(
            str(data.get("name", "unknown data")),
            bool(data.get("synthetic", False)),
            "integer" if users.is_integer() else "text",
            ids.to_numpy() if ids.dtype.is_integer() else np.asarray(ids.to_list(), dtype=np.str_),
            kinds,
            tuple(read),
            lambda items: shown[items.tolist()],
        )


def refusal(new: Family, champion: Family, min_item_overlap: float = MIN_ITEM_OVERLAP) -> str | None:
    """Return why a model of `new` data must not take the place of the champion; None if it may."""
    if champion.synthetic and not new.synthetic:
        return None
    if new.synthetic and not champion.synthetic:
        return f"the data {new.dataset!r} are generated, and the champion is of real ones ({champion.dataset!r})"
    for what, ours, theirs in (
        ("user", new.user_type, champion.user_type),
        ("item", new.item_type, champion.item_type),
    ):
        if ours != theirs:
            return f"other data: {what} ids of {new.dataset!r} are {ours}, those of the champion {theirs}"
    _, mine, its = np.intersect1d(new.item_ids, champion.item_ids, assume_unique=True, return_indices=True)
    overlap = len(its) / len(champion.item_ids)
    if overlap < min_item_overlap:
        return (
            f"other items: {new.dataset!r} has {len(its):,} of the {len(champion.item_ids):,} items of the champion "
            f"({overlap:.0%}; at least {min_item_overlap:.0%} are needed)"
        )
    return _other_attributes(new, champion) or (_disagreement(new, mine, champion, its) if len(its) else None)


def _other_attributes(new: Family, champion: Family) -> str | None:
    missing = [name for name in champion.read if name not in new.kinds]
    if missing:
        return (
            f"other attributes: {new.dataset!r} lacks {choices(missing)}, which the champion reads; it has "
            f"{choices(new.kinds) or 'none'}"
        )
    for name in champion.read:
        if new.kinds[name] != champion.kinds.get(name, new.kinds[name]):
            return f"other attributes: {name!r} holds {new.kinds[name]}, that of the champion {champion.kinds[name]}"
    return None


def _disagreement(new: Family, mine: npt.NDArray[np.intp], champion: Family, its: npt.NDArray[np.intp]) -> str | None:
    """Tell catalogues whose items have the same ids by chance from one that has changed a little."""
    shared = [name for name, kind in new.kinds.items() if champion.kinds.get(name) == kind]
    if not shared:
        return None
    chosen = np.unique(np.linspace(0, len(mine) - 1, min(len(mine), _COMPARED_ITEMS)).astype(np.intp))
    ours, theirs = new.rows(mine[chosen]), champion.rows(its[chosen])
    shares: dict[str, float] = {}
    for name in shared:
        pairs = [
            (one, other)
            for one, other in zip(ours[name].to_list(), theirs[name].to_list(), strict=True)
            if one not in (None, "", []) and other not in (None, "", [])
        ]
        if pairs:
            shares[name] = sum(one == other for one, other in pairs) / len(pairs)
    if not shares or max(shares.values()) >= _MIN_AGREEMENT:
        return None
    name = max(shares, key=lambda name: shares[name])
    return (
        f"other items under the same ids: {name!r} agrees on {shares[name]:.0%} of those that both know, and no "
        f"attribute on more; at least {_MIN_AGREEMENT:.0%} are needed"
    )


def _id_words(ids: Ids) -> str:
    """Return what ids are: ``text`` or ``integer``."""
    return "text" if ids.dtype.kind == "U" else "integer"


def _taken(item_ids: Ids, attributes: Mapping[str, Attribute]) -> _Rows:
    def rows(items: npt.NDArray[np.intp]) -> pl.DataFrame:
        table = item_table(item_ids[items], {name: value.take(items) for name, value in attributes.items()}, ())
        names: dict[str, Any] = {column: column.partition(":")[2] for column in table.columns if ":" in column}
        return table.select(list(names)).rename(names)

    return rows
