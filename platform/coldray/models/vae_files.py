"""VAE on histories that no machine has to hold: read from parquet files, window by window, by each worker its own.

What is held is a window of histories and the network; see :class:`~coldray.training.example_files.ExampleFiles`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import scipy.sparse as sp
import torch

from coldray.data.streaming import readable
from coldray.errors import ConfigError, DataFormatError
from coldray.models.neural import NeuralTask
from coldray.models.vae import VAE
from coldray.models.vae_network import VAEConfig, VariationalAutoencoder
from coldray.models.vae_training import VAETask, masked_histories
from coldray.training.example_files import Columns, ExampleFiles
from coldray.training.files_task import FilesTask
from coldray.training.histories import Histories
from coldray.training.task import Batch
from coldray.training.trainer import train

COLUMN = "items"
"""Of the files, a row for each user: a list of the indices, from 0 on, of the items that he clicked."""
WINDOW = 1 << 16
"""Histories of a window by default."""


class FilesVAETask(FilesTask, VAETask):
    """The training of the autoencoder on the histories of files; none are held out.

    Parameters
    ----------
    config
        Of the model.
    clicks
        Users who clicked each item ``[I]``.
    examples
        The files.
    """

    def __init__(self, config: VAEConfig, clicks: npt.NDArray[np.int64], examples: ExampleFiles) -> None:
        NeuralTask.__init__(self, None)
        self.config, self.clicks = config, clicks
        FilesTask.__init__(self, examples)

    def build(self) -> VariationalAutoencoder:
        """Return a new network."""
        return VariationalAutoencoder(self.clicks, self.config)

    def of_rows(self, rows: Columns, examples: torch.Tensor, generator: torch.Generator) -> Batch:
        """Return the histories of rows as the training in memory does; an item that is listed twice counts once."""
        lists = [np.unique(row) for row in rows[COLUMN]]
        starts = np.cumsum([0, *map(len, lists)])
        items = np.concatenate([np.zeros(0, np.int64), *lists])
        clicks = sp.csr_array((np.ones(len(items), np.float32), items, starts), shape=(len(lists), len(self.clicks)))
        users = torch.arange(len(lists))
        return masked_histories(Histories.of(clicks), users, self.config.dropout, generator, rows=examples)


def fit_vae_on_files(
    folder: Path, config: VAEConfig, *, n_items: int, window: int = WINDOW, name: str = "training",
    storage: Path | None = None, resume: bool = False,
) -> VAE:  # fmt: skip
    """Fit the autoencoder on the parquet files of a folder.

    With several `config.workers`, each of which takes a file or more, Ray Data reads the files; the model is the same
    as that of one worker, up to rounding.

    Parameters
    ----------
    folder
        Files with the column :data:`COLUMN`, in an order of rows that says nothing.
    config
        `validation_share` must be 0: nobody is held out, and all epochs are trained.
    n_items
        Number of all items, those without a click included.
    window
        Histories that an epoch mixes, and that the workers hold at a time.
    name, storage, resume
        As in :func:`~coldray.training.trainer.train`.

    Raises
    ------
    ConfigError
        If users are to be held out.
    DataError
        If the files cannot be used, a history is empty, or an index is out of range.
    CatalogTooLargeError
        If the network does not fit in memory.
    """
    if config.validation_share:
        raise ConfigError(
            f"validation_share is {config.validation_share:g}, but no history of a file is held out. Use 0 and the "
            "number of epochs that was best on a sample."
        )
    examples = ExampleFiles.found(folder, (COLUMN,), window=window)
    if examples.types != ("object",):
        raise DataFormatError(f"{COLUMN} of the files of {folder} holds numbers; a history is a list of them.")
    clicks = _clicks(examples, n_items)
    model = VAE(config)
    model.check_size(examples.n_examples, n_items)
    settings = config.model_copy(update={"batch_size": min(config.batch_size, examples.n_examples)})
    trained = train(FilesVAETask(config, clicks, examples), settings, storage=storage, name=name, resume=resume)
    return model.keep(trained, {"clicks": clicks}, clicks, course=trained)


def _clicks(examples: ExampleFiles, n_items: int) -> npt.NDArray[np.int64]:
    """Read all files once, a piece at a time; return how many users clicked each item ``[I]``."""
    folder = examples.files[0].parent
    with readable(folder):
        lists = pl.scan_parquet(list(examples.files)).select(pl.col(COLUMN).list.unique().alias(COLUMN))
        empty = lists.select((pl.col(COLUMN).list.len() == 0).sum()).collect(engine="streaming").item()
        if empty:
            raise DataFormatError(f"{empty:,} histories of {folder} are empty. Leave these users out.")
        counted = lists.explode(COLUMN).group_by(COLUMN).len().collect(engine="streaming").sort(COLUMN)
    items = counted[COLUMN].cast(pl.Int64).to_numpy()
    if len(items) and (items[0] < 0 or items[-1] >= n_items):
        raise DataFormatError(f"The items of {folder} are {items[0]} to {items[-1]}; 0 to {n_items - 1} are known.")
    clicks = np.zeros(n_items, np.int64)
    clicks[items] = counted["len"].to_numpy()
    return clicks
