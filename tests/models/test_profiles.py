"""Interaction profiles against a dense decomposition, and what their cosines say."""

import numpy as np
import pytest
import scipy.sparse as sp

from coldray.core.errors import CatalogTooLargeError, DataError
from coldray.features.feature_set import FeatureSet
from coldray.models import profiles as module
from coldray.models.base import TrainingSet
from coldray.models.profiles import item_profiles
from contracts.problems import genre_groups, random_training_set


def damped_columns(train, shrinkage=5.0):
    clicks = train.interactions.toarray()[:, train.warm_items].astype(float)
    return clicks / np.sqrt(clicks.sum(axis=0) + shrinkage)


def cosines(vectors):
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return units @ units.T


def slow(train, dim, shrinkage=5.0):
    """Return the profiles by numpy's decomposition; the signs of the columns are open."""
    _, values, right = np.linalg.svd(damped_columns(train, shrinkage), full_matrices=False)
    profiles = (right.T * values)[:, :dim]
    return profiles / np.sqrt((profiles**2).mean())


def many_clicks(seed, n_users, n_warm):
    """Return clicks without any structure, whose singular values are all distinct."""
    clicks = np.random.default_rng(seed).random((n_users, n_warm)) < 0.4
    return TrainingSet(sp.csr_array(clicks.astype(np.float32)), FeatureSet({}, n_warm), f"many clicks {seed}")


def assert_same_up_to_sign(found, expected):
    assert found.shape == expected.shape
    signs = np.sign((found * expected).sum(axis=0))
    np.testing.assert_allclose(found, expected * signs, atol=2e-5)


@pytest.mark.parametrize("branch", ["dense", "sparse"])
@pytest.mark.parametrize("shape", [{"n_users": 15, "n_warm": 24}, {"n_users": 60, "n_warm": 20}], ids=["U<W", "U>W"])
@pytest.mark.parametrize("dim", [1, 4, 9])
def test_profiles_agree_with_the_reference(monkeypatch, shape, dim, branch):
    if branch == "sparse":
        monkeypatch.setattr(module, "_DENSE_ITEMS", 0)
    for seed in range(3):
        train = many_clicks(seed, **shape)
        found = item_profiles(train, dim=dim)
        assert found.dtype == np.float32
        assert_same_up_to_sign(found, slow(train, dim))


def test_the_sparse_branch_seeks_only_what_is_kept(monkeypatch):
    asked = []
    real = module.scipy.sparse.linalg.svds
    monkeypatch.setattr(module.scipy.sparse.linalg, "svds", lambda *a, **k: asked.append(k["k"]) or real(*a, **k))
    train = random_training_set(1)
    dense = item_profiles(train, dim=6)
    assert asked == []
    monkeypatch.setattr(module, "_DENSE_ITEMS", 0)
    np.testing.assert_allclose(item_profiles(train, dim=6), dense, atol=2e-5)  # signs included
    assert asked == [6]


@pytest.mark.parametrize("shrinkage", [0.5, 5.0, 50.0])
def test_shrinkage_damps_few_clicks(shrinkage):
    train = random_training_set(2)
    assert_same_up_to_sign(item_profiles(train, dim=5, shrinkage=shrinkage), slow(train, 5, shrinkage))
    norms = np.linalg.norm(item_profiles(train, dim=99, shrinkage=shrinkage), axis=1)
    counts = train.clicks[train.warm_items]
    units = norms**2 * (counts + shrinkage) / counts
    np.testing.assert_allclose(units, units[0], rtol=1e-5)


@pytest.mark.parametrize("dense_items", [0, 1500])
@pytest.mark.parametrize("dim", [20, 64])
def test_at_full_dimension_cosines_are_those_of_the_damped_columns(monkeypatch, dim, dense_items):
    monkeypatch.setattr(module, "_DENSE_ITEMS", dense_items)
    train = random_training_set(3, n_users=50, n_warm=20)
    profiles = item_profiles(train, dim=dim)
    assert profiles.shape == (20, 20)
    np.testing.assert_allclose(cosines(profiles), cosines(damped_columns(train).T), atol=1e-5)
    assert (profiles.astype(float) ** 2).mean() == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("dense_items", [0, 1500])
def test_no_more_dimensions_come_back_than_the_clicks_have(monkeypatch, dense_items):
    """Users of three kinds click in three ways: the rank is 3."""
    monkeypatch.setattr(module, "_DENSE_ITEMS", dense_items)
    kinds = np.random.default_rng(4).random((3, 18)) < 0.5
    clicks = kinds[np.arange(24) % 3].astype(np.float32)
    clicks[:, ~kinds.any(axis=0)] = 0
    train = TrainingSet(sp.csr_array(clicks), FeatureSet({}, 18), "rank 3")
    profiles = item_profiles(train, dim=8)
    assert profiles.shape == (len(train.warm_items), 3)
    np.testing.assert_allclose(cosines(profiles), cosines(damped_columns(train).T), atol=1e-5)


@pytest.mark.parametrize("dense_items", [0, 1500])
def test_the_same_clicks_have_the_same_profiles(monkeypatch, dense_items):
    monkeypatch.setattr(module, "_DENSE_ITEMS", dense_items)
    for train in (random_training_set(5), genre_groups()[0]):
        first = item_profiles(train, dim=3)
        np.random.random(3)  # noqa: NPY002  nothing depends on the global generator
        for _ in range(3):
            np.testing.assert_array_equal(item_profiles(train, dim=3), first)


def test_equal_blocks_have_the_same_cosines_twice(monkeypatch):
    """Singular values that coincide leave the basis open; nothing else depends on it."""
    monkeypatch.setattr(module, "_DENSE_ITEMS", 0)
    blocks = np.kron(np.eye(4), np.ones((6, 5))).astype(np.float32)
    train = TrainingSet(sp.csr_array(blocks), FeatureSet({}, 20), "blocks")
    for _ in range(3):
        np.testing.assert_allclose(cosines(item_profiles(train, dim=4)), np.kron(np.eye(4), np.ones((5, 5))), atol=1e-5)


def test_the_largest_entry_of_each_dimension_is_positive():
    profiles = item_profiles(random_training_set(6), dim=7)
    assert (profiles[np.abs(profiles).argmax(axis=0), np.arange(7)] > 0).all()


def test_no_click_at_all_is_refused():
    train = random_training_set(7)
    empty = TrainingSet(sp.csr_array(train.interactions.shape, dtype=np.float32), train.features, "empty")
    with pytest.raises(DataError, match="No item has a click"):
        item_profiles(empty, dim=3)


def test_more_than_fits_in_memory_is_refused_by_name(monkeypatch):
    def refuse(n_bytes, *, purpose, way_out):
        raise CatalogTooLargeError(f"{purpose}: {n_bytes}. {way_out}")

    monkeypatch.setattr(module, "require_memory", refuse)
    with pytest.raises(CatalogTooLargeError, match=rf"22 items in 9 dimensions: {24 * 22**2}\. .*profile_dim"):
        item_profiles(random_training_set(8), dim=9)
