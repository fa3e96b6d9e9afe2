"""The options of the check of the machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from typer import Option

from coldray.cli.options.base import OutputOptions, RayOptions, TrackingOptions


@dataclass(frozen=True, kw_only=True)
class DoctorOptions(TrackingOptions, RayOptions, OutputOptions):
    """What is looked at."""

    store: Annotated[
        str | None, Option(help="database URL of the service; a file in the output folder unless given")
    ] = None

    def status(self, clean: bool) -> int:
        """Return 1 for a problem."""
        return int(not clean)
