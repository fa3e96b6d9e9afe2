"""VAE: the contract, its loss against plain loops, and what its encoder is shown."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st

from coldray.models.neural.vae import (
    VAE,
    VAEConfig,
    VAETask,
    VariationalAutoencoder,
    _unit_bags,
    log_likelihood,
    weight_bytes,
)
from contracts.problems import clicks_alone, random_training_set
from contracts.recommender import ClickedItemContract, histories_of
from models.learned import one_thread, step_at  # noqa: F401

QUICK = {
    "hidden_dim": 32,
    "latent_dim": 8,
    "batch_size": 12,
    "epochs": 40,
    "learning_rate": 0.01,
    "dropout": 0.3,
    "kl_cap": 0.05,
    "kl_warmup": 10,
    "validation_share": 0.0,
}


class TestWithHiddenLayers(ClickedItemContract):
    model = VAE
    config = VAEConfig(**QUICK, n_layers=1)


class TestVAE(ClickedItemContract):
    model = VAE
    config = VAEConfig(**QUICK)


def task_of(train=None, **changes):
    return VAETask(VAEConfig(**{**QUICK, **changes}), (train or random_training_set(4)).interactions, None)


def batch_of(task, examples, seed=0):
    return task.batch(torch.as_tensor(examples), torch.Generator().manual_seed(seed))


def dense(batch, n_rows, n_items):
    """Return what the encoder is shown as a matrix."""
    ends = [*batch["history_offsets"].tolist()[1:], len(batch["history"])]
    found = np.zeros((n_rows, n_items))
    for row, (start, end) in enumerate(zip(batch["history_offsets"].tolist(), ends, strict=True)):
        for place in range(start, end):
            found[row, batch["history"][place]] += batch["history_values"][place]
    return found


def unit_rows(clicks):
    return clicks / np.maximum(np.sqrt((clicks**2).sum(axis=1, keepdims=True)), 1e-9)


# ---- the loss


@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 7))
def test_the_likelihood_agrees_with_the_loop(seed, n_users, n_items):
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(n_users, n_items)) * 3
    clicks = generator.random((n_users, n_items)) < 0.5
    rows, items = np.nonzero(clicks)
    found = log_likelihood(torch.from_numpy(logits), torch.from_numpy(rows), torch.from_numpy(items))
    expected = []
    for row, wanted in zip(logits, clicks, strict=True):
        shares = np.exp(row) / np.exp(row).sum()
        expected.append(sum(np.log(share) for share, clicked in zip(shares, wanted, strict=True) if clicked))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("progress", "weight"), [(0.0, 0.0), (2.5, 0.075), (10.0, 0.3), (40.0, 0.3)])
def test_the_divergence_grows_to_its_cap(progress, weight):
    task = task_of(kl_cap=0.3)
    module, batch = task.build().eval(), batch_of(task, [0, 3, 4])
    torch.manual_seed(0)
    logits, encoded = module(batch)
    torch.manual_seed(0)
    loss = task.loss(module, batch, step_at(progress))
    mean, variance = encoded.mean.detach().numpy(), np.exp(encoded.log_variance.detach().numpy())
    divergence = 0.5 * (mean**2 + variance - 1 - np.log(variance)).sum(axis=1)
    assert (divergence > 1e-3).all()
    likelihood = log_likelihood(logits, batch["click_rows"], batch["clicks"]).detach().numpy()
    np.testing.assert_allclose(loss.parts["KL"].numpy(), divergence, rtol=1e-4)
    np.testing.assert_allclose(loss.parts["log-likelihood"].numpy(), likelihood, rtol=1e-5)
    found = loss.per_example.detach().numpy()
    np.testing.assert_allclose(found, weight * divergence - likelihood, rtol=1e-5)


def test_without_a_warm_up_the_divergence_weighs_at_once():
    task = task_of(kl_cap=0.5, kl_warmup=0)
    loss = task.loss(task.build(), batch_of(task, [0, 1]), step_at(0.0))
    found = loss.per_example.detach() + loss.parts["log-likelihood"]
    torch.testing.assert_close(found, 0.5 * loss.parts["KL"], rtol=1e-3, atol=1e-4)


def test_the_divergence_holds_z_down():
    """Of the same clicks, the stronger it weighs the less z says."""
    said = []
    for cap in (0.0, 1.0, 100.0):
        model = VAE(VAEConfig(**{**QUICK, "kl_cap": cap, "kl_warmup": 0})).fit(random_training_set(4))
        said.append(model.history["KL"][-1])
    assert said[0] > 2 * said[1] > 4 * said[2]


def test_a_worker_without_an_example_has_no_loss():
    task = task_of()
    loss = task.loss(task.build(), batch_of(task, torch.zeros(0, dtype=torch.int64)), step_at())
    assert loss.per_example.shape == (0,)


# ---- what the encoder is shown


def test_all_clicks_are_to_be_found_whatever_is_shown():
    train = random_training_set(4)
    task = task_of(train, dropout=0.8)
    batch = batch_of(task, [2, 0, 5, 2])
    pairs = sorted(zip(batch["click_rows"].tolist(), batch["clicks"].tolist(), strict=True))
    users = task.users[[2, 0, 5, 2]].numpy()
    assert pairs == sorted(zip(*(found.tolist() for found in train.interactions[users].nonzero()), strict=True))
    assert len(batch["history"]) < len(pairs)


def test_what_is_shown_is_of_unit_length_on_average():
    """Each click one over the root of their number, scaled up for those left out; by 6 standard errors."""
    clicks = np.zeros((2, 9))
    clicks[0, [0, 2, 4, 5]] = 1
    clicks[1, [1, 8]] = 1
    task = task_of(clicks_alone(clicks), dropout=0.4)
    users = np.tile([0, 1], 2000)
    shown = np.concatenate([dense(batch_of(task, [0, 1], seed), 2, 9) for seed in range(2000)])
    values = np.array([1 / (0.6 * 2), 1 / (0.6 * np.sqrt(2))])
    for user in (0, 1):
        mine = shown[users == user]
        assert set(np.unique(mine.round(5))) == {0, values[user].round(5)}
        error = 6 * values[user] * np.sqrt(0.24 / 2000)
        np.testing.assert_allclose(mine.mean(axis=0), unit_rows(clicks)[user], atol=error)


def test_without_dropout_it_is_what_a_history_is_scored_by():
    train = random_training_set(4)
    task = task_of(train, dropout=0.0)
    examples = np.arange(task.n_examples)
    shown = dense(batch_of(task, examples), len(examples), 30)
    histories = train.interactions[task.users.numpy()]
    np.testing.assert_allclose(shown, unit_rows(histories.toarray()), rtol=1e-5)
    scored = dense(_unit_bags(histories, np.ones(30, np.float32)), len(examples), 30)
    np.testing.assert_allclose(scored, shown, rtol=1e-5)


def test_users_without_a_click_are_no_examples():
    task = task_of(clicks_alone(np.array([[1, 0, 1], [0, 0, 0], [0, 1, 1]])))
    assert task.n_examples == 2
    np.testing.assert_array_equal(task.users, [0, 2])


# ---- scores


@pytest.mark.parametrize("n_layers", [0, 1, 2])
def test_scores_are_the_logits_of_the_mean_by_plain_products(n_layers):
    train = random_training_set(4)
    model = VAE(VAEConfig(**{**QUICK, "n_layers": n_layers, "epochs": 3})).fit(train)
    weights = {name.removeprefix("weights."): value for name, value in model.state().items()}
    units = unit_rows(train.interactions.toarray()) @ weights["encoder.first.weight"] + weights["encoder.bias"]
    for layer in range(n_layers):
        name = f"encoder.rest.{2 * layer + 1}"
        units = np.tanh(units) @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]
    units = units[:, :8]
    for layer in range(n_layers):
        name = f"decoder.{2 * layer}"
        units = np.tanh(units @ weights[f"{name}.weight"].T + weights[f"{name}.bias"])
    expected = units @ weights["items.weight"].T + weights["items.bias"]
    items = np.array([3, 29, 0])
    np.testing.assert_allclose(model.score(train.interactions, items), expected[:, items], rtol=1e-3, atol=1e-4)


def test_an_item_without_a_click_says_nothing_of_a_user():
    train = random_training_set(4)
    model = VAE(VAEConfig(**{**QUICK, "epochs": 3})).fit(train)
    warm, cold = train.warm_items, train.cold_items
    histories = histories_of(warm[:3], [*warm[:3], *cold[:2]], [], cold[:2], n_items=30)
    plain, more, empty, nothing = model.score(histories, np.arange(30))
    np.testing.assert_allclose(more, plain, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(nothing, empty, rtol=1e-5, atol=1e-6)


def test_a_new_network_expects_what_is_popular():
    clicks = np.array([5, 0, 14])
    network = VariationalAutoencoder(clicks, VAEConfig(**QUICK))
    shares = np.exp(network.items.bias.detach().numpy())
    np.testing.assert_allclose(shares, [6 / 22, 1 / 22, 15 / 22], rtol=1e-5)


def test_z_is_drawn_in_training_and_its_mean_taken_after_it():
    task = task_of()
    module, batch = task.build(), batch_of(task, [0, 1, 2])
    assert not torch.allclose(module(batch)[0], module(batch)[0])
    histories = sp.csr_array(random_training_set(4).interactions)
    scorer = module.eval().scorer(np.arange(30))
    with torch.no_grad():
        np.testing.assert_array_equal(scorer(histories), scorer(histories))


def test_z_is_spread_as_its_variance_says():
    """Over 4,000 rows of one user, by 6 standard errors of a standard deviation."""
    task = task_of(latent_dim=5, dropout=0.0)
    module = task.build()
    wide = torch.tensor([-3.0, -1.0, 0.0, 1.0, 2.0])
    module.encoder.bias.data[5:] += wide  # without hidden layers these units are log σ²
    batch = batch_of(task, [3] * 4000)
    torch.manual_seed(0)
    with torch.no_grad():
        z, encoded = module.sample(batch)
    deviations = np.exp(encoded.log_variance[0].double().numpy() / 2)
    np.testing.assert_allclose(np.log(deviations) * 2, wide.numpy(), atol=1.5)
    found = (z - encoded.mean).double().numpy()
    np.testing.assert_allclose(found.std(axis=0), deviations, rtol=6 / np.sqrt(2 * 4000))
    assert (np.abs(found.mean(axis=0)) < 6 * deviations / np.sqrt(4000)).all()


@pytest.mark.parametrize("n_layers", [0, 1, 2])
def test_the_weights_take_what_is_reckoned(n_layers):
    config = VAEConfig(**{**QUICK, "n_layers": n_layers, "hidden_dim": 40})
    parameters = VariationalAutoencoder(np.ones(5000, np.int64), config).parameters()
    found = sum(4 * each.numel() for each in parameters)
    assert found <= weight_bytes(5000, config) < 1.02 * found
