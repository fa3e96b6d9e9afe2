"""The options of lists for all users."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from coldray.cli.options.base import Options, add_ray, add_tracking, job_parser, positive


@dataclass(frozen=True, kw_only=True)
class ListsOptions(Options):
    """What the job is told."""

    histories: Path
    user_column: str
    item_column: str
    rating_column: str | None
    timestamp_column: str | None
    model: str | None
    """An address in the registry or a folder; None for the champion promoted last."""
    tracking_uri: str
    output: Path
    k: int
    exclude_seen: bool
    candidates: str
    """``all``, ``warm``, ``cold`` or a file."""
    partitions: int | None
    ray_address: str
    cpus: int | None


def recommend_parser(description: str) -> argparse.ArgumentParser:
    """Return the parser of the job."""
    parser = job_parser(description)
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
    add_tracking(model)
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
    add_ray(parser)
    return parser
