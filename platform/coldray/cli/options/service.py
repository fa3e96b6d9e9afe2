"""The options of the serving job."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from coldray.bundle.family import MIN_ITEM_OVERLAP
from coldray.cli.options.base import Options, add_ray, add_tracking, job_parser, registry_name

KEYS_VARIABLE = "COLDRAY_KEYS"
"""The environment variable that holds the lines of keys where no file does, parted by semicolons."""


@dataclass(frozen=True, kw_only=True)
class ServeOptions(Options):
    """What the job is told."""

    tracking_uri: str
    model_name: str | None
    alias: str
    bundle: Path | None
    min_item_overlap: float
    canary_alias: str | None
    canary_share: float
    shadow_alias: str | None
    shadow_share: float
    store: str | None
    cache: str
    exploration: Literal["none", "linucb", "thompson"]
    output_dir: Path
    host: str
    keys: Path | None
    open: bool
    new_key: str | None
    port: int
    replicas: int
    ray_address: str
    cpus: int | None


def serve_parser(description: str) -> argparse.ArgumentParser:
    """Return the parser of the serving job."""
    parser = job_parser(description)
    model = parser.add_argument_group("model")
    add_tracking(model)
    model.add_argument(
        "--model-name", type=registry_name, default=None, help="registered model; the latest one promoted unless given"
    )
    model.add_argument("--alias", default="champion", help="alias of the version to serve, which may move")
    model.add_argument(
        "--bundle", type=Path, default=None, help="folder of a bundle, in the place of a registered model"
    )
    model.add_argument(
        "--min-item-overlap",
        type=float,
        default=MIN_ITEM_OVERLAP,
        help="share of the champion's items that a version must know to follow it; 0 lets any follow, of whatever data",
    )
    versions = parser.add_argument_group("other versions of the model")
    versions.add_argument("--canary-alias", default=None, help="alias of a version that answers some of the users")
    versions.add_argument("--canary-share", type=float, default=0.05, help="share of the users that it answers")
    versions.add_argument("--shadow-alias", default=None, help="alias of a version that is asked too and compared")
    versions.add_argument("--shadow-share", type=float, default=1.0, help="share of the lists that it is asked for")
    parser.add_argument(
        "--store", default=None, help="database URL of new items and feedback; a file beside the output"
    )
    parser.add_argument(
        "--cache",
        default="memory",
        help="where lists are kept that may be asked for again: 'memory', the URL of a Redis, or 'none'",
    )
    parser.add_argument(
        "--exploration",
        choices=("none", "linucb", "thompson"),
        default="none",
        help="how items are tried out that may be better than is known; /v1/feedback is what it learns from",
    )
    parser.add_argument("--output-dir", type=Path, default=Path("runs"), help="folder of that file")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    access = parser.add_argument_group("access")
    access.add_argument(
        "--keys",
        type=Path,
        default=None,
        help=f"file of keys of those who may ask; the variable {KEYS_VARIABLE} if none",
    )
    access.add_argument("--open", action="store_true", help="let everybody ask, from other machines too")
    access.add_argument(
        "--new-key", metavar="NAME", default=None, help="print a new key and its line for --keys, and end"
    )
    parser.add_argument("--port", type=int, default=8000, help="port to listen on")
    parser.add_argument("--replicas", type=int, default=1, help="processes that answer; each takes a CPU")
    add_ray(parser)
    return parser
