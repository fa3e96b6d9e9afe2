"""A small bundle of a model that scores new items, fitted in a second."""

from functools import lru_cache

from coldray.bundle.fitting import fit_bundle
from coldray.bundle.model import Bundle
from coldray.data.sources.sample import sample_dataset
from coldray.features.builder import FeatureConfig, FeatureEncoder
from coldray.models.kernel_align.model import KernelAlign, KernelAlignConfig


@lru_cache
def small_bundle(ridge: float | None = None) -> Bundle:
    """Return it, for tests that do not change it; with another `ridge` it scores differently."""
    config = KernelAlignConfig(n_factors=8, steps=5)
    model = KernelAlign(config if ridge is None else config.model_copy(update={"ridge": ridge}))
    return fit_bundle(model, sample_dataset(0, 120, 90), FeatureEncoder(FeatureConfig()), {})
