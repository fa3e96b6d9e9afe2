"""A bundle of a model that scores new items, small enough to be fitted in a second."""

import pytest

from coldray.data.sample import sample_dataset
from coldray.features.builder import FeatureConfig, FeatureEncoder
from coldray.models.kernel_align import KernelAlign, KernelAlignConfig
from coldray.serving.store import Store
from coldray.tracking.bundle import fit_bundle


@pytest.fixture(scope="session")
def bundle():
    model = KernelAlign(KernelAlignConfig(n_factors=8, steps=5))
    return fit_bundle(model, sample_dataset(0, 120, 90), FeatureEncoder(FeatureConfig()), {})


@pytest.fixture
def store(tmp_path):
    made = Store.at(tmp_path / "store.db")
    yield made
    made.close()
