"""The options that say which data a job reads."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

from typer import Option

from coldray.cli.options.base import OfSource, Options, names, told_of
from coldray.core.errors import ConfigError

if TYPE_CHECKING:
    from coldray.data.sources.registry import SourceConfig
    from coldray.data.sources.tabular import TabularConfig

_Config = TypeVar("_Config", "SourceConfig", "TabularConfig")
_DATA = "Data"
_OWN = "Data of your own"
_TABLES = ("csv", "parquet")
_NAMES: dict[str, Any] = {"callback": names, "metavar": "A,B", "rich_help_panel": _OWN}


def source_names(incomplete: str) -> list[str]:
    """Return the names of sources that begin so, for a shell."""
    from coldray.data.sources.registry import SOURCES  # reads tables, which takes half a second to load

    return [name for name in SOURCES if name.startswith(incomplete)]


@dataclass(frozen=True, kw_only=True)
class DataOptions(Options):
    """Which data a job reads."""

    dataset: Annotated[
        str | None,
        Option(
            metavar="NAME",
            help="a name that 'coldray datasets' lists; with --help behind it, the options of that one are shown",
            show_default="sample",
            rich_help_panel=_DATA,
            autocompletion=source_names,
        ),
    ] = None
    data_dir: Annotated[
        Path | None, Option(help="folder of the dataset, or the folder it lies in", rich_help_panel=_DATA)
    ] = None
    category: Annotated[
        list[str] | None,
        Option(help="category of --dataset amazon, may be repeated; all there by default", rich_help_panel=_DATA),
        OfSource(("amazon",)),
    ] = None
    size: Annotated[
        str | None,
        Option(help="the <size> in the names of the files of --dataset amazon", rich_help_panel=_DATA),
        OfSource(("amazon",)),
    ] = None
    strict_ratings: Annotated[
        bool,
        Option(
            "--strict-ratings",
            help="refuse ratings of --dataset amazon beyond 1 to 5, not clip them",
            rich_help_panel=_DATA,
        ),
        OfSource(("amazon",)),
    ] = False
    texts: Annotated[
        Path | None,
        Option(
            metavar="FILE",
            help="CSV or parquet file with texts of items: a column item_id and one for each kind of text",
            rich_help_panel=_DATA,
        ),
    ] = None
    item_vectors: Annotated[
        list[str] | None,
        Option(
            metavar="NAME=FILE",
            help="attribute of items from a file of vectors by id (.pt, .npz, .parquet): image=images.npz; may be "
            "repeated",
            rich_help_panel=_DATA,
        ),
    ] = None
    user_vectors: Annotated[
        list[str] | None,
        Option(metavar="NAME=FILE", help="the same of users; may be repeated", rich_help_panel=_DATA),
    ] = None
    tags: Annotated[
        Path | None,
        Option(
            metavar="FOLDER",
            help="folder with movie_tags.dat and tags.dat of HetRec, for --dataset ml1m-hetrec",
            rich_help_panel=_DATA,
        ),
        OfSource(("ml1m-hetrec",)),
    ] = None
    reviews: Annotated[
        int,
        Option(
            min=0,
            max=10,
            help="reviews of a business of --dataset yelp that are texts of it, its first",
            rich_help_panel=_DATA,
        ),
        OfSource(("yelp",)),
    ] = 0
    no_download: Annotated[
        bool, Option("--no-download", help="do not fetch a missing dataset", rich_help_panel=_DATA)
    ] = False
    interactions: Annotated[
        Path | None,
        Option(
            metavar="FILE",
            help="CSV or parquet file with a row for each interaction; with --help behind it, the options of its "
            "columns are shown",
            rich_help_panel=_OWN,
        ),
    ] = None
    items: Annotated[
        Path | None,
        Option(metavar="FILE", help="file with a row for each item and its attributes", rich_help_panel=_OWN),
    ] = None
    users: Annotated[
        Path | None,
        Option(metavar="FILE", help="file with a row for each user and what is known of them", rich_help_panel=_OWN),
    ] = None
    user_column: Annotated[str, Option(rich_help_panel=_OWN), OfSource(_TABLES)] = "user_id"
    item_column: Annotated[str, Option(rich_help_panel=_OWN), OfSource(_TABLES)] = "item_id"
    rating_column: Annotated[str | None, Option(rich_help_panel=_OWN), OfSource(_TABLES)] = None
    timestamp_column: Annotated[str | None, Option(rich_help_panel=_OWN), OfSource(_TABLES)] = None
    event_column: Annotated[
        str | None,
        Option(help="kind of each interaction, such as view and purchase", rich_help_panel=_OWN),
        OfSource(_TABLES),
    ] = None
    event_weights: Annotated[
        str | None,
        Option(metavar="KIND=W,KIND=W", help="what each kind is worth: purchase=5,view=1", rich_help_panel=_OWN),
        OfSource(_TABLES),
    ] = None
    context_label_columns: Annotated[
        list[str] | None,
        Option(help="labels that were known before each interaction, such as the device", **_NAMES),
        OfSource(_TABLES),
    ] = None
    context_number_columns: Annotated[
        list[str] | None, Option(help="numbers that were known before each interaction", **_NAMES), OfSource(_TABLES)
    ] = None
    label_columns: Annotated[list[str] | None, Option(help="attributes with labels", **_NAMES), OfSource(_TABLES)] = (
        None
    )
    label_separator: Annotated[str, Option(rich_help_panel=_OWN), OfSource(_TABLES)] = "|"
    first_labels: Annotated[
        str | None,
        Option(
            metavar="COLUMN=N,…",
            help="how many labels are read, the first ones: cast=5; of HetRec by the rank of actors: actors=5",
            rich_help_panel=_OWN,
        ),
        OfSource((*_TABLES, "hetrec", "ml1m-hetrec")),
    ] = None
    number_columns: Annotated[list[str] | None, Option(help="attributes with numbers", **_NAMES), OfSource(_TABLES)] = (
        None
    )
    text_columns: Annotated[list[str] | None, Option(help="attributes with text", **_NAMES), OfSource(_TABLES)] = None
    user_label_columns: Annotated[
        list[str] | None, Option(help="attributes of users with labels", **_NAMES), OfSource(_TABLES)
    ] = None
    user_number_columns: Annotated[
        list[str] | None, Option(help="attributes of users with numbers", **_NAMES), OfSource(_TABLES)
    ] = None
    user_text_columns: Annotated[
        list[str] | None, Option(help="attributes of users with text", **_NAMES), OfSource(_TABLES)
    ] = None

    @property
    def _several_categories(self) -> bool:
        """Whether each of several categories is read, one after another."""
        return False

    def check(self) -> None:
        """Find out whether the options describe a source."""
        super().check()
        _ = self.source

    @cached_property
    def source(self) -> SourceConfig:
        """The data source that the options describe.

        Raises
        ------
        ConfigError
            If the source is unknown, its own files are not named, or something is given that it does not read.
        """
        from coldray.data.sources.locations import found_below
        from coldray.data.sources.registry import (  # reads tables, half a second to load
            FOLDER_SOURCES,
            SOURCES,
            SourceConfig,
        )

        name = source_name(self.dataset, self.interactions)
        if name not in _TABLES and not self.interactions is self.items is self.users is None:
            raise ConfigError(
                f"--interactions, --items and --users are read by --dataset csv and parquet alone, not by {name!r}."
            )
        categories, readers = self.category or [], sources_of(type(self))
        source = _built(
            SourceConfig,
            name=name,
            data_dir=self.data_dir,
            category=None if self._several_categories or not categories else categories[0],
            size=self.size,
            strict=self.strict_ratings,
            tabular=self._tables(name) if name in _TABLES else None,
            texts=self.texts,
            item_vectors=_named_files("--item-vectors", self.item_vectors),
            user_vectors=_named_files("--user-vectors", self.user_vectors),
            tags=None if self.tags is None or name not in readers["tags"] else found_below(self.tags, Path()),
            first_labels=None if name in _TABLES or name not in readers["first_labels"] else self.first_labels,
            reviews=self.reviews if name in readers["reviews"] else 0,
            download=not self.no_download,
        )
        for option, those in readers.items():
            if name not in those and getattr(self, option) != type(self).__dataclass_fields__[option].default:
                raise ConfigError(
                    f"--{option.replace('_', '-')} is read by --dataset {' and '.join(those)} alone, not by "
                    f"{name!r}. Leave it out."
                )
        if len(categories) > 1 and not self._several_categories:
            raise ConfigError(f"One category is read here, and --category names {', '.join(categories)}. Name one.")
        if self.data_dir is not None and not SOURCES[name].in_folder:
            raise ConfigError(
                f"--data-dir is read by --dataset {', '.join(FOLDER_SOURCES)} alone, not by {name!r}. Leave it out, or "
                "name one of them."
            )
        return source

    def source_for(self, written: SourceConfig | None) -> SourceConfig:
        """Return the source that is read: that of the options if they name any data, else that of the file."""
        defaults = {one.name: one.default for one in fields(DataOptions)}
        named = any(getattr(self, name) != default for name, default in defaults.items() if name != "command")
        return self.source if written is None or named else written

    def _tables(self, name: str) -> TabularConfig:
        """Return the tables of one's own data, and what their columns mean."""
        from coldray.data.sources.tabular import TabularConfig

        if self.interactions is None:
            raise ConfigError(
                f"--dataset {name} needs --interactions FILE (and --items FILE, --users FILE for attributes)."
            )
        values = {field: getattr(self, field, None) for field in TabularConfig.model_fields}
        return _built(TabularConfig, **{field: value for field, value in values.items() if value is not None})


