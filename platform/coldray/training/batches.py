"""Who computes what: the batches of an epoch and each worker's share of them.

Notation used for shapes: B examples of a batch over all workers, b of them on one worker.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property

import torch

from coldray.training.row_random import Purpose, derived_generator


def share(n: int, rank: int, size: int) -> slice:
    """Return which of `n` consecutive things worker `rank` of `size` takes; the first workers take the odd ones.

    The shares of all workers are disjoint, in order, and cover everything; they differ by one at most. A share is
    empty where there are more workers than things, but never that of worker 0 while there is any.
    """
    each, odd = divmod(n, size)
    start = rank * each + min(rank, odd)
    return slice(start, start + each + (rank < odd))


class Batches(ABC):
    """The batches of one epoch, and which part of each a worker computes. They do not depend on the number of workers.

    All workers make the same ones.
    """

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of steps."""

    @abstractmethod
    def examples(self, step: int) -> torch.Tensor:
        """Return the examples of all workers in that step, int64 ``[B]``."""

    @abstractmethod
    def range_of_worker(self, step: int, rank: int, size: int) -> slice:
        """Return which of the step's examples worker `rank` of `size` takes; together the workers take all, in order.

        It may be empty.
        """

    def of_worker(self, step: int, rank: int, size: int) -> torch.Tensor:
        """Return the share of one worker, int64 ``[b]``."""
        return self.examples(step)[self.range_of_worker(step, rank, size)]


class EpochBatches(Batches):
    """Consecutive slices of a permutation that every worker draws alike; shares differ by one at most."""

    def __init__(self, n_examples: int, batch_size: int, seed: int, epoch: int) -> None:
        self.n_examples, self.batch_size = n_examples, batch_size
        self._position = seed, epoch

    @cached_property
    def order(self) -> torch.Tensor:
        """The permutation, int64."""
        seed, epoch = self._position
        return torch.randperm(self.n_examples, generator=derived_generator(seed, Purpose.ORDER, epoch))

    def __len__(self) -> int:
        return steps_per_epoch(self.n_examples, self.batch_size)

    def examples(self, step: int) -> torch.Tensor:
        """Return the examples of all workers in that step, int64 ``[B]``; the last batch may be smaller."""
        return self.order[step * self.batch_size : (step + 1) * self.batch_size]

    def range_of_worker(self, step: int, rank: int, size: int) -> slice:
        """Return an equal share, which may be empty in the last batch."""
        return share(len(self.examples(step)), rank, size)


def steps_per_epoch(n_examples: int, batch_size: int) -> int:
    """Return the batches of an epoch, the smaller last one included."""
    return -(-n_examples // batch_size)
