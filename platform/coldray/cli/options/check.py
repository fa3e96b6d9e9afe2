"""The options of the data check."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, get_args

from coldray.cli.options.base import Options, job_parser, positive, seed
from coldray.cli.options.data import add_data, source_of
from coldray.core.errors import ConfigError
from coldray.data.sources.registry import SourceConfig
from coldray.data.splits.interactions import PUBLISHED
from coldray.data.splits.items import InteractionProtocol

_PROTOCOLS = tuple(protocol for protocol in get_args(InteractionProtocol) if protocol != PUBLISHED)


@dataclass(frozen=True, kw_only=True)
class CheckOptions(Options):
    """What the data check is told."""

    source: SourceConfig
    category: Sequence[str] | None
    """Those named; all that are there if none is."""
    output: Path
    """Where reports go, absolute."""
    split: str | None
    protocol: InteractionProtocol | None
    seed: int
    n_factors: int
    users: int
    rating_scale: tuple[float, float] | None
    """The lowest rating and the highest."""
    strict: bool

    @classmethod
    def read(cls, given: argparse.Namespace, **more: Any) -> Self:
        """Return what was given on the command line."""
        scale = None if given.rating_scale is None else tuple(given.rating_scale)
        values = {"source": source_of(given), "output": given.output_dir.absolute(), "rating_scale": scale}
        options = super().read(given, **values, **more)
        if options.split is not None and options.protocol is not None:
            raise ConfigError(
                f"--split {options.split} takes published parts, --protocol {options.protocol} draws others. Name one "
                "of them."
            )
        if options.split is not None and options.source.name != "ml-100k":
            raise ConfigError(
                f"--split is read by --dataset ml-100k alone, not by {options.source.name!r}. Leave it out."
            )
        if options.rating_scale is not None:
            low, high = options.rating_scale
            if not low < high:
                raise ConfigError(
                    f"--rating-scale {low:g} {high:g}: the lowest rating comes first and is below the highest."
                )
        return options


def check_parser(description: str) -> argparse.ArgumentParser:
    """Return the parser of the data check."""
    parser = job_parser(description)
    parser.add_argument("--output-dir", type=Path, default=Path("runs"), help="where reports go")
    add_data(parser, many=True)
    split = parser.add_argument_group("split")
    split.add_argument("--split", default=None, help="split that ml-100k is published with: u1 to u5, ua, ub")
    split.add_argument(
        "--protocol",
        choices=_PROTOCOLS,
        default=None,
        help="split drawn here; unless given the published one, else leave-last, or holdout without timestamps",
    )
    split.add_argument("--seed", type=seed, default=42, help="seed of random splits and of the sample of users")
    parser.add_argument("--n-factors", type=positive, default=50, help="factors of the SVD of train")
    parser.add_argument("--users", type=positive, default=10_000, help="users whose lists are made, at most")
    parser.add_argument(
        "--rating-scale",
        type=float,
        nargs=2,
        default=None,
        metavar=("LOWEST", "HIGHEST"),
        help="ratings there should be; known of MovieLens, HetRec, Yelp and Amazon",
    )
    parser.add_argument(
        "--strict", action="store_true", help="exit with 1 if there is a leak, an empty part or a category left out"
    )
    return parser
