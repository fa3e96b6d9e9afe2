"""NCF: the contract of its kinds, what a click is predicted from, and scores against plain products."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from coldray.core.errors import EmptyDatasetError
from coldray.models.neural import ncf as ncf_network
from coldray.models.neural.ncf import NCF, NCFConfig, _NCFNetwork, _NCFTask, _weight_bytes
from contracts.problems import clicks_alone, random_training_set
from contracts.recommender import ClickedItemContract, histories_of
from models.learned import one_thread, step_at  # noqa: F401

QUICK = {
    "embedding_dim": 16,
    "mlp_dim": 8,
    "hidden_dim": 16,
    "batch_size": 12,
    "positives": 4,
    "epochs": 20,
    "learning_rate": 0.03,
    "validation_share": 0.0,
}
KINDS = ("neumf", "gmf", "mlp")


class TestNeuMF(ClickedItemContract):
    model = NCF
    config = NCFConfig(**QUICK)


class TestGMF(ClickedItemContract):
    model = NCF
    config = NCFConfig(**QUICK, kind="gmf")


class TestMLP(ClickedItemContract):
    model = NCF
    config = NCFConfig(**QUICK, kind="mlp")


def task_of(train=None, **changes):
    return _NCFTask(NCFConfig(**{**QUICK, **changes}), train or random_training_set(4), None)


def batch_of(task, examples=None, seed=0):
    examples = torch.arange(task.n_examples) if examples is None else torch.as_tensor(examples)
    return task.batch(examples, torch.Generator().manual_seed(seed))


def network_of(train, **changes):
    """Return a network whose biases are not all the same."""
    torch.manual_seed(3)
    network = _NCFNetwork(train.clicks, NCFConfig(**{**QUICK, **changes}))
    torch.nn.init.normal_(network.bias.weight)
    return network.eval()


# ---- what is predicted, and from what


@given(st.integers(0, 1000), st.integers(1, 9))
def test_every_click_is_predicted_once_an_epoch(seed, positives):
    train = random_training_set(seed % 7)
    task = task_of(train, positives=positives)
    batch = batch_of(task, np.random.default_rng(seed).permutation(task.n_examples))
    users = task.users[torch.from_numpy(np.random.default_rng(seed).permutation(task.n_examples))]
    predicted = [
        (int(user), int(items[0]))
        for user, row, is_click in zip(users, batch["items"], batch["is_click"], strict=True)
        for items in row[is_click]
    ]
    assert sorted(predicted) == sorted(zip(*(found.tolist() for found in train.interactions.nonzero()), strict=True))


def test_as_many_items_as_are_asked_for_are_drawn_and_none_was_clicked():
    train = random_training_set(4)
    task = task_of(train, negatives=3)
    batch = batch_of(task)
    assert batch["items"].shape == (task.n_examples, 4, 4)
    clicks = train.interactions.toarray()
    drawn = clicks[task.users.numpy()[:, None, None], batch["items"][:, :, 1:].numpy()]
    assert not drawn.any()
    assert np.isin(train.cold_items, batch["items"][:, :, 1:]).any(), "items that nobody clicked are drawn too"
    assert not torch.equal(batch_of(task, seed=1)["items"], batch["items"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_a_click_is_scored_as_if_it_were_not_in_the_history(kind, power):
    """By the function that serves, given the history without it."""
    train = random_training_set(4)
    task, network = task_of(train), network_of(train, kind=kind, history_power=power)
    scorer = network.scorer(np.arange(30))
    with torch.no_grad():
        batch = batch_of(task)
        found = network(batch)
        for row, user in enumerate(task.users.tolist()):
            for place in batch["is_click"][row].nonzero().flatten().tolist():
                items = batch["items"][row, place]
                history = train.interactions[[user]].toarray()
                history[0, items[0]] = 0
                expected = scorer(histories_of(history[0].nonzero()[0], n_items=30))[0, items.numpy()]
                np.testing.assert_allclose(found[row, place].numpy(), expected, rtol=1e-3, atol=1e-5)


def test_a_user_of_a_single_click_is_trained_on():
    task = task_of(clicks_alone(np.array([[1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]])))
    assert sorted(task.users.tolist()) == [0, 1]
    batch = batch_of(task)
    scores = task.build()(batch)
    assert torch.isfinite(scores).all()
    assert torch.isfinite(task.loss(task.build(), batch, step_at()).per_example).all()


def test_a_user_who_clicked_everything_is_no_example():
    task = task_of(clicks_alone(np.array([[1, 0, 0], [1, 1, 1]])))
    assert task.users.tolist() == [0]
    assert task.mean_clicks == 1
    with pytest.raises(EmptyDatasetError, match="Every user has clicked all 3 items"):
        task_of(clicks_alone(np.ones((2, 3))))


# ---- the loss


def test_the_loss_agrees_with_the_loop():
    train = random_training_set(4)
    task = task_of(train, negatives=2)
    module, batch = task.build(), batch_of(task)
    found = task.loss(module, batch, step_at()).per_example.detach().numpy()
    scores = module(batch).detach().numpy().astype(np.float64)
    losses, every = [], []
    for row, is_click in zip(scores, batch["is_click"].numpy(), strict=True):
        entropies = []
        for pair, counts in zip(row, is_click, strict=True):
            if counts:
                chances = 1 / (1 + np.exp(-pair))
                entropies.append(-(np.log(chances[0]) + np.log(1 - chances[1]) + np.log(1 - chances[2])) / 3)
        losses.append(sum(entropies) / (train.interactions.nnz / task.n_examples))
        every += entropies
    np.testing.assert_allclose(found, losses, rtol=1e-4)
    assert found.mean() == pytest.approx(np.mean(every), rel=1e-4), "every click weighs the same"


def test_a_worker_without_an_example_has_no_loss():
    task = task_of()
    loss = task.loss(task.build(), batch_of(task, torch.zeros(0, dtype=torch.int64)), step_at())
    assert loss.per_example.shape == (0,)


# ---- scores


@pytest.mark.parametrize("kind", KINDS)
def test_scores_by_plain_products(kind):
    train = random_training_set(4)
    model = NCF(NCFConfig(**{**QUICK, "kind": kind, "epochs": 2, "n_layers": 3})).fit(train)
    weights = {name.removeprefix("weights."): value for name, value in model.state().items()}
    clicks = train.interactions.toarray()
    counts = np.maximum(clicks.sum(axis=1, keepdims=True), 1)
    expected = np.tile(weights["bias.weight"][:, 0], (len(clicks), 1))
    if kind != "mlp":
        users = clicks @ weights["towers.gmf.clicks.weight"] / np.sqrt(counts)
        expected += (users * weights["towers.gmf.weight"]) @ weights["towers.gmf.items.weight"].T
    if kind != "gmf":
        names = {name.removeprefix("towers.mlp."): value for name, value in weights.items()}
        users = clicks @ names["clicks.weight"] / np.sqrt(counts)
        for user, row in enumerate(users):
            for item, embedding in enumerate(names["items.weight"]):
                units = names["of_user.weight"] @ row + names["of_user.bias"] + names["of_item.weight"] @ embedding
                for layer in (1, 3):
                    units = names[f"rest.{layer}.weight"] @ np.maximum(units, 0) + names[f"rest.{layer}.bias"]
                expected[user, item] += (names["rest.5.weight"] @ np.maximum(units, 0))[0]
    np.testing.assert_allclose(model.score(train.interactions, np.arange(30)), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("hidden", "units"), [(20, [20, 10, 5, 2]), (2, [2, 1, 1, 1])])
def test_each_layer_has_half_the_units_of_the_one_before(hidden, units):
    network = _NCFNetwork(np.ones(30, np.int64), NCFConfig(**{**QUICK, "hidden_dim": hidden, "n_layers": 4}))
    layers = network.towers["mlp"].rest
    assert network.towers["mlp"].of_user.out_features == units[0]
    assert [layer.in_features for layer in layers if isinstance(layer, torch.nn.Linear)] == units


@pytest.mark.parametrize("floats", [1, 1000, 10_000])
def test_blocks_of_users_change_nothing(monkeypatch, floats):
    train = random_training_set(4)
    network, items = network_of(train), np.array([4, 0, 29])
    with torch.no_grad():
        whole = network.scorer(items)(train.interactions)
        monkeypatch.setattr(ncf_network, "_BLOCK_FLOATS", floats)
        np.testing.assert_allclose(network.scorer(items)(train.interactions), whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_an_item_without_a_click_says_nothing_of_a_user(kind):
    train = random_training_set(4)
    scorer = network_of(train, kind=kind).scorer(np.arange(30))
    warm, cold = train.warm_items, train.cold_items
    with torch.no_grad():
        plain, more, empty, nothing = scorer(histories_of(warm[:3], [*warm[:3], *cold[:2]], [], cold[:2], n_items=30))
    np.testing.assert_allclose(more, plain, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(nothing, empty, rtol=1e-5, atol=1e-6)
    assert not np.allclose(plain, empty)


def test_an_empty_history_is_answered_by_what_is_popular():
    train = random_training_set(4)
    model = NCF(NCFConfig(**{**QUICK, "kind": "gmf", "epochs": 8})).fit(train)
    scores = model.score(histories_of([], n_items=30), np.arange(30))[0]
    np.testing.assert_array_equal(scores, model.state()["weights.bias.weight"][:, 0])
    assert np.corrcoef(scores, np.log1p(train.clicks))[0, 1] > 0.7


@pytest.mark.parametrize("kind", KINDS)
def test_the_weights_take_what_is_reckoned(kind):
    config = NCFConfig(**{**QUICK, "kind": kind})
    parameters = _NCFNetwork(np.ones(5000, np.int64), config).parameters()
    found = sum(4 * each.numel() for each in parameters)
    assert found <= _weight_bytes(5000, config) < 1.02 * found
