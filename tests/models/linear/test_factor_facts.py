"""The SVD of a train part against numpy's, and planted matrices whose factors are known."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from coldray.core.errors import CatalogTooLargeError, DataError
from coldray.models.linear import factor_facts as module
from coldray.models.linear.factor_facts import Magnitudes, factor_facts


def facts(dense, *, n_factors=50, most_users=10_000, seed=0, known=None):
    """Return the facts of a matrix; its zeros are unknown unless `known` marks them."""
    rows, columns = np.nonzero(dense if known is None else known)
    matrix = sp.csr_array((dense[rows, columns].astype(np.float32), (rows, columns)), shape=dense.shape)
    generator = np.random.default_rng(seed)
    return factor_facts(matrix, "ratings", n_factors=n_factors, most_users=most_users, generator=generator)


def random_ratings(seed, n_users=30, n_items=20):
    generator = np.random.default_rng(seed)
    ratings = generator.integers(1, 6, (n_users, n_items)) * (generator.random((n_users, n_items)) < 0.4)
    ratings[:, 3] = 0
    ratings[5] = 0
    return ratings.astype(np.float64)


@given(st.integers(0, 1000), st.integers(1, 19))
def test_magnitudes_and_errors_are_numpys(seed, k):
    dense = random_ratings(seed)
    found = facts(dense, n_factors=k)
    left, values, right = np.linalg.svd(dense, full_matrices=False)
    assert found.values == pytest.approx(values[:k], rel=1e-4)
    users, items = left[:, :k] * np.sqrt(values[:k]), right[:k].T * np.sqrt(values[:k])
    rated_users, rated_items = (dense != 0).any(axis=1), (dense != 0).any(axis=0)
    assert found.users.norms == pytest.approx(np.sort(np.linalg.norm(users[rated_users], axis=1)), abs=2e-3)
    assert found.items.norms == pytest.approx(np.sort(np.linalg.norm(items[rated_items], axis=1)), abs=2e-3)
    errors = (dense - users @ items.T)[dense != 0]
    assert found.rmse == pytest.approx(np.sqrt((errors**2).mean()), abs=1e-3)
    assert found.mae == pytest.approx(np.abs(errors).mean(), abs=1e-3)
    assert found.energy == pytest.approx((values[:k] ** 2).sum() / (dense**2).sum(), rel=1e-4)
    known = dense[dense != 0]
    assert found.rmse_without == pytest.approx(np.sqrt((known**2).mean()))
    assert found.mae_without == pytest.approx(known.mean())
    assert (found.train_users, found.listed_users) == (rated_users.sum(), rated_users.sum())


def test_all_factors_reconstruct_every_entry(caplog):
    found = facts(random_ratings(1), n_factors=500)
    assert "have no more than 19" in caplog.text
    assert found.rmse < 1e-5
    assert found.energy == pytest.approx(1.0, abs=1e-6)
    assert found.n_factors == 19


def test_lists_cover_what_is_left_of_a_users_own_group():
    # Two groups of items; a user of each has all items of their group but one, so each list begins with that one.
    dense = np.kron(np.eye(2), np.ones((6, 6)))
    dense[np.arange(12), np.arange(12)] = 0
    matrix = sp.csr_array(dense.astype(np.float32))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_LIST_LENGTH", 1)
        found = factor_facts(matrix, "clicks", n_factors=2, generator=np.random.default_rng(0))
        assert (found.coverage, found.list_length) == (1.0, 1)
        alone = factor_facts(matrix, "clicks", n_factors=2, most_users=3, generator=np.random.default_rng(0))
        assert (alone.coverage, alone.listed_users, alone.train_users) == (3 / 12, 3, 12)


def test_the_base_of_the_coverage_is_every_item_also_an_unclicked_one():
    dense = np.zeros((4, 10))
    dense[:, :4] = 1 - np.eye(4)
    found = facts(dense, n_factors=2)
    assert found.list_length == 4
    # Each user can be shown the one item of four that is not theirs: four of ten items.
    assert found.coverage == 4 / 10


def test_a_stored_rating_of_zero_is_an_entry_and_not_listed():
    dense = np.array([[5.0, 0.0, 4.0], [5.0, 3.0, 0.0], [4.0, 3.0, 5.0]])
    known = np.ones((3, 3), bool)
    found = facts(dense, n_factors=1, known=known)
    assert found.mae_without == pytest.approx(dense.mean())
    assert found.coverage == 0.0


def test_the_sample_of_users_is_that_of_its_seed():
    dense = random_ratings(4, 60, 40)
    same = [facts(dense, n_factors=5, most_users=2, seed=seed).coverage for seed in (1, 1)]
    assert same[0] == same[1]
    assert len({facts(dense, n_factors=5, most_users=2, seed=seed).coverage for seed in range(8)}) > 1


def test_those_without_weight_are_counted():
    assert Magnitudes(np.array([0.0, 9e-4, 2e-3, 1.0, 1.0, 1.0, 7.0])).negligible == 2
    assert Magnitudes(np.array([0.0, 1e-17, 1e-16, 5.0])).negligible == 3
    # A user and an item apart from all others have no part in the leading factor.
    dense = np.zeros((6, 6))
    dense[:5, :5] = 5
    dense[5, 5] = 1
    found = facts(dense, n_factors=1)
    assert (found.users.negligible, found.items.negligible) == (1, 1)
    assert facts(dense, n_factors=2).users.negligible == 0


def test_what_cannot_be_factorised_is_refused(monkeypatch):
    with pytest.raises(DataError, match="at least 2 of each"):
        facts(np.array([[1.0, 2.0]]))
    with pytest.raises(DataError, match="All 4 ratings of the train part are 0"):
        facts(np.zeros((2, 2)), known=np.ones((2, 2), bool))
    monkeypatch.setattr("coldray.core.memory._available_bytes", lambda: 1000)
    with pytest.raises(CatalogTooLargeError, match="20 factors of 30 users and 20 items"):
        facts(random_ratings(2, 30, 20) + 1)
