"""Who computes what: the batches of an epoch and each worker's share of them.

Notation used for shapes: B examples of a batch over all workers, b of them on one worker.
"""

from __future__ import annotations

import torch

from coldray.training.seeds import Purpose, derived_generator


def share(n: int, rank: int, size: int) -> slice:
    """Return which of `n` consecutive things worker `rank` of `size` takes; the first workers take the odd ones.

    The shares of all workers are disjoint, in order, and cover everything; they differ by one at most. A share is
    empty where there are more workers than things, but never that of worker 0 while there is any.
    """
    each, odd = divmod(n, size)
    start = rank * each + min(rank, odd)
    return slice(start, start + each + (rank < odd))


class EpochBatches:
    """The batches of one epoch: consecutive slices of a permutation that every worker draws alike."""

    def __init__(self, n_examples: int, batch_size: int, train_seed: int, epoch: int) -> None:
        self.batch_size = batch_size
        self.order = torch.randperm(n_examples, generator=derived_generator(train_seed, Purpose.ORDER, epoch))

    def __len__(self) -> int:
        return steps_per_epoch(len(self.order), self.batch_size)

    def examples(self, step: int) -> torch.Tensor:
        """Return the examples of all workers in that step, int64 ``[B]``; the last batch may be smaller."""
        return self.order[step * self.batch_size : (step + 1) * self.batch_size]

    def of_worker(self, step: int, rank: int, size: int) -> torch.Tensor:
        """Return the share of one worker, int64 ``[b]``, which may be empty in the last batch."""
        examples = self.examples(step)
        return examples[share(len(examples), rank, size)]


def steps_per_epoch(n_examples: int, batch_size: int) -> int:
    """Return the batches of an epoch, the smaller last one included."""
    return -(-n_examples // batch_size)
