"""VAE with MARec's alignment: the contract, the second target by plain loops, and items that come later."""

import numpy as np
import pytest
import torch

from coldray.core.errors import ConfigError, DataError
from coldray.models.marec.model import MARec, MARecConfig
from coldray.models.neural.vae_marec import (
    VAEMARec,
    VAEMARecConfig,
    _aligned_weight_bytes,
    _AlignedItems,
    _VAEMARecTask,
)
from contracts.problems import clicks_alone, random_training_set
from contracts.recommender import ColdItemContract, histories_of
from models.learned import CountingComputations, one_thread, step_at  # noqa: F401

QUICK = {
    "latent_dim": 8,
    "batch_size": 12,
    "epochs": 40,
    "learning_rate": 0.01,
    "dropout": 0.3,
    "kl_cap": 0.05,
    "kl_warmup": 10,
    "validation_share": 0.0,
    "delta": 1.0,
}


class TestVAEMARec(ColdItemContract):
    model = VAEMARec
    config = VAEMARecConfig(**QUICK)


def config_of(**changes):
    return VAEMARecConfig(**{**QUICK, "epochs": 3, **changes})


def fit(train=None, **changes):
    return VAEMARec(config_of(**changes)).fit(train or random_training_set(4))


def few_cold():
    """Return clicks of which the 10th percentile is above one, so that items with few of them are aligned too."""
    train = random_training_set(8, n_users=60, n_warm=38, n_cold=2)
    p = np.percentile(train.clicks, 10)
    assert p > 1
    assert ((train.clicks > 0) & (train.clicks < p)).any()
    return train


def task_of(train, **changes):
    config = config_of(**changes)
    items = _AlignedItems.from_arrays(VAEMARec(config).inputs(train))
    return _VAEMARecTask(config, train, items, None), items


def batch_of(task):
    return task.batch(torch.arange(task.n_examples), torch.Generator().manual_seed(0))


# ---- the alignment


@pytest.mark.parametrize("learner", ["regression", "nonnegative", "correlation"])
def test_the_similarities_are_those_of_marec(learner):
    train = random_training_set(4)
    _, items = task_of(train, learner=learner, w0=0.1, order=2)
    marec = MARec(MARecConfig(learner=learner, w0=0.1, order=2, delta=1.0)).fit(train)
    np.testing.assert_array_equal(items.mixture, list(marec.mixture.values()))
    np.testing.assert_array_equal(items.similarity, marec._fitted.similarity)
    np.testing.assert_array_equal(items.cold, train.cold_items)
    np.testing.assert_allclose(np.sqrt((items.similarity**2).sum(axis=0)).mean() * items.scale, 1, rtol=1e-5)


@pytest.mark.parametrize("few", [True, False])
def test_the_second_target_by_plain_loops(few):
    train = few_cold() if few else random_training_set(4)
    task, items = task_of(train)
    found = batch_of(task)["aligned"].numpy()
    clicks, p = train.interactions.toarray(), max(np.percentile(train.clicks, 10), 1)
    aligned = [item for item in range(train.interactions.shape[1]) if train.clicks[item] < p]
    np.testing.assert_array_equal(items.aligned, aligned)
    below = 0
    for row, user in zip(found, task.users.tolist(), strict=True):
        for column, item in enumerate(aligned):
            transferred = sum(
                items.similarity[place, column] for place, warm in enumerate(train.warm_items) if clicks[user, warm]
            )
            below += transferred < 0
            expected = max(transferred, 0) * (p - train.clicks[item]) / p
            assert row[column] == pytest.approx(expected, rel=1e-3, abs=1e-6)
    assert below or not few, "some are below 0"


@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_the_loss_of_both_targets_by_plain_loops(alpha):
    train = few_cold()
    task, items = task_of(train, alpha=alpha, kl_warmup=0, kl_cap=0.2)
    module, batch = task.build(), batch_of(task)
    torch.manual_seed(0)
    logits, _ = module(batch)
    torch.manual_seed(0)
    loss = task.loss(module, batch, step_at())
    shares = torch.softmax(logits, dim=1).detach().numpy()[:, items.places]  # of each item, in the order of the items
    clicks, aligned = train.interactions.toarray(), batch["aligned"].numpy()
    for row, user in enumerate(task.users.tolist()):
        clicked = sum(np.log(shares[row, item]) for item in np.flatnonzero(clicks[user]))
        said = alpha * sum(aligned[row, j] * np.log(shares[row, item]) for j, item in enumerate(items.aligned))
        assert loss.parts["log-likelihood"][row].item() == pytest.approx(clicked, rel=1e-4)
        assert loss.parts["alignment"][row].item() == pytest.approx(said, rel=1e-4)
        expected = 0.2 * loss.parts["KL"][row].item() - clicked - said
        assert loss.per_example[row].item() == pytest.approx(expected, rel=1e-4)


def test_a_worker_without_an_example_has_no_loss():
    task, _ = task_of(random_training_set(4))
    batch = task.batch(torch.zeros(0, dtype=torch.int64), torch.Generator())
    assert task.loss(task.build(), batch, step_at()).per_example.shape == (0,)


