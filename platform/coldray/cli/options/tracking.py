"""The options of the commands that look after studies: what is sent to the tracking server, and how far they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from coldray.cli.options.base import ExperimentOptions, Options


@dataclass(frozen=True, kw_only=True)
class SyncOptions(ExperimentOptions):
    """What the command is told that sends what a tracking server has not taken yet."""

    studies: Annotated[
        list[str] | None, Argument(metavar="STUDY", help="names of studies; all by default", show_default=False)
    ] = None
    output_dir: Annotated[Path, Option(help="where the studies write their reports", file_okay=False)] = Path("runs")
    again: Annotated[
        bool,
        Option(
            "--again",
            help="send everything from the first call, not only what is left: what was deleted for good is made anew",
        ),
    ] = False


@dataclass(frozen=True, kw_only=True)
class StatusOptions(Options):
    """What the command is told that shows how far a study is."""

    study: Annotated[str | None, Argument(metavar="STUDY", help="name of the study; the latest by default")] = None
    output_dir: Annotated[Path, Option(help="where the study writes its report", file_okay=False)] = Path("runs")
    follow: Annotated[bool, Option("--follow", help="show it until the study has come to its end")] = False
    json: Annotated[bool, Option("--json", help="print one JSON object instead")] = False
