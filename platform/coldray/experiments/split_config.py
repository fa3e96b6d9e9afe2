"""The splits of a study, as its file names them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Self, TypeAlias, get_args

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator, model_validator

from coldray.core.errors import ConfigError, DataFileError
from coldray.core.spelling import choices
from coldray.data.dataset import Dataset
from coldray.data.sources.locations import found_below
from coldray.data.splits.interactions import check_interaction_protocol, interaction_splits
from coldray.data.splits.item_file import item_file_split
from coldray.data.splits.items import HeldOut, Split, cold_item_splits
from coldray.data.splits.protocols import ColdItemProtocol, MixedProtocol, Protocol, WarmingProtocol
from coldray.data.splits.recsys_cold import recsys_cold_splits
from coldray.data.splits.split_files import split_files
from coldray.data.splits.warming import WARMING_CLICKS, warming_splits
from coldray.experiments.settings import Section

Share: TypeAlias = Annotated[float, Field(gt=0, lt=1)]

_FILES = ("items", "only_users", "folder")
"""Fields that name files, or a folder of them."""
_OF_SHARES = ("holdout", "temporal", "per-user-temporal", "user-holdout", "user-warming", "user-cold")
_READ_BY = {
    "test_share": _OF_SHARES,
    "validation_share": (*_OF_SHARES, "predefined"),
    "last": ("leave-last",),
    "given_share": ("user-holdout",),
    "name": ("predefined",),
    "items": ("item-file",),
    "only_users": ("item-file",),
    "clicks": ("item-warming", "user-warming"),
    "warm_share": ("item-warming",),
    "folder": ("recsys-cold",),
}
"""Which protocols read a field of the splits."""


class SplitConfig(Section):
    """The splits every configuration is evaluated on: `n_splits` for each seed."""

    protocol: Protocol = "notebook"
    """``notebook``, ``balanced`` and ``item-file`` hold out items, which are cold then; ``recsys-cold`` holds out items
    and clicks on the others, see :mod:`~coldray.data.splits.recsys_cold`; the others hold out interactions, see
    :func:`~coldray.data.splits.interactions.interaction_splits`. ``predefined`` takes the published parts,
    ``item-file`` those of `items`."""
    n_splits: PositiveInt = 3
    """Splits for each seed; the folds of ``k-fold``. The protocols by time have one."""
    seeds: tuple[int, ...] = Field(default=(42,), min_length=1)
    test_share: Share = 0.2
    """Share of test of ``holdout``, ``temporal`` and ``per-user-temporal``, and of the users of ``user-holdout``."""
    validation_share: Share = 0.2
    """Share of validation in what is left by the test; of ``predefined`` read where no validation part is published."""
    last: PositiveInt = 1
    """Interactions of each user in test, and in validation, of ``leave-last``."""
    given_share: Share = 0.8
    """Share of a held-out user's interactions that is given, of ``user-holdout``."""
    name: str | None = None
    """Which of the splits that the data are published with, of ``predefined``: ``u1`` of MovieLens 100K. Null where
    there is one."""

    items: Path | None = None
    """Table of ``item-file``: a column ``part`` (``validation``, ``test``, ``train``) and one of ids; see
    :func:`~coldray.data.splits.item_file.item_file_split`. It is looked for in the folder of the file, then in that of
    the data (COLDRAY_DATA)."""
    only_users: Path | None = None
    """Table of ``item-file`` with ids of the users whose lists are measured; null for all."""
    folder: Path | None = None
    """Folder of the split files of ``recsys-cold``, see :mod:`~coldray.data.splits.split_files`, looked for as `items`.
    Null: the split is drawn by the seed."""

    clicks: tuple[NonNegativeInt, ...] | None = Field(default=None, min_length=1)
    """Numbers n of known clicks, ascending, of ``item-warming`` and ``user-warming``: the first n of each cold item, or
    user, are known, the later ones are to be found. Null: 0, 1, 2, 5, 10, 20 and, of items, 50."""
    warm_share: float = Field(default=0.2, ge=0, lt=1)
    """Of ``item-warming``: share of each user's clicks on train items that is test, and of the rest that validates."""
    users: PositiveInt | None = None
    """Users of each split whose lists are measured, drawn by its seed; null for all. Models are fitted on all."""

    def below(self, folder: Path) -> Self:
        """Return the same with the paths of files that a file in `folder` names."""
        named = {name: getattr(self, name) for name in _FILES}
        return self.model_copy(
            update={name: None if path is None else found_below(path, folder) for name, path in named.items()}
        )

    def digests(self) -> dict[str, str]:
        """Return the SHA-256 of each file that is named, by field: what the splits are is in them.

        Raises
        ------
        DataFileError
            If one cannot be read.
        """
        named = {name: path for name in _FILES if (path := getattr(self, name)) is not None}
        files = {name: sorted(split_files(path)) if name == "folder" else [path] for name, path in named.items()}
        try:
            return {name: _digest(paths) for name, paths in files.items()}
        except OSError as error:
            raise DataFileError(f"A file of the splits cannot be read: {error}.") from error

    @property
    def holds_out_items(self) -> bool:
        """True if whole items are held out for good, False if interactions are."""
        return self.protocol in get_args(ColdItemProtocol)

    @property
    def warms_items(self) -> bool:
        """True if cold items become known click by click."""
        return self.protocol == "item-warming"

    @property
    def warms(self) -> bool:
        """True if cold items or users become known click by click."""
        return self.protocol in get_args(WarmingProtocol)

    @property
    def mixes(self) -> bool:
        """True if cold items stand beside warm ones whose clicks are held out, too."""
        return self.protocol in get_args(MixedProtocol)

    @property
    def ranks_cold(self) -> bool:
        """True if there are cold items that may be ranked among themselves."""
        return self.holds_out_items or self.warms_items or self.mixes

    @property
    def schedule(self) -> tuple[int, ...]:
        """Numbers of known clicks at which is measured; none where nothing becomes known."""
        return self.clicks or WARMING_CLICKS.get(self.protocol, ())

    @property
    def held_out(self) -> HeldOut:
        """What validation and test consist of."""
        return "items" if self.holds_out_items else "interactions"

    @field_validator("seeds")
    @classmethod
    def _drawn_once(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        for seed in seeds:
            if not 0 <= seed < 2**32:
                raise ValueError(f"A seed is from 0 to {2**32 - 1}, not {seed}")
            if seeds.count(seed) > 1:
                raise ValueError(f"The seed {seed} is listed twice and would give the same splits again")
        return seeds

    @model_validator(mode="after")
    def _check_protocol(self) -> Self:
        for name, protocols in _READ_BY.items():
            value = getattr(self, name)
            if self.protocol not in protocols and value != type(self).model_fields[name].default:
                raise ConfigError(
                    f"splits.{name}: {value} is not read by the protocol {self.protocol!r}, but by "
                    f"{choices(protocols)}. Leave it out."
                )
        if self.protocol == "item-file" and (self.items is None or self.n_splits * len(self.seeds) > 1):
            what = "needs items: the table of parts" if self.items is None else "gives one split: n_splits: 1, one seed"
            raise ConfigError(f"splits: the protocol 'item-file' {what}.")
        if self.folder is not None and self.n_splits * len(self.seeds) > 1:
            raise ConfigError("splits.folder: split files give one split: n_splits: 1, one seed.")
        if self.clicks is not None and any(later <= n for n, later in pairwise(self.clicks)):
            raise ConfigError(f"splits.clicks: {list(self.clicks)} do not ascend. Write numbers such as [0, 1, 5, 20].")
        if not (self.holds_out_items or self.warms or self.mixes):
            check_interaction_protocol(self.protocol, self.n_splits, self.seeds)
        return self


def _digest(paths: Sequence[Path]) -> str:
    """Return the SHA-256 of files, one after another."""
    found = hashlib.sha256()
    for path in paths:
        found.update(path.read_bytes())
    return found.hexdigest()


def drawn_splits(dataset: Dataset, config: SplitConfig) -> list[Split]:
    """Return the splits of a dataset by any protocol but ``predefined``: `n_splits` for each seed.

    Raises
    ------
    ConfigError
        If the data do not go with the protocol.
    EmptyDatasetError
        If a part is left without interactions.
    """
    if config.protocol == "item-file" and config.items is not None:
        return [item_file_split(dataset, config.items, config.only_users, seed=config.seeds[0])]
    if config.protocol in get_args(ColdItemProtocol):
        return [
            split
            for seed in config.seeds
            for split in cold_item_splits(dataset, protocol=config.protocol, n_splits=config.n_splits, seed=seed)
        ]
    if config.mixes:
        return list(recsys_cold_splits(dataset, n_splits=config.n_splits, seeds=config.seeds, folder=config.folder))
    if config.warms:
        shares = {name: getattr(config, name) for name in ("warm_share", "test_share", "validation_share")}
        return list(
            warming_splits(
                dataset,
                protocol=config.protocol,
                n_splits=config.n_splits,
                seeds=config.seeds,
                clicks=config.schedule,
                **shares,
            )
        )
    fields = ("protocol", "n_splits", "seeds", "test_share", "validation_share", "last", "given_share")
    return list(interaction_splits(dataset, **{name: getattr(config, name) for name in fields}))
