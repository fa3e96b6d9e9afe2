"""SessionGRU on histories in files; see :mod:`~coldray.models.neural.history_files`."""

from __future__ import annotations

from pathlib import Path

import torch

from coldray.core.errors import ConfigError
from coldray.models.neural.base import NeuralTask
from coldray.models.neural.history_files import COLUMN, WINDOW, fit_on_histories, histories_of
from coldray.models.neural.session_gru import SessionGRU, SessionGRUConfig, SessionTask, next_clicks
from coldray.training.files.examples import Columns, ExampleFiles
from coldray.training.files.task import FilesTask
from coldray.training.task import Batch


class FilesSessionTask(FilesTask, SessionTask):
    """The training of a session network on the histories of files; none are held out.

    Parameters
    ----------
    config
        Of the network.
    n_items
        I.
    examples
        The files.
    """

    def __init__(self, config: SessionGRUConfig, n_items: int, examples: ExampleFiles) -> None:
        NeuralTask.__init__(self, None)
        self.config, self.n_items, self.negatives = config, n_items, None
        FilesTask.__init__(self, examples)

    def of_rows(self, rows: Columns, examples: torch.Tensor, generator: torch.Generator) -> Batch:
        """Return the sessions of rows as the training in memory does."""
        found = histories_of([*rows[COLUMN]], self.n_items)
        return next_clicks(found, torch.arange(len(found)), self.config.longest)


def fit_session_gru_on_files(
    folder: Path, config: SessionGRUConfig, *, n_items: int, window: int = WINDOW, name: str = "training",
    storage: Path | None = None, resume: bool = False,
) -> SessionGRU:  # fmt: skip
    """Fit the network on the parquet files of a folder, in memory that does not grow with the number of users.

    A history lists its items in the order of their clicks, and may list one again. Parameters and errors are those of
    :func:`~coldray.models.neural.history_files.fit_on_histories`; besides, `negatives` must be None: which items a
    user has not clicked is not known where histories are read a window at a time.
    """
    if config.negatives is not None:
        raise ConfigError(
            f"negatives is {config.negatives}, but of files each click is told from all items. Leave it out."
        )
    return fit_on_histories(
        SessionGRU(config), folder, n_items, lambda _, examples: FilesSessionTask(config, n_items, examples),
        lambda _: {}, fewest=2, window=window, name=name, storage=storage, resume=resume,
    )  # fmt: skip
