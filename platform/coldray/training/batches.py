"""Who computes what: the batches of an epoch and each worker's share of them.

Notation used for shapes: B examples of a batch over all workers.
"""

from __future__ import annotations

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


class Batches:
    """The batches of one epoch: consecutive slices of a permutation that every worker draws alike.

    They do not depend on the number of workers.
    """

    def __init__(self, n_examples: int, batch_size: int, seed: int, epoch: int) -> None:
        self.n_examples, self.batch_size = n_examples, batch_size
        self._position = seed, epoch

    @cached_property
    def order(self) -> torch.Tensor:
        """The permutation, int64."""
        seed, epoch = self._position
        return torch.randperm(self.n_examples, generator=derived_generator(seed, Purpose.ORDER, epoch))

    def __len__(self) -> int:
        """Return the steps, that of the smaller last batch included."""
        return -(-self.n_examples // self.batch_size)

    def examples(self, step: int) -> torch.Tensor:
        """Return the examples of all workers in that step, int64 ``[B]``; the last batch may be smaller."""
        return self.order[step * self.batch_size : (step + 1) * self.batch_size]
