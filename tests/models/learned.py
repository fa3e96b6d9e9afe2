"""What the tests of the learned models share: quick settings, workers that are not there, and counted computations."""

import numpy as np
import pytest
import torch

from coldray.models.computations import Computations
from coldray.training.cluster.workers import OneWorker
from coldray.training.task import Step

QUICK = {"hidden_dim": 32, "profile_dim": 8, "batch_size": 8, "epochs": 40, "dropout": 0.1, "validation_share": 0.0}
"""A training that learns the planted structure in well below a second."""


@pytest.fixture(autouse=True)
def one_thread():
    """Compute by one thread: for layers this small, threads that wait for each other on a busy machine take longest."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Shard(OneWorker):
    """One of several workers; it knows what all of them are going to gather, one list of shards a call."""

    def __init__(self, rank, *rounds):
        self.rank, self.size = rank, len(rounds[0])
        self.rounds = iter(rounds)

    def gather(self, rows):
        shards = list(next(self.rounds))
        assert torch.equal(rows, shards[self.rank])
        shards[self.rank] = rows  # its gradient flows back
        return torch.cat(shards), sum(len(shard) for shard in shards[: self.rank])


def step_at(progress=0.0, workers=None):
    return Step(int(progress), progress, workers or OneWorker())


class CountingComputations(Computations):
    """Lists the parameters of what is computed, by the name of the function."""

    def __init__(self):
        super().__init__()
        self.computed = {}

    def get(self, function, data, /, *args, **parameters):
        size = len(self._results)
        result = super().get(function, data, *args, **parameters)
        if len(self._results) > size:
            self.computed.setdefault(function.__name__, []).append(parameters)
        return result


def noisy(covariance, items):
    """Return ``M = K + σ²I`` of a list of items under the learned kernel, float64 ``[r, r]``."""
    found = covariance.between(items, items).astype(np.float64)
    found[np.diag_indices_from(found)] = covariance.variances(items) + covariance.weights.noise
    return found
