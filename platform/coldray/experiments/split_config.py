"""The splits of a study, as its file names them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any, Self, TypeAlias, get_args

from pydantic import Field, PositiveInt, field_validator, model_validator

from coldray.core.errors import ConfigError, DataFileError
from coldray.core.spelling import choices
from coldray.data.sources.locations import found_below
from coldray.data.splits.interactions import check_interaction_protocol
from coldray.data.splits.items import HeldOut
from coldray.data.splits.protocols import InteractionProtocol, Protocol
from coldray.experiments.settings import Section

Share: TypeAlias = Annotated[float, Field(gt=0, lt=1)]

_FILES = ("items", "only_users")
"""Fields that name files."""
_READ_BY = {
    "test_share": ("holdout", "temporal", "per-user-temporal", "user-holdout"),
    "validation_share": ("holdout", "temporal", "per-user-temporal", "user-holdout", "predefined"),
    "last": ("leave-last",),
    "given_share": ("user-holdout",),
    "name": ("predefined",),
    "items": ("item-file",),
    "only_users": ("item-file",),
}
"""Which protocols read a field of the splits."""


class SplitConfig(Section):
    """The splits every configuration is evaluated on: `n_splits` for each seed."""

    protocol: Protocol = "notebook"
    """``notebook``, ``balanced`` and ``item-file`` hold out items, which are cold then; the others hold out
    interactions, see :func:`~coldray.data.splits.interactions.interaction_splits`. ``predefined`` takes the published
    parts, ``item-file`` those of `items`."""
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
        try:
            return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in named.items()}
        except OSError as error:
            raise DataFileError(f"A file of the splits cannot be read: {error}.") from error

    @property
    def drawn_by(self) -> dict[str, Any]:
        """The arguments of :func:`~coldray.data.splits.interactions.interaction_splits`."""
        return self.model_dump(exclude={"name", "users", *_FILES})

    @property
    def holds_out_items(self) -> bool:
        """True if whole items are held out, False if interactions are."""
        return self.protocol not in get_args(InteractionProtocol)

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
        if not self.holds_out_items:
            check_interaction_protocol(self.protocol, self.n_splits, self.seeds)
        return self
