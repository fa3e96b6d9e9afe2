"""Datasets and splits, from a name, from files or from frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from coldray.core.errors import ConfigError, DataFormatError
from coldray.core.spelling import choices, nearest
from coldray.data.dataset import Dataset
from coldray.data.filters import FilterConfig, apply_filters
from coldray.data.sources.registry import SOURCES, SourceConfig
from coldray.data.sources.registry import load_dataset as read_source
from coldray.data.sources.tabular import TabularColumns, TabularConfig, dataset_of_frames
from coldray.data.splits.items import Split
from coldray.data.tables.frames import Frame, as_polars, is_frame
from coldray.data.vectors import with_vectors
from coldray.experiments.split_config import SplitConfig, drawn_splits
from coldray.front.configs import validated

_ITEM_COLD = "item-cold"
"""What the protocol ``notebook`` is called in words: 60 % of the items train, 20 % validate, 20 % test."""

_OPTIONS = {
    "user_column": "user", "item_column": "item", "rating_column": "rating", "timestamp_column": "timestamp",
    "event_column": "event", "event_weights": "event_weights", "context_label_columns": "context_labels",
    "context_number_columns": "context_numbers",
    "label_columns": "labels", "number_columns": "numbers", "text_columns": "texts",
    "label_separator": "label_separator", "first_labels": "first_labels", "user_label_columns": "user_labels",
    "user_number_columns": "user_numbers", "user_text_columns": "user_texts",
}  # fmt: skip
"""What the fields of :class:`TabularColumns` are called here."""


def load_dataset(
    interactions: str | Path | Frame,
    items: str | Path | Frame | None = None,
    *,
    user: str = "user_id",
    item: str = "item_id",
    rating: str | None = None,
    timestamp: str | None = None,
    event: str | None = None,
    event_weights: Mapping[str, float] | str | None = None,
    context_labels: Sequence[str] = (),
    context_numbers: Sequence[str] = (),
    labels: Sequence[str] = (),
    numbers: Sequence[str] = (),
    texts: Sequence[str] = (),
    users: str | Path | Frame | None = None,
    user_labels: Sequence[str] = (),
    user_numbers: Sequence[str] = (),
    user_texts: Sequence[str] = (),
    label_separator: str = "|",
    first_labels: Mapping[str, int] | str | None = None,
    vectors: Mapping[str, str | Path] | None = None,
    user_vectors: Mapping[str, str | Path] | None = None,
    name: str | None = None,
    filters: FilterConfig | Mapping[str, Any] | None = None,
    **source: Any,
) -> Dataset:
    """Return a dataset: a known one by its name, one of your own from files or from frames.

    Parameters
    ----------
    interactions
        A name, such as ``"sample"`` or ``"ml-100k"``; or a CSV or parquet file, or a folder of parquet files, with a
        row an interaction; or a frame of polars, pandas or arrow, or a mapping of columns.
    items
        A file or a frame with a row an item, for data of your own.
    user, item
        Columns with ids, whole numbers or text. `items` has the second one too.
    rating, timestamp
        Columns of `interactions`, if it has them.
    event, event_weights
        Column of `interactions` with the kind of each, and what each kind is worth: ``{"purchase": 5, "view": 1}``. A
        user may have several rows with an item then, see :mod:`~coldray.data.events`.
    context_labels, context_numbers
        Columns of `interactions` that were known before each, such as the device, see :mod:`~coldray.data.context`.
    labels, numbers, texts
        Columns of `items`: lists of labels (or text divided by `label_separator`), numbers, free text.
    users
        A file or a frame with a row a user, for data of your own; ids are in the column `user`.
    user_labels, user_numbers, user_texts
        Columns of `users`.
    first_labels
        Of columns of labels, how many of an item, or user, are read, the first ones: ``{"cast": 5}``. Of ``hetrec`` and
        ``ml1m-hetrec`` ``{"actors": 5}``, by their rank in the credits.
    vectors, user_vectors
        Files with a vector an item, or a user, by the name of the attribute they become, of any dataset:
        ``{"image": "images.npz"}``, see :func:`~coldray.data.vector_files.read_vectors`.
    name
        Name of a dataset of your own; that of the file by default.
    filters
        What is left out, see :class:`~coldray.data.filters.FilterConfig`; by default what the published protocol of a
        known dataset leaves out, of your own data nothing.
    source
        For a known dataset, fields of :class:`~coldray.data.sources.registry.SourceConfig`: ``data_dir``, ``seed``.

    Raises
    ------
    ConfigError
        If there is no dataset of the name, or an option does not belong to it.
    DataError
        If a file or a frame cannot be read as described; each reason has its own subclass.

    Examples
    --------
    >>> import coldray
    >>> clicks = {"user_id": ["ann", "ann", "bob"], "film": [1, 2, 2]}
    >>> films = {"film": [1, 2, 3], "genre": [["war"], ["war", "drama"], ["drama"]]}
    >>> coldray.load_dataset(clicks, films, item="film", labels=["genre"])
    Dataset 'frame': 2 users, 3 items (1 without interactions), 3 interactions; genre (2 labels)
    """
    columns: dict[str, Any] = {"user_column": user, "item_column": item, "rating_column": rating}
    columns |= {"timestamp_column": timestamp, "label_separator": label_separator}
    columns |= {"first_labels": first_labels, "event_column": event, "event_weights": event_weights}
    columns |= {"context_label_columns": _names(context_labels), "context_number_columns": _names(context_numbers)}
    columns |= {"label_columns": _names(labels), "number_columns": _names(numbers), "text_columns": _names(texts)}
    columns |= {"user_label_columns": _names(user_labels), "user_number_columns": _names(user_numbers)}
    columns |= {"user_text_columns": _names(user_texts)}
    files = {"item_vectors": vectors or {}, "user_vectors": user_vectors or {}}
    if isinstance(interactions, str) and not _is_path(interactions):
        dataset = _known(interactions, {"items": items, "users": users}, columns, {**files, **source})
        chosen = filters if filters is not None else SOURCES[interactions].filters
    else:
        if source:
            raise ConfigError(f"{next(iter(source))!r} is read for a dataset with a name, not for files and frames.")
        dataset, chosen = _own(interactions, items, users, columns, name, files), filters
    if chosen is None:
        return dataset
    return apply_filters(dataset, chosen if isinstance(chosen, FilterConfig) else validated(FilterConfig, chosen))


def split(dataset: Dataset, protocol: str = _ITEM_COLD, *, seed: int = 42, number: int = 0, **options: Any) -> Split:
    """Divide a dataset into train, validation and test.

    What tunes and chooses models sees :meth:`~coldray.data.splits.items.Split.for_tuning`, which has no test side.

    Parameters
    ----------
    protocol
        ``item-cold`` (the same as ``notebook``) or ``balanced``: whole items are held out, which are cold then; so are
        those that a table lists, of ``item-file`` (``items="parts.csv"``).
        ``holdout``, ``leave-last``, ``temporal``, ``per-user-temporal``, ``user-holdout``, ``k-fold`` and
        ``rolling-origin`` hold out interactions, see :func:`~coldray.data.splits.interactions.interaction_splits`.
        ``item-warming``, ``user-warming`` and ``user-cold``: what is cold becomes known click by click, see
        :mod:`~coldray.data.splits.warming`. ``recsys-cold``: cold items beside warm ones, drawn or from files
        (``folder="splits"``), see :mod:`~coldray.data.splits.recsys_cold`.
    seed
        The same seed gives the same split.
    number
        Which of the splits that are drawn one after another from the seed: a study with three has 0, 1 and 2.
    options
        Further fields of :class:`~coldray.experiments.split_config.SplitConfig`: ``test_share``, ``last``.

    Raises
    ------
    ConfigError
        If the protocol or an option is unknown, or does not go with the data.
    EmptyDatasetError
        If a part would be empty.

    Examples
    --------
    >>> import coldray
    >>> split = coldray.split(coldray.load_dataset("sample"), "item-cold", seed=7)
    >>> split.counts()["test_items"]
    100
    """
    protocols = (_ITEM_COLD, *get_args(SplitConfig.model_fields["protocol"].annotation))
    if protocol not in protocols:
        raise ConfigError(
            f"There is no split {protocol!r}.{nearest(str(protocol), protocols)} Splits: {choices(protocols)}."
        )
    drawn = validated(
        SplitConfig,
        {
            "protocol": "notebook" if protocol == _ITEM_COLD else protocol,
            "n_splits": number + 1,
            "seeds": (seed,),
            **options,
        },
    )
    return drawn_splits(dataset, drawn)[number]


def _known(name: str, tables: Mapping[str, Any], columns: Mapping[str, Any], source: Mapping[str, Any]) -> Dataset:
    if name in ("csv", "parquet"):
        raise ConfigError(
            f"{name!r} is a format. Give the path of the file of interactions: load_dataset('clicks.csv')."
        )
    if name not in SOURCES:
        raise ConfigError(
            f"There is no dataset {name!r}, and no file of that name.{nearest(name, SOURCES)} Datasets: "
            f"{choices(SOURCES)}."
        )
    # Of a known dataset the source itself knows which labels have an order.
    first = {} if columns["first_labels"] is None else {"first_labels": columns["first_labels"]}
    columns = {key: value for key, value in columns.items() if key != "first_labels"}
    changed = {key: value for key, value in columns.items() if value != TabularColumns.model_fields[key].default}
    given = [table for table, value in tables.items() if value is not None]
    if given or changed:
        option = given[0] if given else _OPTIONS[next(iter(changed))]
        raise ConfigError(f"{option!r} describes data of your own; the dataset {name!r} comes as it is.")
    return read_source(validated(SourceConfig, {"name": name, **first, **source}))


def _own(
    interactions: Any, items: Any, users: Any, columns: Mapping[str, Any], name: str | None, files: Mapping[str, Any]
) -> Dataset:
    described = {what: table for what, table in (("items", items), ("users", users)) if table is not None}
    for what, table in (("interactions", interactions), *described.items()):
        if not (is_frame(table) or isinstance(table, str | Path)):
            raise DataFormatError(
                f"{what} are a {type(table).__name__}; a frame of polars, pandas or arrow, a mapping of columns or the "
                "path of a file is needed."
            )
    frames = is_frame(interactions)
    for what, table in described.items():
        if frames != is_frame(table):
            raise ConfigError(f"Interactions and {what} are both files, or both frames. Read the file, by polars say.")
    if frames:
        read = {what: as_polars(table, what) for what, table in described.items()}
        clicks, meaning = as_polars(interactions, "interactions"), validated(TabularColumns, columns)
        made = dataset_of_frames(clicks, read.get("items"), meaning, name or "frame", users=read.get("users"))
        named = validated(SourceConfig, {"name": "parquet", **files})
        return with_vectors(made, named.item_vectors, named.user_vectors)
    config = validated(TabularConfig, {**columns, "interactions": interactions, **described})
    dataset = read_source(validated(SourceConfig, {"name": "parquet", "tabular": config, **files}))
    return dataset.named(name) if name else dataset


def _names(columns: Sequence[str] | str) -> tuple[str, ...]:
    return (columns,) if isinstance(columns, str) else tuple(columns)


def _is_path(text: str) -> bool:
    return text not in SOURCES and (Path(text).exists() or Path(text).suffix != "" or "/" in text)
