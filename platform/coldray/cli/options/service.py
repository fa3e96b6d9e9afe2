"""The options of the service."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from typer import Option

from coldray.bundle import MIN_ITEM_OVERLAP
from coldray.cli.options.base import RayOptions, TrackingOptions, registry_name
from coldray.core.extras import require_extra

KEYS_VARIABLE = "COLDRAY_KEYS"
"""The environment variable that holds the lines of keys where no file does, parted by semicolons."""
_MODEL, _VERSIONS, _ACCESS = "Model", "Other versions of the model", "Access"


@dataclass(frozen=True, kw_only=True)
class ServeOptions(TrackingOptions, RayOptions):
    """What the service is told."""

    model_name: Annotated[
        str | None,
        Option(
            callback=registry_name,
            help="registered model; the latest one promoted unless given",
            rich_help_panel=_MODEL,
        ),
    ] = None
    alias: Annotated[str, Option(help="alias of the version to serve, which may move", rich_help_panel=_MODEL)] = (
        "champion"
    )
    bundle: Annotated[
        Path | None,
        Option(file_okay=False, help="folder of a bundle, in the place of a registered model", rich_help_panel=_MODEL),
    ] = None
    min_item_overlap: Annotated[
        float,
        Option(
            help="share of the champion's items that a version must know to follow it; 0 lets any follow, of whatever "
            "data",
            rich_help_panel=_MODEL,
        ),
    ] = MIN_ITEM_OVERLAP
    canary_alias: Annotated[
        str | None, Option(help="alias of a version that answers some of the users", rich_help_panel=_VERSIONS)
    ] = None
    canary_share: Annotated[float, Option(help="share of the users that it answers", rich_help_panel=_VERSIONS)] = 0.05
    shadow_alias: Annotated[
        str | None, Option(help="alias of a version that is asked too and compared", rich_help_panel=_VERSIONS)
    ] = None
    shadow_share: Annotated[
        float, Option(help="share of the lists that it is asked for", rich_help_panel=_VERSIONS)
    ] = 1.0
    store: Annotated[str | None, Option(help="database URL of new items and feedback; a file beside the output")] = None
    cache: Annotated[
        str, Option(help="where lists are kept that may be asked for again: 'memory', the URL of a Redis, or 'none'")
    ] = "memory"
    exploration: Annotated[
        Literal["none", "linucb", "thompson"],
        Option(help="how items are tried out that may be better than is known; /v1/feedback is what it learns from"),
    ] = "none"
    output_dir: Annotated[Path, Option(help="folder of that file", file_okay=False)] = Path("runs")
    host: Annotated[str, Option(help="address to listen on")] = "127.0.0.1"
    port: Annotated[int, Option(help="port to listen on")] = 8000
    replicas: Annotated[int, Option(help="processes that answer; each takes a CPU")] = 1
    keys: Annotated[
        Path | None,
        Option(
            help=f"file of keys of those who may ask; the variable {KEYS_VARIABLE} if none", rich_help_panel=_ACCESS
        ),
    ] = None
    open: Annotated[
        bool, Option("--open", help="let everybody ask, from other machines too", rich_help_panel=_ACCESS)
    ] = False
    new_key: Annotated[
        str | None,
        Option(metavar="NAME", help="print a new key and its line for --keys, and end", rich_help_panel=_ACCESS),
    ] = None

    def check(self) -> None:
        """Find out whether what the service needs is installed."""
        super().check()
        if self.new_key is None:
            require_extra("serve", "The service")
