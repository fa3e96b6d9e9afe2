"""The options of the commands to begin with: a demonstration, and a study file for data of one's own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from coldray.cli.options.base import Options, OutputOptions
from coldray.cli.options.studies import study_names
from coldray.core.errors import ConfigError
from coldray.core.extras import require_extra
from coldray.core.study_files import named_file


@dataclass(frozen=True, kw_only=True)
class InitOptions(Options):
    """Which files are looked at."""

    interactions: Annotated[Path, Argument(metavar="INTERACTIONS", help="file with a row for each interaction")]
    items: Annotated[Path | None, Argument(metavar="[ITEMS]", help="file with a row for each item")] = None
    users: Annotated[Path | None, Option(metavar="FILE", help="file with a row for each user")] = None
    study: Annotated[
        str | None,
        Option(
            metavar="STUDY",
            help="study that is taken as it is but for the data; by default marec, kernel_align_users where nothing is "
            "known of the items but of the users, or ease where of neither",
            autocompletion=study_names,
        ),
    ] = None
    output: Annotated[Path | None, Option(metavar="FILE", help="file to write; by default it is printed")] = None

    def check(self) -> None:
        """Find out whether the study is there, and the file is not."""
        if self.study is not None:
            named_file(self.study, "study")
        if self.output is not None and self.output.exists():
            raise ConfigError(f"--output {self.output} is there, and would be replaced. Name another file.")


@dataclass(frozen=True, kw_only=True)
class DemoOptions(OutputOptions):
    """How the demonstration ends."""

    port: Annotated[int, Option(help="port of the service")] = 8000
    no_browser: Annotated[bool, Option("--no-browser", help="open no page")] = False
    once: Annotated[bool, Option("--once", help="end after the last step, and open no page")] = False

    def check(self) -> None:
        """Find out whether what the service needs is installed."""
        super().check()
        require_extra("serve", "The demonstration, which starts the service,")
