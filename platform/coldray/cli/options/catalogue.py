"""The options of the commands that show which models and datasets there are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from typer import Argument, Option

from coldray.cli.options.base import Options
from coldray.cli.options.data import DataOptions, source_names


def model_names(incomplete: str) -> list[str]:
    """Return the names of models that begin so, for a shell."""
    from coldray.models.registry import MODELS  # what models are made of takes half a second to load

    return [name for name in MODELS if name.startswith(incomplete)]


@dataclass(frozen=True, kw_only=True)
class ModelsOptions(Options):
    """Which model is shown."""

    model: Annotated[
        str | None,
        Argument(metavar="MODEL", help="show the parameters of this one", autocompletion=model_names),
    ] = None


@dataclass(frozen=True, kw_only=True)
class DatasetsOptions(DataOptions):
    """Which dataset is shown."""

    dataset: Annotated[
        str | None,
        Argument(metavar="NAME", help="read this one, and describe it", autocompletion=source_names),
    ] = None
    fetch: Annotated[bool, Option("--fetch", help="download it if it is not there and can be downloaded")] = False

    def check(self) -> None:
        """Find out whether the options describe a source, if one is named."""
        if self.dataset is not None or self.interactions is not None:
            super().check()
