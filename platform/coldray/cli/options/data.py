"""The options that say which data a job reads."""

from __future__ import annotations

import argparse
from pathlib import Path

from pydantic import ValidationError

from coldray.cli.options.base import names
from coldray.core.errors import ConfigError
from coldray.data.sources.registry import FOLDER_SOURCES, SOURCES, SourceConfig
from coldray.data.sources.tabular import TabularConfig


def add_data(parser: argparse.ArgumentParser, *, many: bool) -> None:
    """Add them; with `many`, several categories may be named."""
    data = parser.add_argument_group("data")
    data.add_argument("--dataset", default="sample", help=f"one of {', '.join(SOURCES)}")
    data.add_argument("--data-dir", type=Path, default=None, help="folder of the dataset, or the folder it lies in")
    if many:
        data.add_argument(
            "--category",
            action="append",
            default=None,
            help="category of --dataset amazon; may be repeated; all there by default",
        )
    else:
        data.add_argument(
            "--category", default=None, help="category of --dataset amazon; the only one there by default"
        )
    data.add_argument("--size", default=None, help="the <size> in the names of the files of --dataset amazon")
    data.add_argument(
        "--strict-ratings", action="store_true", help="refuse ratings of --dataset amazon beyond 1 to 5, not clip them"
    )
    data.add_argument(
        "--texts",
        type=Path,
        default=None,
        metavar="FILE",
        help="CSV or parquet file with texts of items: a column item_id and one for each kind of text",
    )
    data.add_argument("--no-download", action="store_true", help="do not fetch a missing dataset")
    own = parser.add_argument_group("your own data (--dataset csv or parquet)")
    own.add_argument("--interactions", type=Path, help="file with a row for each interaction")
    own.add_argument("--items", type=Path, help="file with a row for each item and its attributes")
    own.add_argument("--user-column", default="user_id")
    own.add_argument("--item-column", default="item_id")
    own.add_argument("--rating-column", default=None)
    own.add_argument("--timestamp-column", default=None)
    own.add_argument("--label-columns", type=names, default=(), metavar="A,B", help="attributes with labels")
    own.add_argument("--label-separator", default="|")
    own.add_argument("--number-columns", type=names, default=(), metavar="A,B", help="attributes with numbers")
    own.add_argument("--text-columns", type=names, default=(), metavar="A,B", help="attributes with text")


def source_of(given: argparse.Namespace) -> SourceConfig:
    """Return the data source the options describe.

    Raises
    ------
    ConfigError
        If the source is unknown, its own files are not named, or files or a folder are named that it does not read.
    """
    tabular = None
    if given.dataset in ("csv", "parquet"):
        if given.interactions is None:
            raise ConfigError(f"--dataset {given.dataset} needs --interactions FILE (and --items FILE for attributes).")
        try:
            tabular = TabularConfig(
                **{name: value for name, value in vars(given).items() if name in TabularConfig.model_fields}
            )
        except ValidationError as error:
            problem = error.errors()[0]
            option = "--" + "-".join(map(str, problem["loc"])).replace("_", "-")
            raise ConfigError(f"{option}: {problem['msg']}, got {problem['input']!r}.") from error
    elif given.interactions is not None or given.items is not None:
        raise ConfigError(
            f"--interactions and --items are read by --dataset csv and parquet alone, not by {given.dataset!r}."
        )
    source = SourceConfig(
        name=given.dataset,
        data_dir=given.data_dir,
        category=None if isinstance(given.category, list) else given.category,
        size=given.size,
        strict=given.strict_ratings,
        tabular=tabular,
        texts=given.texts,
        download=not given.no_download,
    )
    for option in ("category", "size", "strict_ratings"):
        if getattr(given, option) and source.name != "amazon":
            raise ConfigError(
                f"--{option.replace('_', '-')} is read by --dataset amazon alone, not by {source.name!r}. Leave it out."
            )
    if source.data_dir is not None and not SOURCES[source.name].in_folder:
        raise ConfigError(
            f"--data-dir is read by --dataset {', '.join(FOLDER_SOURCES)} alone, not by {source.name!r}. Leave it "
            "out, or name one of them."
        )
    return source
