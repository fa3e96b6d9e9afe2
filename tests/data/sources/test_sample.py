"""The generated dataset is deterministic, and its attributes cause its clicks."""

import re
import time
import zlib

import numpy as np
import pytest

from coldray.core.errors import ConfigError
from coldray.data.dataset import LabelAttribute
from coldray.data.sources.sample import _MIN_CLICKS, _OCCUPATIONS, sample_dataset
from coldray.data.splits.items import cold_item_splits


def test_the_same_seed_gives_the_same_data_and_another_seed_other_data():
    assert sample_dataset(3).fingerprint == sample_dataset(3).fingerprint
    assert sample_dataset(3).fingerprint != sample_dataset(4).fingerprint


def test_it_is_marked_as_synthetic():
    dataset = sample_dataset()
    assert dataset.synthetic
    assert dataset.name == "sample"
    assert dataset.provenance["seed"] == 0


@pytest.mark.parametrize(("n_users", "n_items"), [(600, 500), (1, 24), (20000, 60)])
def test_every_user_has_enough_clicks_and_sizes_are_as_asked(n_users, n_items):
    dataset = sample_dataset(1, n_users, n_items)
    assert (dataset.n_users, dataset.n_items) == (n_users, n_items)
    assert np.diff(dataset.interactions.indptr).min() >= _MIN_CLICKS
    assert set(dataset.interactions.data.tolist()) == {1.0}


def test_ids_and_labels_are_plainly_invented():
    dataset = sample_dataset()
    assert dataset.user_ids[0] == "user-0001"
    assert dataset.item_ids[-1] == "item-0500"
    for role in ("director", "actor"):
        assert all(re.fullmatch(rf"{role}-\d+", name) for name in dataset.attributes[f"{role}s"].labels)


def test_every_item_has_every_attribute():
    dataset = sample_dataset()
    assert list(dataset.attributes) == ["genres", "directors", "actors", "year", "title", "description"]
    for attribute in dataset.attributes.values():
        if isinstance(attribute, LabelAttribute):
            assert np.diff(attribute.matrix.indptr).min() >= 1
    assert np.isfinite(dataset.attributes["year"].values).all()
    assert all(dataset.attributes["description"].texts)


def test_clicks_and_items_are_what_they_were_before_users_had_attributes():
    clicks = sample_dataset(0).interactions
    assert clicks.nnz == 19_041
    assert zlib.crc32(clicks.indices.astype("<i4").tobytes() + clicks.indptr.astype("<i4").tobytes()) == CLICKS


CLICKS = 306819741
"""Checksum of the clicks of seed 0."""


@pytest.mark.parametrize(("n_users", "n_items"), [(600, 500), (1, 24), (300, 30)])
def test_every_user_has_one_occupation_and_an_age(n_users, n_items):
    people = sample_dataset(2, n_users, n_items).user_attributes
    assert list(people) == ["occupation", "age"]
    assert (np.diff(people["occupation"].matrix.indptr) == 1).all()
    ages = people["age"].values
    assert ((ages >= 14) & (ages <= 90) & (ages == np.round(ages))).all()


def test_occupation_and_age_go_with_what_is_clicked():
    """Farmers click westerns more than others do, and whoever is older clicks older films."""
    dataset = sample_dataset(0)
    people, clicks = dataset.user_attributes, dataset.interactions
    shares = clicks @ dataset.attributes["genres"].matrix.toarray() / clicks.sum(axis=1)[:, None]
    genres = dataset.attributes["genres"].labels.tolist()
    for genre in genres:
        column = people["occupation"].labels.tolist().index(_OCCUPATIONS[genre])
        own = people["occupation"].matrix.toarray()[:, column] > 0
        of_genre = shares[:, genres.index(genre)]
        assert of_genre[own].mean() > of_genre[~own].mean()
    years = clicks @ dataset.attributes["year"].values / clicks.sum(axis=1)
    assert np.corrcoef(years, people["age"].values)[0, 1] < -0.5


def hit_rate(scores, truth, k=10):
    top = np.argsort(-scores, axis=1)[:, :k]
    hits, count = np.take_along_axis(truth, top, axis=1).sum(axis=1), truth.sum(axis=1)
    return float((hits[count > 0] / np.minimum(count, k)[count > 0]).mean())


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_planted_attributes_predict_clicks_on_held_out_items(seed):
    dataset = sample_dataset(seed)
    fold = next(cold_item_splits(dataset, n_splits=1, seed=seed)).test_fold
    train, cold = fold.train.toarray(), fold.held_out_items
    truth = fold.held_out.toarray()[:, cold]
    scores = np.zeros(truth.shape)
    for name in ("genres", "directors", "actors"):
        labels = dataset.attributes[name].matrix.toarray()
        labels = labels * np.log(dataset.n_items / labels.sum(axis=0))
        labels /= np.linalg.norm(labels, axis=1, keepdims=True)
        scores += (train @ labels) / (train.sum(axis=1, keepdims=True) + 1) @ labels[cold].T
    chance = hit_rate(np.random.default_rng(seed).random(truth.shape), truth)
    popularity = hit_rate(np.tile(truth.sum(axis=0), (len(truth), 1)), truth)
    profile = hit_rate(scores, truth)
    assert profile > 2.0 * chance
    # The true popularity of a cold item is what no recommender can know; attributes still do better.
    assert profile > popularity
    # … and popularity is not explained away: knowing it would help a lot.
    assert popularity > 1.5 * chance


def test_it_is_quick():
    start = time.process_time()
    sample_dataset()
    assert time.process_time() - start < 0.5


def test_a_size_that_leaves_no_room_for_the_clicks_is_refused():
    with pytest.raises(ConfigError, match="n_items=23"):
        sample_dataset(n_items=23)
