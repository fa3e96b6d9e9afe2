"""Small training sets for the tests of models."""

from dataclasses import replace

import numpy as np
import scipy.sparse as sp

from coldray.data.dataset import keep_entries
from coldray.data.signals import Reads, numbered
from coldray.data.splits.items import Warming
from coldray.evaluation.ratings import ones_where_stored
from coldray.experiments.evaluation import EvaluationFold
from coldray.features.builder import FeatureEncoder
from coldray.features.feature_set import FeatureSet, ScalarFeature, VectorFeature
from coldray.features.moments import TIME, ClickMoments
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


def clicks_alone(clicks, key="clicks"):
    """Return a dense matrix of clicks as what models are fitted on; nothing more is known of the items."""
    clicks = np.asarray(clicks, np.float32)
    return TrainingSet(sp.csr_array(clicks), FeatureSet({}, clicks.shape[1]), key)


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


def random_ratings(seed, **sizes):
    """Return a :func:`random_training_set` with ratings from 1 to 5 that depend on users, items and both."""
    clicks = random_training_set(seed, **sizes)
    generator, (n_users, n_items) = np.random.default_rng(seed), clicks.interactions.shape
    rows = np.repeat(np.arange(n_users), np.diff(clicks.interactions.indptr))
    columns = clicks.interactions.indices
    taste = (generator.normal(size=(n_users, 2)) @ generator.normal(size=(2, n_items)))[rows, columns]
    offsets = generator.normal(0, 0.5, n_users)[rows] + generator.normal(0, 0.5, n_items)[columns]
    values = np.clip(np.round(3.2 + offsets + taste), 1, 5)
    return rated(clicks, values, f"random ratings {seed}")


def rated(train, values, key):
    """Return a training set with these ratings, one for each stored entry, in place of the clicks."""
    clicks = train.interactions
    ratings = sp.csr_array((np.asarray(values, np.float32), clicks.indices, clicks.indptr), shape=clicks.shape)
    return TrainingSet(ratings, train.features, key)


def with_users(train, seed=5):
    """Return a training set whose users have attributes."""
    return replace(train, users=random_features(np.random.default_rng(seed), train.interactions.shape[0]))


def with_moments(train, seed=6):
    """Return a training set whose clicks have a moment each, some at unknown times and some at the same."""
    clicks, generator = train.interactions, np.random.default_rng(seed)
    times = generator.integers(0, clicks.nnz, clicks.nnz).astype(float)
    times[generator.random(clicks.nnz) < 0.1] = np.nan
    device = vector_feature(np.eye(3)[generator.integers(0, 3, clicks.nnz)])
    features = {TIME: scalar_feature(times), "at:hour": scalar_feature(times % 24), "at:device": device}
    moments = ClickMoments(FeatureSet(features, clicks.nnz), np.full(clicks.nnz, np.nan))
    return replace(train, interactions=numbered(clicks), moments=moments)


def warming_task(train, *, ratings=False):
    """Return the task in which every third warm item of a training set is cold, and then known by two clicks.

    Of users with two clicks on other items, one is held out.
    """
    clicks = train.interactions
    rows = np.repeat(np.arange(clicks.shape[0]), np.diff(clicks.indptr))
    cold_items = train.warm_items[::3]
    cold = np.isin(clicks.indices, cold_items)
    later = ~cold & (np.diff(rows, prepend=-1) == 0)  # no user's first click
    hidden = np.zeros_like(cold)
    hidden[[np.flatnonzero(later & (rows == row))[0] for row in np.unique(rows[later])]] = True
    places = np.array([(clicks.indices[:at] == item).sum() + 1 for at, item in enumerate(clicks.indices)], np.int32)
    everything = np.arange(clicks.shape[1], dtype=np.int32)
    warming = Warming((0, 2), keep_entries(clicks, cold), places[cold], True, everything)
    left, key = keep_entries(clicks, ~cold & ~hidden), f"{train.key}, before it warms up"
    known = TrainingSet(left, train.features, key, train.users)
    users = np.flatnonzero(np.diff(known.interactions.indptr) > 0).astype(np.int32)
    held_out = keep_entries(clicks, cold | hidden)
    if not ratings:
        held_out = ones_where_stored(held_out)
    return EvaluationFold(known, held_out, cold_items, users, 0, 0, ratings=ratings, warming=warming)


def random_places(clicks, seed=0):
    """Return the place of each click among those of its user, drawn."""
    generator = np.random.default_rng(seed)
    return np.concatenate([generator.permutation(length) + 1 for length in np.diff(clicks.indptr)])


def as_read(train, reads, seed=0):
    """Return a training set of clicks or ratings with what a model reads in their place: random places, and ratings.

    Where all ratings are the same, random ones from 1 to 5.
    """
    if not reads:
        return train
    clicks = train.interactions
    alike = clicks.nnz == 0 or np.ptp(clicks.data) == 0
    ratings = np.random.default_rng(seed).integers(1, 6, clicks.nnz) if alike else clicks.data
    values = reads.values(ratings, random_places(clicks, seed))
    matrix = sp.csr_array((values, clicks.indices, clicks.indptr), shape=clicks.shape)
    return TrainingSet(matrix, train.features, f"{train.key} as {reads}")


def in_random_order(train, seed=0):
    """Return a training set with random places in place of the clicks."""
    return as_read(train, Reads(order=True), seed)


def rated_genre_groups(*, n_groups=3, users_per_group=12, items_per_genre=8, cold_per_genre=2, seed=0):
    """Return ratings of which the right answer is known, and the genre of each item.

    A user rates an item that is not cold with the chance 0.6: those of their group's genre 4 or 5, all others 1 or 2.
    """
    generator = np.random.default_rng(seed)
    per_genre = items_per_genre + cold_per_genre
    genres = np.repeat(np.arange(n_groups), per_genre)
    liked = np.repeat(np.arange(n_groups), users_per_group)[:, None] == genres
    given = generator.random(liked.shape) < 0.6
    given[:, np.arange(len(genres)) % per_genre >= items_per_genre] = False
    ratings = given * (np.where(liked, 4, 1) + generator.integers(0, 2, liked.shape))
    return TrainingSet(
        sp.csr_array(ratings.astype(np.float32)), FeatureSet({}, len(genres)), f"rated groups {seed}"
    ), genres


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


def build_features(dataset, config=None):
    """Return the features of all items of a dataset."""
    return FeatureEncoder(config).fit(dataset).transform(dataset.attributes, dataset.n_items)
