"""UA-Rec: the contract, its loss against references, and confidence in what can be predicted."""

import numpy as np
import pytest
import scipy.sparse as sp
import scipy.stats
import torch
from pydantic import ValidationError

from coldray.features.feature_set import FeatureSet
from coldray.models.base import TrainingSet
from coldray.models.transfer.uarec import _LOG_VARIANCE, GaussianHeads, UARec, UARecConfig, _gaussian_nll
from contracts.problems import random_training_set, vector_feature
from contracts.recommender import ColdItemContract, all_items
from models.learned import QUICK, CountingComputations, one_thread, step_at  # noqa: F401


class TestUARec(ColdItemContract):
    model = UARec
    config = UARecConfig(**QUICK)


# ---- the loss


def predictions(seed, n=7, p=4):
    generator = torch.Generator().manual_seed(seed)
    target, mean, log_variance = (torch.randn(n, p, generator=generator, dtype=torch.float64) for _ in range(3))
    return target, mean, log_variance


@pytest.mark.parametrize("seed", range(3))
def test_the_loss_is_the_gaussian_likelihood_up_to_its_constants(seed):
    target, mean, log_variance = predictions(seed)
    found = _gaussian_nll(target, mean, log_variance)
    assert found.shape == (7,)
    density = scipy.stats.norm(mean.numpy(), np.exp(log_variance.numpy() / 2)).logpdf(target.numpy())
    np.testing.assert_allclose(found.numpy(), -2 * density.mean(axis=1) - np.log(2 * np.pi), atol=1e-12)
    torchs = torch.nn.GaussianNLLLoss(reduction="none")(mean, target, log_variance.exp())
    torch.testing.assert_close(found, 2 * torchs.mean(dim=1), rtol=0, atol=1e-12)


def test_the_loss_is_least_at_the_truth():
    target = predictions(0)[0]
    mean = target - 0.5
    variance = torch.full_like(target, 0.25)
    best = _gaussian_nll(target, mean, variance.log())
    for factor in (0.5, 0.9, 1.1, 2.0):
        assert (_gaussian_nll(target, mean, (factor * variance).log()) > best).all()


def test_the_objective_takes_the_profiles_of_the_batch():
    target, mean, log_variance = predictions(4)
    outputs = {"mean": mean, "log_variance": log_variance}
    loss = GaussianHeads.objective(outputs, {"profiles": target}, step_at(), UARecConfig())
    torch.testing.assert_close(loss.per_example, _gaussian_nll(target, mean, log_variance))
    assert torch.equal(loss.parts["Gaussian NLL"], loss.per_example)


def test_the_variance_is_kept_within_its_limits():
    network = GaussianHeads.of(UARecConfig(**QUICK), 3, 2).eval()
    with torch.no_grad():
        network.tower.rest[-1].bias[2:] = torch.tensor([1e4, -1e4])
        items = {"indices": torch.tensor([0, 2]), "offsets": torch.tensor([0]), "weights": torch.ones(2)}
        outputs = network(items)
        directions, precision = network.queries(items)
    np.testing.assert_array_equal(outputs["log_variance"].numpy(), [[_LOG_VARIANCE, -_LOG_VARIANCE]])
    assert precision.numpy() == pytest.approx((np.exp(_LOG_VARIANCE) + np.exp(-_LOG_VARIANCE)) / 2)
    np.testing.assert_allclose(np.linalg.norm(directions.numpy(), axis=1), 1, atol=1e-6)


# ---- confidence


def half_predictable(seed=0):
    """Return items of which the first half is clicked by genre and the other half by chance; each fifth is cold.

    A user of group g clicks the items of genre g with the chance 0.95. An item of no genre has one of three labels that
    mean nothing, and is clicked by as many users, drawn for that item.
    """
    generator = np.random.default_rng(seed)
    n_users, n_half = 60, 45
    genre = np.arange(n_half) % 3
    likes = (np.arange(n_users)[:, None] % 3 == genre) & (generator.random((n_users, n_half)) < 0.95)
    chance = np.array([generator.permutation(n_users) < n_users // 3 for _ in range(n_half)]).T
    clicks = np.concatenate([likes, chance], axis=1).astype(np.float32)
    cold = np.arange(2 * n_half) % 5 == 4
    clicks[:, cold] = 0
    labels = np.eye(6)[np.r_[genre, 3 + generator.integers(3, size=n_half)]]
    features = FeatureSet({"label": vector_feature(labels)}, 2 * n_half)
    return TrainingSet(sp.csr_array(clicks), features, f"half predictable {seed}"), np.arange(2 * n_half) < n_half


def test_what_can_be_predicted_is_trusted_more():
    train, predictable = half_predictable()
    config = UARecConfig(**{**QUICK, "profile_dim": 60, "epochs": 60, "batch_size": 16})
    model = UARec(config).fit(train)
    cold = train.cold_items
    confidence = model.confidence(cold)
    assert confidence[predictable[cold]].min() > 1.25 * confidence[~predictable[cold]].max()
    assert model.confidence(train.warm_items).mean() == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("power", [0.25, 0.5, 1.0])
def test_confidence_weighs_the_columns_by_its_power(power):
    train, shared = random_training_set(50), CountingComputations()
    plain, weighed = (
        UARec(UARecConfig(**QUICK, confidence_power=exponent)).fit(train, shared) for exponent in (0.0, power)
    )
    items = all_items(plain)
    confidence = plain.confidence(items)
    assert np.ptp(confidence) > 0.01
    np.testing.assert_array_equal(weighed.confidence(items), confidence)
    expected = plain.score(train.interactions, items) * confidence**power
    np.testing.assert_allclose(weighed.score(train.interactions, items), expected, rtol=1e-4, atol=1e-5)
    assert len(shared.computed["learn_similarity"]) == 1, "the power is applied after the training"


def test_without_confidence_scores_are_summed_cosines_of_profiles_and_predictions():
    train = random_training_set(51)
    model = UARec(UARecConfig(**QUICK, confidence_power=0.0)).fit(train)
    single = model.score(sp.eye_array(model.n_items, dtype=np.float32, format="csr"), all_items(model))
    keys = model.state()["keys"]
    similarity = single[np.ix_(train.warm_items, train.cold_items)]
    queries, residual, *_ = np.linalg.lstsq(keys, similarity, rcond=None)
    np.testing.assert_allclose(np.linalg.norm(queries, axis=0), 1, atol=1e-4)
    assert residual.max() < 1e-8


def test_trials_that_train_otherwise_share_nothing():
    train, shared = random_training_set(52), CountingComputations()
    for change in ({}, {"seed": 1}, {"epochs": 5}, {"hidden_dim": 16}):
        UARec(UARecConfig(**{**QUICK, "epochs": 3, **change})).fit(train, shared)
    assert len(shared.computed["learn_similarity"]) == 4
    assert shared.computed["item_profiles"] == [{"dim": QUICK["profile_dim"]}], "but what the clicks say of items"


@pytest.mark.parametrize(("field", "value"), [("confidence_power", -0.1), ("hidden_dim", 0), ("batch_size", 0)])
def test_a_value_out_of_range_is_refused_by_name(field, value):
    with pytest.raises(ValidationError, match=field):
        UARecConfig(**{field: value})