def _built(kind: type[_Config], **values: Any) -> _Config:
    """Return a config of options; ConfigError with the option whose value it does not take."""
    from pydantic import ValidationError

    try:
        return kind(**values)
    except ValidationError as error:
        problem = error.errors()[0]
        option = "--" + "-".join(map(str, problem["loc"])).replace("_", "-")
        raise ConfigError(f"{option}: {problem['msg']}, got {problem['input']!r}.") from error


def _named_files(option: str, given: list[str] | None) -> dict[str, Path]:
    """Return files by name.

    Raises
    ------
    ConfigError
        If one has no name, or a name has two.
    """
    found: dict[str, Path] = {}
    for text in given or ():
        name, _, path = (part.strip() for part in text.partition("="))
        if not (name and path):
            raise ConfigError(f"{option} takes NAME=FILE, such as image=images.npz, not {text!r}.")
        if name in found:
            raise ConfigError(f"{option}: {name!r} has two files, {found[name]} and {path}. Name each once.")
        found[name] = Path(path)
    return found


def source_name(dataset: str | None, interactions: Path | str | None) -> str:
    """Return the name of the source: that of the dataset, or the format of tables of one's own; else the sample."""
    if dataset is not None or interactions is None:
        return dataset or "sample"
    path = Path(interactions)
    return "parquet" if path.suffix == ".parquet" or path.is_dir() else "csv"


def sources_of(options: type[Options]) -> dict[str, tuple[str, ...]]:
    """Return the sources that read an option, for each option that some sources alone read."""
    found = {name: told_of(hint, OfSource) for name, hint in get_type_hints(options, include_extras=True).items()}
    return {name: mark.names for name, mark in found.items() if mark}
