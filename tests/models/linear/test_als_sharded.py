"""ALS by the workers of a Ray cluster: the factors of one worker, shards, lost workers, and what there has to be."""

import sys

import numpy as np
import pytest
import ray
import ray.cloudpickle
import scipy.sparse as sp

from coldray.core.errors import ClusterError, ConfigError, SingularMatrixError, TrainingFailedError
from coldray.models.linalg.weighted_ridge import RidgeParameters, WeightedRidge
from coldray.models.linear import als as module
from coldray.models.linear.als import ALS, ALSConfig, _ShardedSide
from coldray.training.options import FitOptions
from contracts.losses import Deadly
from contracts.problems import genre_groups, random_training_set
from contracts.recommender import all_items

# The tests are not installed where Ray's workers run.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])

PARAMETERS = RidgeParameters(alpha=2.0, regularization=0.7, steps=2)


@pytest.fixture
def side():
    generator = np.random.default_rng(0)
    clicks = sp.csr_array((generator.random((40, 12)) < 0.4).astype(np.float32))
    factors, start = (generator.normal(size=(n, 3)).astype(np.float32) for n in (12, 40))
    return clicks, factors, start


@pytest.mark.parametrize("cg_steps", [0, 3])
def test_two_workers_find_the_factors_of_one(ray_cluster, cg_steps):
    train, _ = genre_groups()
    config = ALSConfig(n_factors=3, regularization=1.0, alpha=10.0, iterations=4, cg_steps=cg_steps, seed=3)
    alone = ALS(config).fit(train)
    sharded = ALS(config).fit(train, options=FitOptions(workers=2))
    np.testing.assert_allclose(sharded.state()["factors"], alone.state()["factors"], atol=1e-4)
    np.testing.assert_allclose(sharded.objective, alone.objective, rtol=1e-5)
    scores = [model.score(train.interactions, all_items(model)) for model in (sharded, alone)]
    np.testing.assert_allclose(*scores, atol=1e-4)


def test_shards_are_put_together_in_the_order_of_the_rows(ray_cluster, side):
    clicks, factors, start = side
    clicks = sp.csr_array(np.where(np.arange(40)[:, None] == 7, 0, clicks.toarray()))
    together = WeightedRidge(factors, PARAMETERS).solve(clicks, start=start)
    for workers in (1, 5):
        found = _ShardedSide(clicks, PARAMETERS, workers)(factors, start)
        np.testing.assert_allclose(found.rows, together.rows, atol=1e-5)
        assert found.objective == pytest.approx(together.objective, rel=1e-5)
        assert (found.rows[7] == 0).all()


def test_a_lost_worker_changes_nothing(ray_cluster, side, tmp_path):
    clicks, factors, start = side
    sharded = _ShardedSide(clicks, PARAMETERS, 2)
    undisturbed = sharded(factors, start)
    sharded._shards[1] = ray.put(Deadly(tmp_path, 2, clicks[sharded._rows[1]]))
    found = sharded(factors, start)
    assert len(list(tmp_path.iterdir())) == 2
    np.testing.assert_array_equal(found.rows, undisturbed.rows)
    assert found.objective == undisturbed.objective


def test_workers_that_are_lost_again_and_again_are_told_of(ray_cluster, side, tmp_path):
    clicks, factors, start = side
    sharded = _ShardedSide(clicks, PARAMETERS, 2)
    sharded._shards[0] = ray.put(Deadly(tmp_path, 10, clicks))
    with pytest.raises(TrainingFailedError, match="ALS by 2 workers"):
        sharded(factors, start)
    assert len(list(tmp_path.iterdir())) == 1 + module._RETRIES


def test_an_error_of_a_worker_is_the_error(ray_cluster, side):
    clicks = side[0]
    sharded = _ShardedSide(clicks, RidgeParameters(1.0, 0.0), 2)
    with pytest.raises(SingularMatrixError, match="Raise regularization"):
        sharded(np.zeros((12, 3), np.float32), np.zeros((40, 3), np.float32))


def test_a_cluster_with_enough_cpus_is_needed(ray_cluster, monkeypatch):
    train = random_training_set(0)
    with pytest.raises(ConfigError, match="workers is 3, but the Ray cluster has 2 CPUs"):
        ALS(ALSConfig(n_factors=3)).fit(train, options=FitOptions(workers=3))
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(ClusterError, match="2 workers needs a Ray cluster"):
        ALS(ALSConfig(n_factors=3)).fit(train, options=FitOptions(workers=2))
