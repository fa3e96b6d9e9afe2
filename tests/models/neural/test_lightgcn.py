"""LightGCN: the contract, propagation and loss against plain references, and both kinds of layers."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from coldray.core.errors import CatalogTooLargeError, EmptyDatasetError
from coldray.evaluation.ranking import rank
from coldray.models.linalg.vector_index import VectorIndex
from coldray.models.neural.lightgcn import LightGCN, LightGCNConfig, _LightGCNTask, _PropagatedItems, _SparseProduct
from contracts.problems import clicks_alone, random_training_set
from contracts.recommender import ClickedItemContract, all_items
from models.learned import one_thread, step_at  # noqa: F401

QUICK = {
    "embedding_dim": 8,
    "epochs": 60,
    "batch_size": 64,
    "negatives": 2,
    "learning_rate": 0.03,
    "schedule": "constant",
    "loss": "bpr",
}
SOFTMAX = {**QUICK, "loss": "softmax", "epochs": 20, "temperature": 0.2}


class TestLightGCN(ClickedItemContract):
    model = LightGCN
    config = LightGCNConfig(**QUICK, validation_share=0.0)


class TestLightGCNBySoftmax(ClickedItemContract):
    model = LightGCN
    config = LightGCNConfig(**SOFTMAX, validation_share=0.0)


class TestLightGCNByDrawnSoftmax(ClickedItemContract):
    model = LightGCN
    config = LightGCNConfig(**{**SOFTMAX, "candidates": 10, "epochs": 30}, n_layers=2, validation_share=0.2)


class TestGCNThatStopsEarly(ClickedItemContract):
    model = LightGCN
    config = LightGCNConfig(**QUICK, kind="gcn", n_layers=2, validation_share=0.2, patience=20)


def task_of(train, **changes):
    task = _LightGCNTask(LightGCNConfig(**{**QUICK, **changes}), train, None)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return task, task.build()


def normalised(clicks):
    """Return R, dense."""
    dense = clicks.toarray().astype(float)
    lengths, counts = dense.sum(axis=1), dense.sum(axis=0)
    for user, item in zip(*np.nonzero(dense), strict=True):
        dense[user, item] /= np.sqrt(lengths[user] * counts[item])
    return dense


def propagated(network, clicks):
    """Return V by dense products."""
    mixing = normalised(clicks).T @ normalised(clicks)
    layers = [network.items.weight.detach().numpy().astype(float)]
    for number in range(network.config.n_layers):
        back = mixing @ layers[-1]
        if network.config.kind == "gcn":
            weights = network.weights[number]
            back = back @ weights.weight.detach().numpy().T + weights.bias.detach().numpy()
            back = layers[-1] + np.where(back > 0, back, 0.01 * back)
        layers.append(back)
    return layers[-1] if network.config.kind == "gcn" else np.mean(layers, axis=0)


@settings(max_examples=12)
@given(seed=st.integers(0, 1000), kind=st.sampled_from(["lightgcn", "gcn"]), n_layers=st.integers(0, 3))
def test_items_are_mixed_along_the_clicks(seed, kind, n_layers):
    train = random_training_set(seed)
    _, network = task_of(train, kind=kind, n_layers=n_layers)
    vectors = propagated(network, train.interactions)
    np.testing.assert_allclose(network.vectors().detach().numpy(), vectors, atol=1e-5)
    users, items = network({})
    np.testing.assert_allclose(items.detach().numpy(), vectors, atol=1e-5)
    np.testing.assert_allclose(users.detach().numpy(), normalised(train.interactions) @ vectors, atol=1e-5)


def test_the_gradient_is_that_of_the_dense_product():
    train = random_training_set(2)
    _, network = task_of(train)
    rows = torch.randn(30, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    cotangent = torch.randn(30, 3, generator=torch.Generator().manual_seed(1))
    _SparseProduct.apply(rows, network.of_users, network.of_items).backward(cotangent)
    expected = normalised(train.interactions).T @ cotangent.numpy()
    np.testing.assert_allclose(rows.grad.numpy(), expected, atol=1e-6)


@settings(max_examples=8)
@given(seed=st.integers(0, 1000), kind=st.sampled_from(["uniform", "popularity"]))
def test_the_loss_agrees_with_the_reference(seed, kind):
    """A click against each negative, by a user from whose vector the click has been taken."""
    train = random_training_set(seed)
    task, network = task_of(train, negatives=3, negatives_kind=kind)
    batch = task.batch(torch.arange(0, task.n_examples, 3), torch.Generator().manual_seed(seed))
    found = task.loss(network, batch, step_at()).per_example.detach().numpy()
    vectors, mixing = propagated(network, train.interactions), normalised(train.interactions)
    clicks = train.interactions.toarray() > 0
    for row, (user, item) in enumerate(zip(batch["users"].tolist(), batch["items"].tolist(), strict=True)):
        others = mixing[user].copy()
        assert clicks[user, item]
        others[item] = 0
        margins = [(others @ vectors) @ (vectors[item] - vectors[other]) for other in batch["negatives"][row].tolist()]
        assert not clicks[user, batch["negatives"][row].numpy()].any()
        assert found[row] == pytest.approx(np.mean(-np.log(1 / (1 + np.exp(-np.array(margins))))), abs=1e-5)


@settings(max_examples=8)
@given(seed=st.integers(0, 1000), candidates=st.sampled_from([4, 11, 1000]))
def test_the_softmax_agrees_with_the_reference(seed, candidates):
    """The share of a click among what its user has not clicked, those left out counted by those drawn."""
    train = random_training_set(seed)
    task, network = task_of(train, loss="softmax", candidates=candidates, temperature=0.3)
    batch = task.batch(torch.arange(0, task.n_examples, 3), torch.Generator().manual_seed(seed))
    found = task.loss(network, batch, step_at()).per_example.detach().numpy()
    drawn = batch["candidates"].tolist()
    assert len(set(drawn)) == len(drawn) == min(candidates, 30)
    vectors, mixing = propagated(network, train.interactions), normalised(train.interactions)
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    clicks = train.interactions.toarray() > 0
    for row, (user, item) in enumerate(zip(batch["users"].tolist(), batch["items"].tolist(), strict=True)):
        others = mixing[user].copy()
        others[item] = 0
        own = others @ vectors
        cosines = units @ own / max(np.linalg.norm(own), 1e-12)
        rivals = [np.exp(cosines[other] / 0.3) for other in drawn if not clicks[user, other]]
        share = np.exp(cosines[item] / 0.3)
        assert found[row] == pytest.approx(-np.log(share / (share + 30 / len(drawn) * sum(rivals))), abs=1e-4)


def test_an_item_nobody_clicked_is_pushed_below_those_of_a_softmax():
    train = random_training_set(5)
    model = LightGCN(TestLightGCNBySoftmax.config).fit(train)
    scores = model.score(train.interactions, all_items(model))
    assert scores[:, train.cold_items].mean() < scores[:, train.warm_items].mean()


def test_hard_negatives_are_those_that_score_highest():
    train = random_training_set(3)
    task, network = task_of(train, negatives=2, negatives_kind="hard")
    batch = task.batch(torch.arange(20), torch.Generator().manual_seed(0))
    assert batch["negatives"].shape[1] > 2
    early, late = (task.loss(network, batch, step_at(progress)).per_example for progress in (0.0, 50.0))
    assert late.mean() > early.mean()


@pytest.mark.parametrize("loss", ["bpr", "softmax"])
def test_the_network_that_validates_scores_as_the_model_that_is_kept(loss):
    train = random_training_set(4)
    model = LightGCN(TestLightGCN.config.model_copy(update={"loss": loss}))
    _, network = task_of(train, loss=loss)
    state = {"clicks": train.clicks, "vectors": network.vectors().detach().numpy(), "scales": network.scales.numpy()}
    kept = model.from_state(model.config, state, train.features)
    items = np.array([3, 1, 20])
    with torch.no_grad():
        expected = network.scorer(items)(train.interactions)
    np.testing.assert_allclose(kept.score(train.interactions, items), expected, atol=1e-6)
    compared = propagated(network, train.interactions)
    compared = compared if loss == "bpr" else compared / np.linalg.norm(compared, axis=1, keepdims=True)
    np.testing.assert_allclose(
        kept.score(train.interactions, all_items(kept)),
        normalised(train.interactions) @ state["vectors"] @ compared.T,
        atol=1e-5,
    )


def test_only_the_mixed_vectors_are_kept():
    model = LightGCN(TestLightGCN.config).fit(random_training_set(5))
    assert set(model.state()) == {"clicks", "vectors", "scales", "history.loss"}
    again = LightGCN(TestGCNThatStopsEarly.config).fit(random_training_set(5))
    assert "ndcg@10" in again.history


def test_it_can_be_searched_by_an_index():
    train = random_training_set(6)
    model = LightGCN(TestLightGCN.config).fit(train)
    found = VectorIndex(model, train.warm_items).nearest(model.user_vectors(train.interactions), 5)
    expected = rank(model.scorer(train.warm_items), train.interactions, train.warm_items, k=5)
    np.testing.assert_allclose(found[0], expected.scores, rtol=1e-4)


def test_the_graph_that_does_not_fit_is_refused_before_it_is_built(monkeypatch):
    train = random_training_set(7)
    model = LightGCN(TestLightGCN.config)
    monkeypatch.setattr("coldray.core.memory._available_bytes", lambda: 1000)
    monkeypatch.setattr(_PropagatedItems, "__init__", lambda *_: pytest.fail("a graph was built"))
    with pytest.raises(CatalogTooLargeError, match=rf"The graph of {train.interactions.nnz} clicks needs"):
        model.fit(train)


@pytest.mark.parametrize("loss", ["softmax", "bpr"])
def test_clicks_of_a_user_who_has_clicked_everything_are_no_examples(loss):
    clicks = np.vstack([np.ones(4), np.eye(4)])
    config = LightGCNConfig(**{**QUICK, "validation_share": 0, "loss": loss})
    task = _LightGCNTask(config, clicks_alone(clicks), None)
    assert task.users[torch.arange(task.n_examples)].tolist() == [1, 2, 3, 4]
    batch = task.batch(torch.tensor([2, 0]), torch.Generator())
    assert batch["items"].tolist() == [2, 0]
    assert batch["weights"].tolist() == pytest.approx([2**-0.5] * 2), "one click of the user, two of the item"
    with pytest.raises(EmptyDatasetError, match="Every user has clicked all 4 items"):
        LightGCN(config).fit(clicks_alone(np.ones((3, 4))))


def test_no_click_is_refused():
    with pytest.raises(EmptyDatasetError, match="no click to train lightgcn on"):
        LightGCN(LightGCNConfig(**QUICK)).fit(clicks_alone(np.zeros((3, 4))))


def test_an_item_without_clicks_adds_nothing_to_a_history():
    train = random_training_set(8)
    model = LightGCN(TestLightGCN.config).fit(train)
    cold = sp.csr_array((np.ones(1, np.float32), ([0], [int(train.cold_items[0])])), shape=(1, 30))
    assert not model.user_vectors(cold).any()


@pytest.mark.parametrize(("field", "value"), [("kind", "gat"), ("n_layers", 9), ("negatives", 0), ("embedding_dim", 0)])
def test_a_value_out_of_range_is_refused_by_name(field, value):
    with pytest.raises(ValidationError, match=field):
        LightGCNConfig(**{field: value})
