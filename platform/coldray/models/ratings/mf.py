"""MF: biased matrix factorisation of ratings.

A rating is predicted as ``r̂_ui = μ + b_u + b_i + p_uᵀq_i``, by the minimum of ``Σ_ui (r_ui − r̂_ui)² + w (‖p_u‖² +
‖q_i‖²) + w′ (b_u² + b_i²)`` over all ratings (Koren, Bell and Volinsky, *Matrix Factorization Techniques for
Recommender Systems*, 2009, Eq. 5), found by Adam.

No factors of users are kept. A history is folded in when it is asked about: with the items fixed, the same objective
is a ridge regression of ``r_ui − μ − b_i`` on ``(1, q_i)`` with the penalties n_u w′ and n_u w of a user with n_u
ratings. It is solved exactly, so a user the fit never saw is served like all others; one without a rating is given ``μ
+ b_i``, and an item without one ``μ + b_u``.

User u with the ratings of the items I_u, less what is expected of them, has ``argmin_w Σ_{i ∈ I_u} (r_ui − wᵀy_i)² +
Σ_f λ_uf w_f²``. Only rated items are in the sum, unlike in :mod:`~coldray.models.linalg.weighted_ridge`.

Notation used for shapes: b rows of histories, I items, n items asked for, f factors, U users and I items with a
rating.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import nn

from coldray.evaluation.ranking import Scorer
from coldray.models.base import Items, ModelConfig, Scores, TrainingSet
from coldray.models.computations import Computations
from coldray.models.linalg.singular import usable_factors
from coldray.models.ratings.base import RatingModel, RatingScale
from coldray.models.state import FactorModel
from coldray.models.transfer.similarity import arrays_under
from coldray.training.config import TrainingConfig
from coldray.training.history import TrainingResult
from coldray.training.options import TRAINING_OPTIONS, FitOptions
from coldray.training.task import Batch, Loss, PerUser, Step, TrainingTask
from coldray.training.trainer import train as run_training

Double = npt.NDArray[np.float64]
_BLOCK_FLOATS = 1 << 20
"""float64 values of the matrices that are solved with at once: 8 MiB."""


def _fold_in(residuals: sp.csr_array, factors: npt.NDArray[np.floating[Any]], penalties: Double) -> Double:
    """Solve exactly for the weights of each user.

    Parameters
    ----------
    residuals
        CSR ``[b, I]``; every stored entry is a rating, that of 0 too.
    factors
        y ``[I, f]``.
    penalties
        λ, positive, ``[b, f]``.

    Returns
    -------
    Double
        float64 ``[b, f]``; zeros for a user without ratings.
    """
    n_users, n_factors = penalties.shape
    weights = np.zeros((n_users, n_factors))
    users = np.flatnonzero(np.diff(residuals.indptr))
    height = max(1, _BLOCK_FLOATS // n_factors**2)
    for first in range(0, len(users), height):
        block = users[first : first + height]
        left, right = np.empty((len(block), n_factors, n_factors)), np.empty((len(block), n_factors, 1))
        for place, user in enumerate(block):
            rated = slice(residuals.indptr[user], residuals.indptr[user + 1])
            known = factors[residuals.indices[rated]].astype(np.float64)
            left[place] = known.T @ known
            right[place, :, 0] = known.T @ residuals.data[rated]
        diagonal = np.arange(n_factors)
        left[:, diagonal, diagonal] += penalties[block]
        weights[block] = np.linalg.solve(left, right)[..., 0]
    return weights


_START_SCALE = 0.05
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


class _BiasedFactors(nn.Module):
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
            nn.init.normal_(factors.weight, std=_START_SCALE)
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


class _MFTask(TrainingTask):
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

    def build(self) -> _BiasedFactors:
        """Return new factors."""
        decays = (self.config.weight_decay, self.config.bias_decay)
        return _BiasedFactors(self.sizes, self.n_factors, self.mean, decays)

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


def _learn_factors(
    train: TrainingSet, n_factors: int, config: MFConfig, options: FitOptions
) -> dict[str, npt.NDArray[np.float64]]:
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
    order = torch.from_numpy(np.random.default_rng(config.seed).permutation(len(ratings)))
    n_held = round(config.validation_share * len(ratings))
    held_out = ratings.take(order[:n_held]) if n_held else None

    def task(of: Ratings, held: Ratings | None) -> _MFTask:
        return _MFTask(config, n_factors, mean, (n_users, n_items), of, held)

    # The decay is in the loss, and none of the optimizer's.
    size = min(config.batch_size, len(ratings) - n_held)
    settings = config.model_copy(update={"weight_decay": 0.0, "batch_size": size})
    first = last = run_training(task(ratings.take(order[n_held:]), held_out), settings, options)
    if held_out is not None and config.refit and config.schedule != "plateau":
        epochs = first.best_epoch + 1
        again = {"epochs": epochs, "warmup_epochs": min(config.warmup_epochs, epochs / 2)}
        last = run_training(task(ratings, None), settings.model_copy(update=again), options, refit=True)
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
        curves["history.validation_mse"] = [-record.metrics.get(_MFTask.metric, np.nan) for record in result.history]
    return {name: np.asarray(values) for name, values in curves.items()}


class MF(RatingModel[MFConfig], FactorModel[MFConfig]):
    """Biased matrix factorisation."""

    name: ClassVar[str] = "mf"
    config_type: ClassVar[type[ModelConfig]] = MFConfig
    fit_options: ClassVar[tuple[str, ...]] = TRAINING_OPTIONS

    def fit(
        self, train: TrainingSet, computations: Computations | None = None, options: FitOptions = FitOptions()
    ) -> Self:
        """Learn factors and biases of items.

        More factors than the ratings can have are reduced, with a warning; the state tells how many are used.

        Raises
        ------
        DataError
            If all ratings are the same, or fewer than two users or two items have ratings.
        DivergedError
            If the loss is not finite any more.
        CatalogTooLargeError
            If the factors do not fit in memory.
        """
        scale = RatingScale.of(train)
        used = usable_factors(self.name, self.config.n_factors, train)
        self.check_size(*train.interactions.shape)
        learned = _learn_factors(train, used, self.config, options)
        n_items, warm = train.interactions.shape[1], train.warm_items
        factors, biases = np.zeros((n_items, used), np.float32), np.zeros(n_items)
        factors[warm], biases[warm] = learned["factors"], learned["biases"]
        self._state = {
            **learned,
            "factors": factors,
            "biases": biases,
            "scale": scale.array(),
            "n_factors": np.array([used]),
        }
        return self

    def memory_bytes(self, n_users: int, n_items: int) -> int:
        """Return what weights, gradients, averages, the best weights and a block of histories take."""
        factors = min(self.config.n_factors, n_users, n_items)
        return 5 * 4 * (factors + 1) * (n_users + n_items) + 2 * 8 * max(_BLOCK_FLOATS, factors**2)

    def check_size(self, n_users: int, n_items: int) -> None:
        """Check :meth:`memory_bytes`."""
        self.require_size(
            n_users,
            n_items,
            purpose=f"{min(self.config.n_factors, n_users, n_items):,} factors of {n_users:,} users and {n_items:,} "
            "items",
            way_out="Use fewer n_factors, or fewer users or items through the filters.",
        )

    @property
    def history(self) -> Mapping[str, Double]:
        """Mean squared error of the train ratings, and of the held-out ones, epoch by epoch."""
        self.check_fitted()
        return arrays_under("history.", self._state)

    def scorer(self, items: Items) -> Scorer:
        """Return the function that folds histories in and predicts their ratings of `items`."""
        self.check_fitted()
        mean, biases, factors = (self._state[name] for name in ("mean", "biases", "factors"))
        known = np.hstack([np.ones((len(factors), 1)), factors])
        wanted, offsets = known[items].T, mean + biases[items]

        def scores(histories: sp.csr_array) -> Scores:
            return np.asarray(self._folded(histories, known, mean + biases) @ wanted + offsets, np.float32)

        return scores

    def _folded(self, histories: sp.csr_array, known: Double, expected: Double) -> Double:
        """Return b_u and p_u of each row ``[b, 1 + f]``."""
        decays = np.array([self.config.bias_decay, *[self.config.weight_decay] * (known.shape[1] - 1)])
        counts: Any = np.diff(histories.indptr)
        rest = sp.csr_array(
            (histories.data - expected[histories.indices], histories.indices, histories.indptr), shape=histories.shape
        )
        return _fold_in(rest, known, np.outer(counts, decays))
