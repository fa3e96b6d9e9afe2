"""The options of the commands that fit one model and measure it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from typer import Argument, Option

from coldray.cli.options.base import SettingsOptions, names
from coldray.cli.options.catalogue import model_names
from coldray.cli.options.data import DataOptions
from coldray.data.splits.protocols import ColdItemProtocol, DrawnProtocol, MixedProtocol, WarmingProtocol

_SPLIT = "Split"
_Protocol: TypeAlias = Literal["item-cold", ColdItemProtocol, WarmingProtocol, MixedProtocol, DrawnProtocol]


@dataclass(frozen=True, kw_only=True)
class SplitOptions(DataOptions):
    """Which split of which data is worked on."""

    split: Annotated[
        _Protocol | None,
        Option(
            help="how the data are divided; item-cold is notebook: whole items are held out", rich_help_panel=_SPLIT
        ),
    ] = None
    seed: Annotated[int, Option(min=0, max=2**32 - 1, help="seed of the split", rich_help_panel=_SPLIT)] = 42


@dataclass(frozen=True, kw_only=True)
class FitJobOptions(SplitOptions, SettingsOptions):
    """Which model is fitted to what."""

    model: Annotated[
        str, Argument(metavar="MODEL", help="a name that 'coldray models' lists", autocompletion=model_names)
    ]
    output: Annotated[Path, Option(file_okay=False, help="folder of the bundle; an older bundle is replaced")]

    def check(self) -> None:
        """Find out whether the settings and the source can be read."""
        super().check()
        _ = self.settings


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(SplitOptions):
    """Which bundle is measured on what."""

    bundle: Annotated[Path, Argument(metavar="BUNDLE", exists=True, file_okay=False, help="folder of a bundle")]
    metrics: Annotated[
        list[str] | None,
        Option(
            callback=names,
            metavar="A,B",
            help="names with cutoffs, such as ndcg@10; by default ndcg, recall and coverage at 10",
        ),
    ] = None
    part: Annotated[
        Literal["validation", "test"],
        Option(help="validation, as often as you like; test fits the model again, with the test items known"),
    ] = "validation"
    candidates: Annotated[
        Literal["cold", "all"] | None,
        Option(help="what is ranked; the held-out cold items where a split holds out items, else all"),
    ] = None
