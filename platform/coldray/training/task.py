"""What a model states for the training layer: its module, its loss, its batches and its validation metric.

Notation used for shapes: b examples of a batch on one worker, n validation users of one worker.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

Batch: TypeAlias = Mapping[str, torch.Tensor]
PerUser: TypeAlias = npt.NDArray[np.floating[Any]]


class Workers(Protocol):
    """The workers that train together; one alone is the usual case."""

    @property
    def rank(self) -> int:
        """Number of this worker, from 0."""

    @property
    def size(self) -> int:
        """How many there are."""

    def gather(self, rows: torch.Tensor) -> tuple[torch.Tensor, int]:
        """Return the rows of all workers ``[Σb, …]`` and where those of this worker begin; gradients flow back.

        Workers may hold different numbers of rows, none included.
        """


@dataclass(frozen=True)
class Step:
    """Where in the training a loss is computed."""

    epoch: int
    """Number of the epoch, from 0."""
    progress: float
    """Epochs done so far, with the fraction of the current one: what warm-ups are scheduled by."""
    workers: Workers
    """For losses that look at the examples of all workers, such as in-batch negatives."""
    first: int = 0
    """Place of this worker's first example in the batch of all."""


@dataclass(frozen=True)
class Loss:
    """The loss of each example, so that workers with batches of different sizes weigh every example the same."""

    per_example: torch.Tensor
    """What is minimised, ``[b]``; the mean over the whole batch of all workers is."""
    parts: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """Named terms ``[b]`` to be shown in the history, such as a reconstruction and a divergence."""


class TrainingTask(ABC):
    """What is trained, on what, and how well it does. Tasks are sent to workers: they hold arrays, no open files.

    A module that draws for the examples of a batch does so through :mod:`~coldray.training.row_random`, so that the
    number of workers changes nothing.
    """

    name: str
    """Name of the model; a checkpoint of another name is refused."""
    metric: ClassVar[str] = "ndcg@10"
    """The validation metric, the larger the better, by which training stops and the best weights are kept."""

    @property
    @abstractmethod
    def n_examples(self) -> int:
        """Number of training examples."""

    @property
    @abstractmethod
    def n_validation_users(self) -> int:
        """Number of users :meth:`validate` can be asked about; 0 trains for all epochs."""

    @abstractmethod
    def build(self) -> torch.nn.Module:
        """Return a new module; its initial weights may draw from torch's global generator, which is seeded."""

    @abstractmethod
    def batch(self, examples: torch.Tensor, generator: torch.Generator) -> Batch:
        """Return the tensors of `examples`, int64 ``[b]``, on the CPU; random parts come from `generator`.

        The generators of all workers are in the same state: what is drawn for an example is drawn by
        :func:`~coldray.training.row_random.row_uniforms`, so that it is the same whoever has it.

        Of several workers, some may get no example of the last batch of an epoch.
        """

    @abstractmethod
    def loss(self, module: torch.nn.Module, batch: Batch, step: Step) -> Loss:
        """Return the loss of a batch.

        `module` may be wrapped for several workers: it is called, its parts are not reached into.
        """

    @abstractmethod
    def validate(self, module: torch.nn.Module, users: slice) -> Mapping[str, PerUser]:
        """Return metrics of the validation users in that range, ``[n]`` each, all finite; called without gradients.

        `module` is the one that was built, on the device it trains on, and the range is never empty.
        """
