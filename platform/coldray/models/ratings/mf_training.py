"""Training the factors of a biased matrix factorisation on single ratings.

Notation used for shapes: U users and I items with a rating, f factors, b ratings of a batch, n validation ratings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import nn

from coldray.models.base import ModelConfig, TrainingSet
from coldray.training.config import TrainingConfig
from coldray.training.history import TrainingResult
from coldray.training.task import Batch, Loss, PerUser, Step, TrainingTask
from coldray.training.trainer import train as run_training

START_SCALE = 0.05
"""Standard deviation of the first factors."""


class MFConfig(TrainingConfig, ModelConfig):
    """Parameters of :class:`~coldray.models.ratings.mf.MF`; some of those of the training have other defaults here."""

    n_factors: PositiveInt = 64
    """f; fewer where there are fewer users or items with ratings."""
    learning_rate: PositiveFloat = 0.02
    schedule: Literal["constant", "cosine", "plateau"] = "cosine"
    weight_decay: PositiveFloat = 0.12
    """w, how much the factors of a user and an item are held down for each of their ratings. It is part of the loss,
    and none of the optimizer's."""
    bias_decay: PositiveFloat = 0.05
    """w′, the same for the biases."""
    epochs: PositiveInt = 30
    batch_size: PositiveInt = 1024
    """Ratings of a step over all workers together; all of them where there are fewer."""
    validation_share: float = Field(default=0.05, ge=0, le=0.5)
    """Share of the train ratings held out to stop training by; 0 trains for all epochs."""
    refit: bool = True
    """Train again on all train ratings for as many epochs as were best, so that the held-out ones are not lost. Not
    with the plateau schedule, which needs a validation."""


@dataclass(frozen=True, eq=False)
class Ratings:
    """Single ratings, a place each."""

    users: torch.Tensor
    """int64 ``[n]``."""
    items: torch.Tensor
    """int64 ``[n]``."""
    values: torch.Tensor
    """float32 ``[n]``."""

    def take(self, places: torch.Tensor) -> Self:
        """Return some of them."""
        return type(self)(self.users[places], self.items[places], self.values[places])

    def __len__(self) -> int:
        return len(self.values)


