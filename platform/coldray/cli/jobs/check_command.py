"""The command line of the data check."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import get_args

from rich.console import Console

from coldray.cli.arguments import data_parser, positive, source_of
from coldray.cli.command import reported
from coldray.cli.lines import timed
from coldray.core.errors import ConfigError
from coldray.data.splits.interactions import PUBLISHED
from coldray.data.splits.items import InteractionProtocol

PROTOCOLS = tuple(protocol for protocol in get_args(InteractionProtocol) if protocol != PUBLISHED)


def check_main(description: str, arguments: Sequence[str] | None = None) -> int:
    """Check data from the command line; return its exit status.

    It is 1 if nothing could be checked or, under ``--strict``, if there is a problem: a leak, a part without
    interactions, or a category that is left out.
    """
    options = check_parser(description).parse_args(arguments)
    console = Console(soft_wrap=not sys.stdout.isatty())
    clean = False

    def work() -> None:
        nonlocal clean
        check_options(options)
        console.print(timed("loading torch and matplotlib"), highlight=False)
        from coldray.cli.jobs.check_data import check_data  # seconds of imports, after the first line is out

        clean = check_data(options, console)

    return reported(work) or int(options.strict and not clean)


def check_parser(description: str) -> argparse.ArgumentParser:
    """Return the parser of the data check."""
    parser = data_parser(description)
    split = parser.add_argument_group("split")
    split.add_argument("--split", default=None, help="split that ml-100k is published with: u1 to u5, ua, ub")
    split.add_argument(
        "--protocol",
        choices=PROTOCOLS,
        default=None,
        help="split drawn here; unless given the published one, else leave-last, or holdout without timestamps",
    )
    split.add_argument("--seed", type=_seed, default=42, help="seed of random splits and of the sample of users")
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


def check_options(options: argparse.Namespace) -> None:
    """Raise :class:`~coldray.core.errors.ConfigError` for options that exclude each other or name nothing."""
    source = source_of(options)
    if options.split is not None and options.protocol is not None:
        raise ConfigError(
            f"--split {options.split} takes published parts, --protocol {options.protocol} draws others. Name one of "
            "them."
        )
    if options.split is not None and source.name != "ml-100k":
        raise ConfigError(f"--split is read by --dataset ml-100k alone, not by {source.name!r}. Leave it out.")
    if options.rating_scale is not None and not options.rating_scale[0] < options.rating_scale[1]:
        low, high = options.rating_scale
        raise ConfigError(f"--rating-scale {low:g} {high:g}: the lowest rating comes first and is below the highest.")


def _seed(text: str) -> int:
    number = int(text)
    if not 0 <= number < 2**32:
        raise argparse.ArgumentTypeError(f"{number} is no seed from 0 to {2**32 - 1}")
    return number
