"""VAE on histories in files; see :mod:`~coldray.models.neural.history_files`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from coldray.models.neural.base import NeuralTask
from coldray.models.neural.history_files import COLUMN, WINDOW, fit_on_histories, histories_of
from coldray.models.neural.vae import VAE, VAEConfig, VAETask, VariationalAutoencoder, masked_histories
from coldray.training.files.examples import Columns, ExampleFiles
from coldray.training.files.task import FilesTask
from coldray.training.task import Batch


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
        found = histories_of([*map(np.unique, rows[COLUMN])], len(self.clicks))
        return masked_histories(found, torch.arange(len(found)), self.config.dropout, generator, rows=examples)


def fit_vae_on_files(
    folder: Path, config: VAEConfig, *, n_items: int, window: int = WINDOW, name: str = "training",
    storage: Path | None = None, resume: bool = False,
) -> VAE:  # fmt: skip
    """Fit the autoencoder on the parquet files of a folder, in memory that does not grow with the number of users.

    Parameters and errors are those of :func:`~coldray.models.neural.history_files.fit_on_histories`; the order of
    the items of a history says nothing.
    """
    return fit_on_histories(
        VAE(config), folder, n_items, lambda clicks, examples: FilesVAETask(config, clicks, examples),
        lambda clicks: {"clicks": clicks}, fewest=1, window=window, name=name, storage=storage, resume=resume,
    )  # fmt: skip
