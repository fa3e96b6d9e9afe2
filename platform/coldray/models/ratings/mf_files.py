"""MF on ratings that no machine has to hold: read from parquet files, window by window, by each worker its own.

What is held is a window of ratings and the factors of all users and items; see
:class:`~coldray.training.files.examples.ExampleFiles`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from coldray.core.errors import ConfigError, DataError, DataFormatError
from coldray.data.tables.parquet import scan_files
from coldray.data.tables.streaming import readable
from coldray.features.feature_set import FeatureSet
from coldray.models.ratings.base import RatingScale
from coldray.models.ratings.mf import MF, MFConfig, MFTask, Ratings
from coldray.training.files.examples import WINDOW, Columns, ExampleFiles
from coldray.training.files.task import FilesTask
from coldray.training.task import Batch
from coldray.training.trainer import train

COLUMNS = ("user", "item", "rating")
"""Of the files: indices from 0 on, and ratings."""
NO_RATINGS = Ratings(torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64), torch.empty(0))


class FilesMFTask(FilesTask, MFTask):
    """The training of biased factors on the ratings of files; none are held out."""

    def __init__(
        self, config: MFConfig, n_factors: int, mean: float, sizes: tuple[int, int], examples: ExampleFiles
    ) -> None:
        MFTask.__init__(self, config, n_factors, mean, sizes, NO_RATINGS, None)
        FilesTask.__init__(self, examples)

    def of_rows(self, rows: Columns, examples: torch.Tensor, generator: torch.Generator) -> Batch:
        """Return users, items and values of ratings."""
        users, items, values = (torch.from_numpy(rows[name]) for name in COLUMNS)
        return {"users": users, "items": items, "values": values.float()}


@dataclass(frozen=True)
class RatingFacts:
    """What has to be known of all ratings before any is trained on."""

    scale: RatingScale
    mean: float
    n_users: int
    """With a rating."""
    rated: npt.NDArray[np.int64]
    """Items with a rating, ascending."""


def fit_mf_on_files(
    folder: Path, config: MFConfig, *, n_users: int, n_items: int, window: int = WINDOW, name: str = "training",
    storage: Path | None = None, resume: bool = False,
) -> MF:  # fmt: skip
    """Fit biased factors on the parquet files of a folder.

    With several `config.workers`, each of which takes a file or more, Ray Data reads the files; the model is the same
    as that of one worker, up to rounding.

    Parameters
    ----------
    folder
        Files with the columns :data:`COLUMNS`, in an order of rows that says nothing.
    config
        `validation_share` must be 0: nothing is held out, and all epochs are trained.
    n_users, n_items
        Numbers of all users and items, those without a rating included.
    window
        Ratings that an epoch mixes, and that the workers hold at a time.
    name, storage, resume
        As in :func:`~coldray.training.trainer.train`.

    Raises
    ------
    ConfigError
        If ratings are to be held out.
    DataError
        If the files cannot be used, an index is out of range, or all ratings are the same.
    CatalogTooLargeError
        If the factors do not fit in memory.
    """
    if config.validation_share:
        raise ConfigError(
            f"validation_share is {config.validation_share:g}, but no rating of a file is held out. Use 0 and the "
            "number of epochs that was best on a sample."
        )
    examples = ExampleFiles.found(folder, COLUMNS, window=window)
    facts = _facts(examples.files, n_users, n_items)
    MF(config).check_size(n_users, n_items)
    used = min(config.n_factors, facts.n_users, len(facts.rated))
    task = FilesMFTask(config, used, facts.mean, (n_users, n_items), examples)
    settings = config.model_copy(update={"weight_decay": 0.0, "batch_size": min(config.batch_size, task.n_examples)})
    learned = train(task, settings, storage=storage, name=name, resume=resume)
    factors, biases = np.zeros((n_items, used), np.float32), np.zeros(n_items)
    factors[facts.rated] = learned.weights["items.weight"].numpy()[facts.rated]
    biases[facts.rated] = learned.weights["item_biases.weight"][:, 0].double().numpy()[facts.rated]
    state: dict[str, npt.NDArray[Any]] = {
        "factors": factors,
        "biases": biases,
        "mean": np.array([facts.mean]),
        "history.train_mse": np.array([record.parts["mse"] for record in learned.history]),
        "scale": facts.scale.array(),
        "n_factors": np.array([used]),
    }
    return MF.from_state(config, state, FeatureSet({}, n_items))


def _facts(files: Sequence[Path], n_users: int, n_items: int) -> RatingFacts:
    """Read all files once, a piece at a time."""
    user, item, rating = (pl.col(name) for name in COLUMNS)
    with readable(files[0].parent):
        scan = scan_files(files, columns=COLUMNS).select(user, item, rating.cast(pl.Float64))
        row = (
            scan.select(
                rating.min().alias("lowest"),
                rating.max().alias("highest"),
                rating.mean().alias("mean"),
                user.min().alias("first_user"),
                user.max().alias("last_user"),
                item.min().alias("first_item"),
                item.max().alias("last_item"),
                user.n_unique().alias("users"),
            )
            .collect(engine="streaming")
            .row(0, named=True)
        )
        for what, most in (("user", n_users), ("item", n_items)):
            first, last = row[f"first_{what}"], row[f"last_{what}"]
            if first is None or first < 0 or last >= most:
                raise DataFormatError(
                    f"The {what}s of {files[0].parent} are {first} to {last}; 0 to {most - 1} are known."
                )
        if row["lowest"] == row["highest"]:
            raise DataError(f"All ratings of {files[0].parent} are {row['lowest']:g}, so there is nothing to predict.")
        liked = scan.filter(rating >= row["mean"]).select(rating.mean()).collect(engine="streaming").item()
        rated = scan.select(item.unique()).collect(engine="streaming").to_series().sort().to_numpy()
    scale = RatingScale(row["lowest"], row["highest"], liked)
    return RatingFacts(scale, row["mean"], row["users"], rated.astype(np.int64))
