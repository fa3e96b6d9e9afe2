"""The command line of lists for all users."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from coldray.cli.arguments import positive
from coldray.cli.command import reported
from coldray.cli.lines import HelpFormatter, timed
from coldray.core.environment import variable


def recommend_main(description: str, arguments: Sequence[str] | None = None) -> int:
    """Make lists for all users from the command line; return the exit status."""
    options = recommend_parser(description).parse_args(arguments)
    console = Console(soft_wrap=not sys.stdout.isatty())

    def work() -> None:
        console.print(timed("loading Ray and MLflow"), highlight=False)
        from coldray.cli.jobs.recommend_all import recommend_all  # seconds of imports, after the first line is out

        recommend_all(options, console)

    return reported(work, "Partitions that are finished are kept; the same command goes on with the others.")


def recommend_parser(description: str) -> argparse.ArgumentParser:
    """Return the parser of the job."""
    parser = argparse.ArgumentParser(description=description, formatter_class=HelpFormatter)
    data = parser.add_argument_group("histories")
    data.add_argument(
        "--histories", type=Path, required=True, help="parquet file, or folder of them, of rows (user, item)"
    )
    data.add_argument("--user-column", default="user_id", help="column of user ids")
    data.add_argument("--item-column", default="item_id", help="column of item ids; empty for a user without any")
    data.add_argument("--rating-column", default=None, help="column of ratings, for a model that reads them")
    data.add_argument(
        "--timestamp-column",
        default=None,
        help="column of times, integers or dates, for a model that reads the order of clicks; that of the rows without",
    )
    model = parser.add_argument_group("model")
    model.add_argument(
        "--model",
        default=None,
        help="models:/NAME@ALIAS, models:/NAME/VERSION or the folder of a bundle; the champion promoted last if none",
    )
    default_uri = variable("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    model.add_argument("--tracking-uri", default=default_uri, help="MLflow tracking and registry URI")
    lists = parser.add_argument_group("lists")
    lists.add_argument("--output", type=Path, required=True, help="folder of the lists, which all nodes must share")
    lists.add_argument("--k", type=positive, default=10, help="length of a list")
    seen = lists.add_mutually_exclusive_group()
    seen.add_argument(
        "--exclude-seen", action="store_true", default=True, help="leave the items of a history out of its list"
    )
    seen.add_argument(
        "--keep-seen", dest="exclude_seen", action="store_false", default=True, help="let them be in it again"
    )
    lists.add_argument(
        "--candidates",
        default="all",
        help="items that may be listed: all, warm, cold, or a parquet file with the item column or a text of an id a "
        "line",
    )
    lists.add_argument("--partitions", type=positive, default=None, help="parts to write; by the number of rows")
    parser.add_argument(
        "--resume", action="store_true", help="go on with what is unfinished in --output, which is done without it too"
    )
    parser.add_argument("--ray-address", default=variable("RAY_ADDRESS", "local"), help="cluster, or 'local'")
    parser.add_argument("--cpus", type=positive, default=None, help="CPUs of a local Ray; all by default")
    return parser