class BiasedFactors(nn.Module):
    """``μ + b_u + b_i + p_uᵀq_i``.

    Parameters
    ----------
    sizes
        U and I.
    n_factors
        f.
    mean
        μ, which is not trained.
    decays
        w and w′.
    """

    def __init__(self, sizes: tuple[int, int], n_factors: int, mean: float, decays: tuple[float, float]) -> None:
        super().__init__()
        n_users, n_items = sizes
        self.users, self.items = nn.Embedding(n_users, n_factors), nn.Embedding(n_items, n_factors)
        self.user_biases, self.item_biases = nn.Embedding(n_users, 1), nn.Embedding(n_items, 1)
        for factors in (self.users, self.items):
            nn.init.normal_(factors.weight, std=START_SCALE)
        for biases in (self.user_biases, self.item_biases):
            nn.init.zeros_(biases.weight)
        self.mean, self.decays = mean, decays

    def forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the predictions, and what the loss adds for their weights, ``[b]`` both."""
        left, right = self.users(batch["users"]), self.items(batch["items"])  # [b, f]
        biases = torch.cat([self.user_biases(batch["users"]), self.item_biases(batch["items"])], dim=1)  # [b, 2]
        of_factors, of_biases = self.decays
        penalty = of_factors * (left**2 + right**2).sum(dim=1) + of_biases * (biases**2).sum(dim=1)
        return self.mean + biases.sum(dim=1) + (left * right).sum(dim=1), penalty


class MFTask(TrainingTask):
    """The training of biased factors.

    Parameters
    ----------
    config
        Of the factors.
    n_factors
        f, of which there may be fewer than asked for.
    mean
        μ.
    sizes
        U and I.
    ratings
        What is trained on.
    held_out
        What is validated on; None trains for all epochs.
    """

    metric = "-mse"
    """Minus the mean squared error over the held-out ratings, each of which stands where other tasks have a user."""
    name = "MF"

    def __init__(
        self,
        config: MFConfig,
        n_factors: int,
        mean: float,
        sizes: tuple[int, int],
        ratings: Ratings,
        held_out: Ratings | None,
    ) -> None:
        self.config, self.n_factors, self.mean, self.sizes = config, n_factors, mean, sizes
        self.ratings, self.held_out = ratings, held_out

    @property
    def n_examples(self) -> int:
        """Number of ratings trained on."""
        return len(self.ratings)

    @property
    def n_validation_users(self) -> int:
        """Number of held-out ratings."""
        return 0 if self.held_out is None else len(self.held_out)

    def build(self) -> BiasedFactors:
        """Return new factors."""
        decays = (self.config.weight_decay, self.config.bias_decay)
        return BiasedFactors(self.sizes, self.n_factors, self.mean, decays)

    def batch(self, examples: torch.Tensor, generator: torch.Generator) -> Batch:
        """Return users, items and values of ratings."""
        return _batch(self.ratings.take(examples))

    def loss(self, module: nn.Module, batch: Batch, step: Step) -> Loss:
        """Return the squared error of each rating, and what holds its weights down."""
        predicted, penalty = module(batch)
        squared = (batch["values"] - predicted) ** 2
        return Loss(squared + penalty, {"mse": squared.detach()})

    def validate(self, module: nn.Module, users: slice) -> Mapping[str, PerUser]:
        """Return minus the squared error of held-out ratings."""
        if self.held_out is None:
            raise TypeError("There is nothing to validate on.")
        where = next(module.parameters()).device
        batch = {name: values[users].to(where) for name, values in _batch(self.held_out).items()}
        predicted, _ = module(batch)
        return {self.metric: -((batch["values"] - predicted) ** 2).double().cpu().numpy()}


def learn_factors(train: TrainingSet, *, n_factors: int, config: MFConfig) -> dict[str, npt.NDArray[np.float64]]:
    """Train on the ratings of `train`.

    Returns
    -------
    dict
        ``factors`` float64 ``[I, f]`` and ``biases`` ``[I]`` of the items with ratings, ``mean`` ``[1]``, and the mean
        squared errors of each epoch under ``history.…``: ``train_mse`` and, if ratings were held out,
        ``validation_mse``, NaN where an epoch had no validation.

    Raises
    ------
    DivergedError
        If the loss is not finite any more.
    """
    every = train.interactions.tocoo()
    users, n_users = _renumbered(every.coords[0])
    items, n_items = _renumbered(every.coords[1])
    ratings = Ratings(users, items, torch.from_numpy(every.data.astype(np.float32)))
    mean = float(every.data.mean(dtype=np.float64))
    order = torch.from_numpy(np.random.default_rng(config.train_seed).permutation(len(ratings)))
    n_held = round(config.validation_share * len(ratings))
    held_out = ratings.take(order[:n_held]) if n_held else None

    def task(of: Ratings, held: Ratings | None) -> MFTask:
        return MFTask(config, n_factors, mean, (n_users, n_items), of, held)

    # The decay is in the loss, and none of the optimizer's.
    size = min(config.batch_size, len(ratings) - n_held)
    settings = config.model_copy(update={"weight_decay": 0.0, "batch_size": size})
    first = last = run_training(task(ratings.take(order[n_held:]), held_out), settings)
    if held_out is not None and config.refit and config.schedule != "plateau":
        epochs = first.best_epoch + 1
        again = {"epochs": epochs, "warmup_epochs": min(config.warmup_epochs, epochs / 2)}
        last = run_training(task(ratings, None), settings.model_copy(update=again))
    return {
        "factors": last.weights["items.weight"].double().numpy(),
        "biases": last.weights["item_biases.weight"][:, 0].double().numpy(),
        "mean": np.array([mean]),
        **_history(first),
    }


def _renumbered(indices: npt.NDArray[np.integer]) -> tuple[torch.Tensor, int]:
    """Return the places of indices among those that occur, and how many do."""
    found, places = np.unique(indices, return_inverse=True)
    return torch.from_numpy(places.astype(np.int64)), len(found)


def _batch(ratings: Ratings) -> Batch:
    return {"users": ratings.users, "items": ratings.items, "values": ratings.values}


def _history(result: TrainingResult) -> dict[str, npt.NDArray[np.float64]]:
    curves = {"history.train_mse": [record.parts["mse"] for record in result.history]}
    if result.best_metric is not None:
        curves["history.validation_mse"] = [-record.metrics.get(MFTask.metric, np.nan) for record in result.history]
    return {name: np.asarray(values) for name, values in curves.items()}
