"""What all networks of the neural family have in common: a new one is its module, its loss and its configuration.

A fit holds out a share of what it is given, as the study holds out others, trains until the lists of the held-out part
get no better, and trains again on everything for as many epochs. What is kept is the weights and the arrays the network
is built of. Users have no weights of their own: a history is what a user is, so that one the fit never saw is served
like all others.

Notation used for shapes: b rows of histories, n items asked for, I items.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from pydantic import Field, PositiveInt
from torch import nn

from coldray.core.errors import DataError, EmptyDatasetError
from coldray.evaluation.ranking import Scorer
from coldray.features.feature_set import FeatureSet
from coldray.models.base import Items, ModelConfig, Scores, TrainingSet
from coldray.models.computations import Computations
from coldray.models.neural.validation import METRIC, Validation, hold_out_clicks, hold_out_items
from coldray.models.state import ArrayModel, Arrays
from coldray.models.transfer.similarity import arrays_under
from coldray.training.config import TrainingConfig
from coldray.training.history import TrainingResult
from coldray.training.options import TRAINING_OPTIONS, FitOptions
from coldray.training.task import PerUser, TrainingTask
from coldray.training.trainer import train as run_training

logger = logging.getLogger(__name__)

WEIGHTS, INPUTS, HISTORY = "weights.", "inputs.", "history."
"""What the names of arrays begin with: of the module, of what it is built of, of the course of the training."""


class NeuralConfig(TrainingConfig, ModelConfig):
    """Parameters that all networks share."""

    validation_share: float = Field(default=0.1, ge=0, le=0.5)
    """Share of what is trained on that is held out to stop by; 0 trains for all epochs."""
    validation_users: PositiveInt = 1000
    """Users that are asked about at most after an epoch."""
    refit: bool = True
    """Train again on everything for as many epochs as were best, so that nothing held out is lost. Not with the plateau
    schedule, which needs a validation."""


ConfigT = TypeVar("ConfigT", bound=NeuralConfig)


class Network(nn.Module, ABC):
    """A module that can rank. Only parameters and buffers that are trained or counted are in its state."""

    @abstractmethod
    def scorer(self, items: Items) -> Scorer:
        """Return the function from histories ``[b, I]`` to float32 scores ``[b, n]`` of `items`.

        It is called without gradients, in evaluation mode, by several threads at once, on the device of the weights.
        """


class NeuralTask(TrainingTask):
    """A training that is stopped by the lists of held-out clicks.

    Parameters
    ----------
    validation
        What is validated on; None trains for all epochs.
    """

    metric = METRIC
    users: torch.Tensor
    """The user of each example ``[n]``."""

    def __init__(self, validation: Validation | None) -> None:
        self.validation = validation

    @property
    def n_examples(self) -> int:
        """Number of examples of an epoch."""
        return len(self.users)

    @property
    def n_validation_users(self) -> int:
        """Number of users asked about."""
        return 0 if self.validation is None else len(self.validation)

    def validate(self, module: nn.Module, users: slice) -> Mapping[str, PerUser]:
        """Return the ndcg of users."""
        if self.validation is None or not isinstance(module, Network):
            raise TypeError("There is nothing to validate on.")
        scorer = _without_gradients(module.scorer(self.validation.candidates))
        return {self.metric: self.validation.ndcg(scorer, users)}


class NeuralModel(ArrayModel[ConfigT], Generic[ConfigT]):
    """A network, trained and kept as arrays.

    A subclass says what its network is built of (:meth:`inputs`), how it is built (:meth:`network`) and trained
    (:meth:`task`).
    """

    item_array: ClassVar[str] = "clicks"
    trains_by_epochs: ClassVar[bool] = True
    fit_options: ClassVar[tuple[str, ...]] = TRAINING_OPTIONS

    def __init__(self, config: ConfigT | None = None) -> None:
        super().__init__(config)
        self._network: Network | None = None

    # ---- what is special to a model

    @abstractmethod
    def inputs(self, train: TrainingSet) -> Arrays:
        """Return the arrays that the network is built of besides its weights; they are kept with the model.

        Raises
        ------
        DataError
            If nothing can be learnt from the training set.
        """

    @abstractmethod
    def network(self, inputs: Arrays, n_items: int) -> Network:
        """Return a new network for I items; its first weights may draw from torch's global generator."""

    @abstractmethod
    def task(self, train: TrainingSet, inputs: Arrays, validation: Validation | None) -> NeuralTask:
        """Return the training on `train`, whose :meth:`~coldray.training.task.TrainingTask.build` is :meth:`network`.

        What is sent to workers is the task: it should hold no more than it reads.
        """

    # ---- what all share

    def fit(
        self, train: TrainingSet, computations: Computations | None = None, options: FitOptions = FitOptions()
    ) -> Self:
        """Train the network.

        Raises
        ------
        DataError
            If nothing can be learnt from the training set.
        CatalogTooLargeError
            If the training does not fit in memory.
        DivergedError
            If the loss is not finite any more.
        """
        self.check_size(*train.interactions.shape)
        if train.interactions.nnz == 0:
            raise EmptyDatasetError(f"{train.key}: there is no click to train {self.name} on.")
        first, inputs = self._stopped(train, options)
        last = first
        if first.best_metric is not None and self.config.refit and self.config.schedule != "plateau":
            epochs = first.best_epoch + 1
            again = {"epochs": epochs, "warmup_epochs": min(self.config.warmup_epochs, epochs / 2)}
            inputs = self.inputs(train)
            last = self._trained(self.task(train, inputs, None), options, again)
        return self.keep(last, inputs, train.clicks, course=first)

    def keep(
        self, trained: TrainingResult, inputs: Arrays, clicks: npt.NDArray[np.int64], *, course: TrainingResult
    ) -> Self:
        """Take the weights of a training as the model's own.

        Parameters
        ----------
        inputs
            What the network was built of.
        clicks
            Of each item ``[I]``.
        course
            The training whose epochs :attr:`history` tells.
        """
        self._state = {
            "clicks": clicks,
            **{WEIGHTS + name: value.numpy() for name, value in trained.weights.items()},
            **{INPUTS + name: value for name, value in inputs.items()},
            **_course(course),
        }
        self._network = None
        return self

    def hold_out(self, train: TrainingSet) -> tuple[TrainingSet, Validation | None]:
        """Return what is trained on at first, and what training is stopped by, see :meth:`stops_by_items`."""
        if self.config.validation_share == 0:
            return train, None
        hold_out = hold_out_items if self.stops_by_items(train) else hold_out_clicks
        generator = np.random.default_rng(self.config.seed)
        return hold_out(train, self.config.validation_share, self.config.validation_users, generator)

    def stops_by_items(self, train: TrainingSet) -> bool:
        """Tell whether whole items are held out to stop by, as if they were new, or single clicks."""
        return self.scores_cold_items

    def _stopped(self, train: TrainingSet, options: FitOptions) -> tuple[TrainingResult, Arrays]:
        """Train until the lists of what is held out get no better; return that and what the network was built of."""
        rest, validation = self.hold_out(train)
        try:
            inputs = self.inputs(rest)
            task = self.task(rest, inputs, validation)
        except DataError as error:
            if validation is None:
                raise
            # Of few clicks or items; everything may be enough, or says itself what is missing.
            logger.warning(
                "%s on %s: nothing is held out to stop by, as nothing could be learnt from the rest (%s) It trains "
                "for all %d epochs.",
                *(self.name, train.key, error, self.config.epochs),
            )
            inputs = self.inputs(train)
            task = self.task(train, inputs, None)
        return self._trained(task, options), inputs

    def _trained(
        self, task: NeuralTask, options: FitOptions, changes: Mapping[str, Any] | None = None
    ) -> TrainingResult:
        """Train as configured, or again with some parameters changed."""
        # A batch of more examples than there are is all of them.
        size = min(self.config.batch_size, task.n_examples)
        config = self.config.model_copy(update={"batch_size": size, **(changes or {})})
        return run_training(task, config, options, refit=changes is not None)

    @property
    def history(self) -> Mapping[str, npt.NDArray[np.float64]]:
        """Loss, its parts and the validation metric, epoch by epoch."""
        self.check_fitted()
        return arrays_under(HISTORY, self._state)

    @property
    def fitted_network(self) -> Network:
        """The trained network, in evaluation mode, on the CPU."""
        self.check_fitted()
        if self._network is None:
            with torch.random.fork_rng(devices=[]):  # first weights are drawn, to be overwritten
                network = self.network(arrays_under(INPUTS, self._state), self.n_items)
            weights = arrays_under(WEIGHTS, self._state)
            network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in weights.items()})
            self._network = network.eval()
        return self._network

    def scorer(self, items: Items) -> Scorer:
        """Return the function that scores `items` for histories."""
        with torch.no_grad():
            return _without_gradients(self.fitted_network.scorer(items))

    def extended(self, inputs: Arrays, n_new: int) -> Self:
        """Return a model with `n_new` more items, whose network is built of `inputs`; for :meth:`add_items`."""
        self.check_fitted()
        model = type(self)(self.config)
        kept = {name: value for name, value in self._state.items() if not name.startswith(INPUTS)}
        clicks = np.append(self._state["clicks"], np.zeros(n_new, np.int64))
        model._state = {**kept, "clicks": clicks, **{INPUTS + name: value for name, value in inputs.items()}}
        return model

    @classmethod
    def from_state(cls, config: ConfigT, state: Mapping[str, npt.NDArray[Any]], features: FeatureSet) -> Self:
        """Rebuild the model; what it needs of the features is among its arrays."""
        return super().from_state(config, state, features)


def _without_gradients(scorer: Scorer) -> Scorer:
    def scores(histories: sp.csr_array) -> Scores:
        with torch.no_grad():
            return np.ascontiguousarray(scorer(histories), np.float32)

    return scores


def _course(result: TrainingResult) -> Arrays:
    """Return the loss, its parts and the validation metric of each epoch; NaN where there was no validation."""
    parts = {name: [record.parts[name] for record in result.history] for name in result.history[0].parts}
    metrics = {} if result.best_metric is None else {METRIC: [r.metrics.get(METRIC, np.nan) for r in result.history]}
    curves = {"loss": [record.loss for record in result.history], **parts, **metrics}
    return {HISTORY + name: np.asarray(values, np.float64) for name, values in curves.items()}
