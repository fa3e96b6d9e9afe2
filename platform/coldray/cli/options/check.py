"""The options of the data check."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated

from typer import Option

from coldray.cli.options.base import OfSource, OutputOptions
from coldray.cli.options.data import DataOptions
from coldray.core.errors import ConfigError
from coldray.data.splits.protocols import DrawnProtocol

if TYPE_CHECKING:
    from coldray.data.splits.positives import Positives

_SPLIT = "Split"


@dataclass(frozen=True, kw_only=True)
class CheckOptions(DataOptions, OutputOptions):
    """What the data check is told."""

    split: Annotated[
        str | None,
        Option(help="split that ml-100k is published with: u1 to u5, ua, ub", rich_help_panel=_SPLIT),
        OfSource(("ml-100k",)),
    ] = None
    protocol: Annotated[
        DrawnProtocol | None,
        Option(
            help="split drawn here; unless given the published one, else leave-last, or holdout without timestamps",
            rich_help_panel=_SPLIT,
        ),
    ] = None
    seed: Annotated[
        int,
        Option(min=0, max=2**32 - 1, help="seed of random splits and of the sample of users", rich_help_panel=_SPLIT),
    ] = 42
    n_factors: Annotated[int, Option(min=1, help="factors of the SVD of train")] = 50
    most_users: Annotated[int, Option(min=1, help="users whose lists are made, at most")] = 10_000
    rating_scale: Annotated[
        tuple[float, float] | None,
        Option(
            metavar="LOWEST HIGHEST",
            help="ratings there should be; known of MovieLens, HetRec, Yelp and Amazon",
        ),
    ] = None
    positives: Annotated[
        str | None,
        Option(
            metavar="RULE",
            help="ratings that are to be found, such as '>=4', while histories keep all; counted and judged",
            rich_help_panel=_SPLIT,
        ),
    ] = None
    strict: Annotated[
        bool, Option("--strict", help="exit with 1 if there is a leak, an empty part or a category left out")
    ] = False

    @property
    def _several_categories(self) -> bool:
        return True

    def check(self) -> None:
        """Find out whether the options describe a split of a source."""
        super().check()
        _ = self.rule
        if self.split is not None and self.protocol is not None:
            raise ConfigError(
                f"--split {self.split} takes published parts, --protocol {self.protocol} draws others. Name one "
                "of them."
            )
        if self.rating_scale is not None:
            low, high = self.rating_scale
            if not low < high:
                raise ConfigError(
                    f"--rating-scale {low:g} {high:g}: the lowest rating comes first and is below the highest."
                )

    @cached_property
    def rule(self) -> Positives | None:
        """What is to be found; ConfigError if it is no comparison of ratings."""
        from coldray.data.splits.positives import Positives  # splits take a while to load

        return None if self.positives is None else Positives(rating=self.positives)

    def status(self, clean: bool) -> int:
        """Return 1 for a problem that is not to be passed over."""
        return int(self.strict and not clean)
