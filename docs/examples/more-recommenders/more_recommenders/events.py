"""A log of events and a catalogue, as JSON lines: ``{"user": "ann", "item": 7}`` and ``{"item": 7, "genres": []}``."""

import polars as pl

from coldray.core.errors import DataFileError
from coldray.data.dataset import Dataset
from coldray.data.sources.locations import Location
from coldray.data.sources.registry import Source, SourceConfig, find_dataset
from coldray.data.sources.tabular import TabularColumns, dataset_of_frames

_FILES = ("events.jsonl", "catalogue.jsonl")
_COLUMNS = TabularColumns(user_column="user", item_column="item", label_columns=("genres",))


def _read(source: SourceConfig) -> Dataset:
    folder = find_dataset(source.name, source.data_dir)
    try:
        events, catalogue = (pl.read_ndjson(folder / file) for file in _FILES)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataFileError(f"{' or '.join(_FILES)} of {folder} cannot be read: {error}") from error
    return dataset_of_frames(events, catalogue, _COLUMNS, name=source.name)


EVENTS = Source(_read, Location("events", "events", _FILES[0], " and ".join(_FILES), zipped=False))
