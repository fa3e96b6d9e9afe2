"""Histories in parquet files that no machine has to hold, and the fit of a network on them.

A row is a user: a list of the indices, from 0 on, of the items clicked. What is held is a window of histories and the
network; see :class:`~coldray.training.files.examples.ExampleFiles`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from coldray.core.errors import ConfigError, DataFormatError
from coldray.data.tables.parquet import scan_files
from coldray.data.tables.streaming import readable
from coldray.models.neural.base import NeuralConfig, NeuralModel, NeuralTask
from coldray.models.state import Arrays
from coldray.training.files.examples import ExampleFiles
from coldray.training.histories import Histories
from coldray.training.trainer import train

COLUMN = "items"
"""Of the files."""
WINDOW = 1 << 16
"""Histories of a window by default."""
Clicks = npt.NDArray[np.int64]
ModelT = TypeVar("ModelT", bound=NeuralModel)  # type: ignore[type-arg]


def fit_on_histories(
    model: ModelT, folder: Path, n_items: int, task: Callable[[Clicks, ExampleFiles], NeuralTask],
    inputs: Callable[[Clicks], Arrays], *, fewest: int, window: int, name: str, storage: Path | None, resume: bool,
) -> ModelT:  # fmt: skip
    """Fit a network on the parquet files of a folder, which have the column :data:`COLUMN`.

    With several `workers`, each of which takes a file or more, Ray Data reads the files; the model is the same as that
    of one worker, up to rounding.

    Parameters
    ----------
    model
        Its `validation_share` must be 0: nobody is held out, and all epochs are trained.
    folder
        Files in an order of rows that says nothing.
    n_items
        Number of all items, those without a click included.
    task, inputs
        The training, and what the network is built of, given how many users clicked each item ``[I]``.
    fewest
        Clicks that a history must have.
    window
        Histories that an epoch mixes, and that the workers hold at a time.
    name, storage, resume
        As in :func:`~coldray.training.trainer.train`.

    Raises
    ------
    ConfigError
        If users are to be held out.
    DataError
        If the files cannot be used, a history is too short, or an index is out of range.
    CatalogTooLargeError
        If the network does not fit in memory.
    """
    config: NeuralConfig = model.config
    if config.validation_share:
        raise ConfigError(
            f"validation_share is {config.validation_share:g}, but no history of a file is held out. Use 0 and the "
            "number of epochs that was best on a sample."
        )
    examples = ExampleFiles.found(folder, (COLUMN,), window=window)
    if examples.types != ("object",):
        raise DataFormatError(f"{COLUMN} of the files of {folder} holds numbers; a history is a list of them.")
    clicks = count_clicks(examples, n_items, fewest)
    model.check_size(examples.n_examples, n_items)
    settings = config.model_copy(update={"batch_size": min(config.batch_size, examples.n_examples)})
    trained = train(task(clicks, examples), settings, storage=storage, name=name, resume=resume)
    return model.keep(trained, inputs(clicks), clicks, course=trained)


def histories_of(lists: Sequence[Clicks], n_items: int) -> Histories:
    """Return lists of items as histories, in their order."""
    items = np.concatenate([np.zeros(0, np.int64), *lists])
    starts = torch.from_numpy(np.cumsum([0, *map(len, lists)]))
    return Histories(starts, torch.from_numpy(items), torch.ones(len(items)), n_items)


def count_clicks(examples: ExampleFiles, n_items: int, fewest: int) -> Clicks:
    """Read all files once, a piece at a time; return how many users clicked each item ``[I]``.

    Raises
    ------
    DataFormatError
        If a history has fewer clicks than `fewest`, or an index is out of range.
    """
    folder = examples.files[0].parent
    with readable(folder):
        histories = scan_files(examples.files, columns=[COLUMN])
        short = histories.select((pl.col(COLUMN).list.len() < fewest).sum()).collect(engine="streaming").item()
        if short:
            few = "are empty" if fewest == 1 else f"have fewer than {fewest} clicks"
            raise DataFormatError(f"{short:,} histories of {folder} {few}. Leave these users out.")
        lists = histories.select(pl.col(COLUMN).list.unique().alias(COLUMN)).explode(COLUMN)
        counted = lists.group_by(COLUMN).len().collect(engine="streaming").sort(COLUMN)
    items = counted[COLUMN].cast(pl.Int64).to_numpy()
    if len(items) and (items[0] < 0 or items[-1] >= n_items):
        raise DataFormatError(f"The items of {folder} are {items[0]} to {items[-1]}; 0 to {n_items - 1} are known.")
    clicks = np.zeros(n_items, np.int64)
    clicks[items] = counted["len"].to_numpy()
    return clicks
