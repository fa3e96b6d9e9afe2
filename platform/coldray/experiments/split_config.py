"""The splits of a study, as its file names them."""

from __future__ import annotations

from typing import Annotated, Self, TypeAlias, get_args

from pydantic import Field, PositiveInt, field_validator, model_validator

from coldray.core.errors import ConfigError
from coldray.core.spelling import choices
from coldray.data.splits.interactions import check_interaction_protocol
from coldray.data.splits.items import HeldOut
from coldray.data.splits.protocols import InteractionProtocol, Protocol
from coldray.experiments.settings import Section

Share: TypeAlias = Annotated[float, Field(gt=0, lt=1)]

_READ_BY = {
    "test_share": ("holdout", "temporal", "per-user-temporal", "user-holdout"),
    "validation_share": ("holdout", "temporal", "per-user-temporal", "user-holdout", "predefined"),
    "last": ("leave-last",),
    "given_share": ("user-holdout",),
    "name": ("predefined",),
}
"""Which protocols read a field of the splits."""


class SplitConfig(Section):
    """The splits every configuration is evaluated on: `n_splits` for each seed."""

    protocol: Protocol = "notebook"
    """``notebook`` and ``balanced`` hold out items, which are cold then; the others hold out interactions, see
    :func:`~coldray.data.splits.interactions.interaction_splits`. ``predefined`` takes the published parts."""
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

    users: PositiveInt | None = None
    """Users of each split whose lists are measured, drawn by its seed; null for all. Models are fitted on all."""

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
        if not self.holds_out_items:
            check_interaction_protocol(self.protocol, self.n_splits, self.seeds)
        return self
