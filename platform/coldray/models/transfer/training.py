"""Training a similarity on the warm items, some of them held out as if they were cold to stop by.

Notation used for shapes: W warm items, U' validation users, p profile dimensions, F inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import nn

from coldray.evaluation.metrics import ranking_metrics
from coldray.evaluation.ranking import rank
from coldray.models.base import TrainingSet
from coldray.models.computations import Computations, result_of
from coldray.models.linalg.products import click_products
from coldray.models.neural.inputs import AttributeInputs, bag
from coldray.models.profiles import Profiles, item_profiles
from coldray.models.transfer.similarity import LearnedSimilarity, Matrix, TransferConfig, TransferNetwork
from coldray.training.history import TrainingResult
from coldray.training.options import FitOptions
from coldray.training.task import Batch, Loss, PerUser, Step, TrainingTask
from coldray.training.trainer import train as run_training

_VALIDATION_USERS = 1000
"""Users asked about after each epoch; enough for early stopping, and it takes a fraction of a second."""
_VALIDATION_CUTOFF = 10


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Warm items treated as cold, to stop a training by."""

    rows: npt.NDArray[np.int64]
    """Their rows among the warm items, ascending."""
    histories: sp.csr_array
    """Clicks of the validation users on the other warm items ``[U', W]``."""
    clicks: sp.csr_array
    """Their clicks on the held-out ones ``[U', len(rows)]``."""

    @classmethod
    def of(cls, train: TrainingSet, share: float, generator: np.random.Generator) -> HeldOut | None:
        """Draw items and users; None where there is nobody to ask or nothing to hold out."""
        warm = train.warm_items
        rows = np.sort(generator.permutation(len(warm))[: round(share * len(warm))])
        clicks = sp.csr_array(train.interactions[:, warm])
        kept = np.isin(np.arange(len(warm)), rows, invert=True).astype(np.float32)
        histories = sp.csr_array(clicks @ sp.diags_array(kept))
        histories.eliminate_zeros()
        held = sp.csr_array(clicks[:, rows])
        users = np.flatnonzero((np.diff(histories.indptr) > 0) & (np.diff(held.indptr) > 0))
        if len(users) == 0:
            return None
        users = np.sort(generator.permutation(users)[:_VALIDATION_USERS])
        return cls(rows, sp.csr_array(histories[users]), sp.csr_array(held[users]))


class TransferTask(TrainingTask):
    """The training of a transfer network on warm items.

    Parameters
    ----------
    network
        What is trained.
    inputs
        Attributes of the warm items, CSR ``[W, F]``.
    profiles
        What their clicks say ``[W, p]``.
    held_out
        The items to validate on, which are not trained on; None trains on all.
    """

    metric = f"ndcg@{_VALIDATION_CUTOFF}"

    def __init__(
        self,
        network: type[TransferNetwork],
        config: TransferConfig,
        inputs: sp.csr_array,
        profiles: Profiles,
        held_out: HeldOut | None,
    ) -> None:
        self.name = network.__name__
        self.network, self.config, self.inputs, self.held_out = network, config, inputs, held_out
        self.profiles = torch.from_numpy(profiles)
        every = np.arange(len(profiles))
        self.rows = every if held_out is None else np.setdiff1d(every, held_out.rows)

    @property
    def n_examples(self) -> int:
        """Number of warm items trained on."""
        return len(self.rows)

    @property
    def n_validation_users(self) -> int:
        """Number of users asked about."""
        return 0 if self.held_out is None else int(self.held_out.clicks.shape[0])

    def build(self) -> TransferNetwork:
        """Return a new network."""
        return self.network.of(self.config, self.inputs.shape[1], self.profiles.shape[1])

    def batch(self, examples: torch.Tensor, generator: torch.Generator) -> Batch:
        """Return attributes and profiles of items."""
        rows = self.rows[examples.numpy()]
        return {**bag(sp.csr_array(self.inputs[rows])), "profiles": self.profiles[rows]}

    def loss(self, module: nn.Module, batch: Batch, step: Step) -> Loss:
        """Return the objective of the network."""
        return self.network.objective(module(batch), batch, step, self.config)

    def validate(self, module: nn.Module, users: slice) -> Mapping[str, PerUser]:
        """Rank the held-out items for users by their clicks on the others."""
        if self.held_out is None or not isinstance(module, TransferNetwork):
            raise TypeError("There is nothing to validate on.")
        where = next(module.parameters()).device
        keys = module.keys(_on(where, bag(self.inputs)), self.profiles.to(where))
        queries, _ = module.queries(_on(where, bag(sp.csr_array(self.inputs[self.held_out.rows]))))
        similarity = (keys @ queries.T).float().cpu().numpy()
        candidates = np.arange(len(self.held_out.rows))

        def scores(histories: sp.csr_array) -> Matrix:
            return click_products(histories, similarity)

        k = _VALIDATION_CUTOFF
        ranking = rank(scores, self.held_out.histories[users], candidates, k=k, n_threads=1)
        metrics = ranking_metrics(ranking, self.held_out.clicks[users], (k,), ("ndcg",), n_candidates=len(candidates))
        return {self.metric: metrics.per_user[self.metric]}


