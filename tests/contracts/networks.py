"""What the tests of networks in bundles share: data with all that models can read, and fits that take a second."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

from coldray.bundle.fitting import fit_bundle
from coldray.data.sources.sample import sample_dataset
from coldray.features.builder import FeatureConfig, FeatureEncoder
from coldray.models.registry import model_type

SMALL = {
    "epochs": 2, "batch_size": 32, "embedding_dim": 8, "hidden_dim": 8, "latent_dim": 4, "mlp_dim": 4, "profile_dim": 4,
    "heads": 2, "head_dim": 4, "n_layers": 1, "negatives": 4, "positives": 4, "targets": 4, "candidates": 16,
}  # fmt: skip
"""A training of a second; a model is given those that its configuration has."""


@pytest.fixture(scope="module")
def one_thread():
    """Compute by one thread, the fits too: for networks this small, threads take longest to wait for each other."""
    import torch  # imported here, as those who collect tests do without it

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def full_sample():
    """Return the sample with a rating and a time for each click, which are drawn; some items have no click."""
    sample = sample_dataset(0, 60, 50)
    clicks, generator = sample.interactions, np.random.default_rng(0)
    values = generator.integers(1, 6, clicks.nnz).astype(np.float32), generator.permutation(clicks.nnz)
    ratings, times = (sp.csr_array((one, clicks.indices, clicks.indptr), shape=clicks.shape) for one in values)
    return replace(sample, ratings=ratings, timestamps=times)


def small_bundle(dataset, name, **parameters):
    """Return the bundle of a small model called `name`, with more of its parameters."""
    kind = model_type(name)
    known = {field: value for field, value in SMALL.items() if field in kind.config_type.model_fields}
    model = kind(kind.config_type.model_validate({**known, **parameters}))
    return fit_bundle(model, dataset, FeatureEncoder(FeatureConfig()), {})