# ---- scores


def test_scores_are_the_logits_of_the_training():
    """Without dropout and by the mean of z."""
    train = random_training_set(4)
    task, items = task_of(train, dropout=0.0)
    module = task.build().eval()
    with torch.no_grad():
        batch = batch_of(task)
        logits = torch.nn.functional.linear(module.decoder(module.encoder(batch).mean), *module.rows())
        scores = module.scorer(np.array([7, 0, 29]))(train.interactions[task.users.numpy()])
    np.testing.assert_allclose(scores, logits.numpy()[:, items.places[[7, 0, 29]]], rtol=1e-4, atol=1e-5)


def test_a_cold_item_is_what_similar_ones_say_of_it_by_plain_loops():
    train = random_training_set(4)
    task, items = task_of(train)
    module = task.build()
    torch.nn.init.normal_(module.alignment.bias)
    with torch.no_grad():
        weights, biases = (rows.numpy() for rows in module.rows())
    says, says_of_bias = module.alignment.weight.detach().numpy(), module.alignment.bias.detach().numpy()
    warm_biases = module.items.bias.detach().numpy()
    columns = items.similarity * items.scale
    assert abs(items.scale - 1) > 0.1, "else it would make no difference"
    assert np.sqrt((columns**2).sum(axis=0)).mean() == pytest.approx(1, rel=1e-5)
    for item in train.cold_items:
        column = columns[:, items.aligned.tolist().index(item)]
        weight = sum(share * row for share, row in zip(column, says, strict=True))
        bias = warm_biases.mean() + sum(share * one for share, one in zip(column, says_of_bias, strict=True))
        np.testing.assert_allclose(weights[items.places[item]], weight, rtol=1e-4, atol=1e-6)
        assert biases[items.places[item]] == pytest.approx(bias, rel=1e-4)


def test_added_items_change_no_score_of_the_others():
    train = random_training_set(4)
    model = fit(train)
    far = train.features.take(np.array([0, 1, 2, 3, 4, 5]))
    again = model.add_items(far)
    histories = (train.warm_items[:4].tolist(), [1, 2])
    found = again.score(histories_of(*histories, n_items=36), np.arange(30))
    np.testing.assert_allclose(found, model.score(histories_of(*histories, n_items=30), np.arange(30)), rtol=1e-5)


def test_an_added_item_is_scored_as_a_cold_one_of_the_same_attributes():
    train = random_training_set(4)
    model = fit(train)
    again = model.add_items(train.features.take(train.cold_items))
    scores = again.score(histories_of(train.warm_items[:4], [1, 2], n_items=38), np.arange(38))
    np.testing.assert_allclose(scores[:, 30:], scores[:, train.cold_items], rtol=1e-4, atol=1e-5)


def test_a_click_on_a_cold_item_says_nothing():
    train = random_training_set(4)
    model = fit(train).add_items(train.features.take(np.array([3, 5])))
    warm = train.warm_items[:3]
    plain, more = model.score(histories_of(warm, [*warm, train.cold_items[0], 31], n_items=32), np.arange(32))
    np.testing.assert_allclose(more, plain, rtol=1e-5, atol=1e-6)


# ---- the fit


def test_what_configurations_share_is_computed_once_and_of_the_whole_set_alone():
    train = random_training_set(4)
    shared = CountingComputations()
    model = VAEMARec(config_of(validation_share=0.25)).fit(train, shared)
    VAEMARec(config_of(validation_share=0.25, latent_dim=4)).fit(train, shared)
    assert {name: len(parameters) for name, parameters in shared.computed.items()} == {
        "regression_moments": 1,
        "aligned_similarity": 1,
    }
    alone = fit(train, validation_share=0.25)
    every = np.arange(30)
    np.testing.assert_array_equal(model.score(train.interactions, every), alone.score(train.interactions, every))
    assert np.isfinite(model.history["ndcg@10"]).all()


def test_without_attributes_there_is_nothing_to_align_with():
    with pytest.raises(DataError, match="clicks: vae_marec aligns clicks with attributes"):
        fit(clicks_alone(np.eye(4)))


def test_a_misspelt_attribute_of_delta_is_refused_before_a_study():
    kinds = {"genres": "labels", "year": "number"}
    VAEMARec(config_of(delta={"genres": 3.0})).check_attributes(kinds)
    with pytest.raises(ConfigError, match="delta names the attribute 'genre'"):
        VAEMARec(config_of(delta={"genre": 3.0})).check_attributes(kinds)


@pytest.mark.parametrize("n_layers", [0, 1])
def test_the_weights_take_at_most_what_is_reckoned(n_layers):
    train = few_cold()
    task, _ = task_of(train, n_layers=n_layers, hidden_dim=8)
    found = sum(4 * each.numel() for each in task.build().parameters())
    assert found <= _aligned_weight_bytes(40, task.config) < 1.3 * found