def learn_similarity(
    train: TrainingSet,
    *,
    network: type[TransferNetwork],
    config: TransferConfig,
    options: FitOptions,
    profiles: Profiles | None = None,
) -> dict[str, npt.NDArray[Any]]:
    """Train a network on the warm items of `train`.

    `profiles` are those of :func:`~coldray.models.profiles.item_profiles`; without them, they are made.

    Returns
    -------
    dict
        The arrays of a :class:`LearnedSimilarity`, and the course of the training under ``history.…``.

    Raises
    ------
    DataError
        If no item has a click, or none an attribute to learn from.
    ConfigError
        If a batch is larger than the training data.
    DivergedError
        If the loss is not finite any more.
    """
    if profiles is None:
        profiles = item_profiles(train, dim=config.profile_dim)
    encoder = AttributeInputs.of(train)
    inputs = encoder.encode(train.features.take(train.warm_items))
    generator = np.random.default_rng(config.seed)
    held_out = HeldOut.of(train, config.validation_share, generator) if config.validation_share > 0 else None
    task = TransferTask(network, config, inputs, profiles, held_out)
    first = run_training(task, config, options)
    last = first
    if held_out is not None and config.refit and config.schedule != "plateau":
        epochs = first.best_epoch + 1
        again = {"epochs": epochs, "warmup_epochs": min(config.warmup_epochs, epochs / 2)}
        every = TransferTask(network, config, inputs, profiles, None)
        last = run_training(every, config.model_copy(update=again), options, refit=True)
    with torch.random.fork_rng(devices=[]):  # first weights are drawn, to be overwritten
        module = task.build()
    module.load_state_dict(dict(last.weights))
    learned = LearnedSimilarity.of(module, encoder, inputs, profiles, config.confidence_exponent)
    return {**learned.arrays(), **_history(first)}


def shared_training(
    shared: Computations,
    train: TrainingSet,
    *,
    network: type[TransferNetwork],
    config: TransferConfig,
    options: FitOptions,
) -> dict[str, npt.NDArray[Any]]:
    """Return what :func:`learn_similarity` does, done once, and the item profiles once for all trainings."""
    profiles = result_of(item_profiles, dim=config.profile_dim)
    return shared.get(learn_similarity, train, network=network, config=config, options=options, profiles=profiles)


def _history(result: TrainingResult) -> dict[str, npt.NDArray[Any]]:
    """Return the loss, its parts and the validation metric of each epoch; NaN where there was no validation."""
    names = sorted({name for record in result.history for name in record.metrics})
    parts = {name: [record.parts[name] for record in result.history] for name in result.history[0].parts}
    metrics = {name: [record.metrics.get(name, np.nan) for record in result.history] for name in names}
    curves = {"loss": [record.loss for record in result.history], **parts, **metrics}
    return {f"history.{name}": np.asarray(values) for name, values in curves.items()}


def _on(device: torch.device, batch: Batch) -> Batch:
    return {name: value.to(device) for name, value in batch.items()}
