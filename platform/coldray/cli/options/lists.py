"""The options of lists for all users."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from typer import Option

from coldray.cli.options.base import RayOptions, TrackingOptions

_HISTORIES, _LISTS = "Histories", "Lists"


@dataclass(frozen=True, kw_only=True)
class ListsOptions(TrackingOptions, RayOptions):
    """What the job is told."""

    histories: Annotated[
        Path, Option(help="parquet file, or folder of them, of rows (user, item)", rich_help_panel=_HISTORIES)
    ]
    user_column: Annotated[str, Option(help="column of user ids", rich_help_panel=_HISTORIES)] = "user_id"
    item_column: Annotated[
        str, Option(help="column of item ids; empty for a user without any", rich_help_panel=_HISTORIES)
    ] = "item_id"
    rating_column: Annotated[
        str | None, Option(help="column of ratings, for a model that reads them", rich_help_panel=_HISTORIES)
    ] = None
    timestamp_column: Annotated[
        str | None,
        Option(
            help="column of times, integers or dates, for a model that reads the order of clicks; that of the rows "
            "without",
            rich_help_panel=_HISTORIES,
        ),
    ] = None
    model: Annotated[
        str | None,
        Option(
            help="models:/NAME@ALIAS, models:/NAME/VERSION or the folder of a bundle; the champion promoted last if "
            "none"
        ),
    ] = None
    output: Annotated[
        Path, Option(help="folder of the lists, which all nodes must share", file_okay=False, rich_help_panel=_LISTS)
    ]
    k: Annotated[int, Option(min=1, help="length of a list", rich_help_panel=_LISTS)] = 10
    exclude_seen: Annotated[
        bool,
        Option(
            "--exclude-seen/--keep-seen",
            help="leave the items of a history out of its list, or let them be in it again",
            rich_help_panel=_LISTS,
        ),
    ] = True
    candidates: Annotated[
        str,
        Option(
            help="items that may be listed: all, warm, cold, or a parquet file with the item column or a text of an id "
            "a line",
            rich_help_panel=_LISTS,
        ),
    ] = "all"
    partitions: Annotated[
        int | None, Option(min=1, help="parts to write; by the number of rows", rich_help_panel=_LISTS)
    ] = None
    resume: Annotated[
        bool, Option("--resume", help="go on with what is unfinished in --output, which is done without it too")
    ] = False
