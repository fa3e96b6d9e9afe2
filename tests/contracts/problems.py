"""Small training sets for the tests of models."""

import numpy as np
import scipy.sparse as sp

from coldray.features.feature_set import FeatureSet, ScalarFeature, VectorFeature
from coldray.models.base import TrainingSet


def vector_feature(matrix):
    """Return a feature from dense vectors ``[I, d]``."""
    dense = np.asarray(matrix, np.float32)
    return VectorFeature(sp.csr_array(dense), tuple(f"term {i}" for i in range(dense.shape[1])))


def scalar_feature(values, span=None):
    """Return a feature from a number an item; `span` is the range of the known ones by default."""
    values = np.asarray(values, np.float64)
    return ScalarFeature(values, float(np.nanmax(values) - np.nanmin(values)) if span is None else span)


def random_features(generator, n_items, *, n_vectors=2, year=True):
    """Return multi-hot attributes ``a``, ``b``, … of different sizes, some empty, and a ``year``, some unknown."""
    features = {}
    for name, width in zip("abcd"[:n_vectors], (4, 9, 6, 14), strict=False):
        hot = generator.random((n_items, width)) < 0.3
        features[name] = vector_feature(hot * generator.choice([1.0, 1.0, 0.5], (1, width)))
    if year:
        years = generator.integers(1950, 2020, n_items).astype(float)
        years[generator.random(n_items) < 0.1] = np.nan
        features["year"] = scalar_feature(years, span=70.0)
    return FeatureSet(features, n_items)


def random_training_set(seed, *, n_users=30, n_warm=22, n_cold=8, key=None, **features):
    """Return clicks that depend on the attributes a little; warm and cold items are in random order."""
    generator = np.random.default_rng(seed)
    n_items = n_warm + n_cold
    items = random_features(generator, n_items, **features)
    first = next(iter(items.features.values())).matrix.toarray()
    taste = generator.random((n_users, first.shape[1])) @ first.T
    chance = 0.08 + 0.3 * taste / max(taste.max(), 1e-9) * generator.random(n_items)
    clicks = (generator.random((n_users, n_items)) < chance).astype(np.float32)
    order = generator.permutation(n_items)
    cold, warm = order[:n_cold], order[n_cold:]
    clicks[:, cold] = 0
    for item in warm[clicks[:, warm].sum(axis=0) == 0]:
        clicks[generator.integers(n_users), item] = 1
    return TrainingSet(sp.csr_array(clicks), items, key or f"random {seed}")


def genre_groups(*, n_groups=3, users_per_group=12, items_per_genre=8, cold_per_genre=2, seed=0):
    """Return clicks of which the right answer is known, and the genre of each item.

    A user of group g clicks each warm item of genre g with the chance 0.6, and nothing else. The last items of each
    genre are cold. A second attribute is random.
    """
    generator = np.random.default_rng(seed)
    per_genre = items_per_genre + cold_per_genre
    genres = np.repeat(np.arange(n_groups), per_genre)
    clicks = np.zeros((n_groups * users_per_group, len(genres)), np.float32)
    for user in range(len(clicks)):
        start = user // users_per_group * per_genre
        # No fixed number of clicks: it would make the items of a genre exclude each other.
        clicks[user, start : start + items_per_genre] = generator.random(items_per_genre) < 0.6
    noise = vector_feature(generator.random((len(genres), 5)) < 0.4)
    features = FeatureSet({"genre": vector_feature(np.eye(n_groups)[genres]), "noise": noise}, len(genres))
    return TrainingSet(sp.csr_array(clicks), features, f"genre groups {seed}"), genres
