"""Two towers: the contract, the loss against a plain reference, and what a user's vector is made of."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from coldray.core.errors import DataError
from coldray.models.neural.item_attributes import ItemAttributes
from coldray.models.neural.two_tower import (
    _LEAST_TEMPERATURE,
    TwoTower,
    TwoTowerConfig,
    TwoTowers,
    TwoTowerTask,
    _log_shares,
)
from contracts.problems import clicks_alone, genre_groups, random_training_set, vector_feature
from contracts.recommender import ColdItemContract, all_items
from models.learned import Shard, one_thread, step_at  # noqa: F401

QUICK = {"embedding_dim": 16, "hidden_dim": 32, "batch_size": 16, "epochs": 40, "positives": 4, "dropout": 0.1}


class TestTwoTower(ColdItemContract):
    model = TwoTower
    config = TwoTowerConfig(**QUICK, validation_share=0.0)


class TestTwoTowerThatStopsEarly(ColdItemContract):
    model = TwoTower
    config = TwoTowerConfig(
        **QUICK,
        validation_share=0.2,
        patience=10,
        learn_temperature=True,
        history_dropout=0.2,
        stop_by="clicks",
        learning_rate=0.01,
    )


def task_of(train, **changes):
    """Return the training on `train`, and towers in evaluation mode: nothing is left out by chance."""
    config = TwoTowerConfig(**{**QUICK, **changes})
    task = TwoTowerTask(config, train, ItemAttributes.of(train), None)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return task, task.build().eval()


def batch_of(task, users, seed=0):
    return task.batch(torch.tensor(users, dtype=torch.int64), torch.Generator().manual_seed(seed))


# ---- the loss


def reference(task, towers, batch):
    """Write the loss out: the logits of one positive and of all that are none of the user's, one by one."""
    users, items, temperature = (part.detach().double().numpy() for part in towers(batch))
    listed = batch["items"].numpy()
    shares = task.config.correction * log_shares_by_hand(task)
    clicked = clicks_of(task)
    losses = []
    for row, user in enumerate(batch["users"].tolist()):
        of_user = []
        for place, item in enumerate(listed[row]):
            own = users[row, place] @ items[row, place] / temperature - shares[item]
            rivals = [own]
            for other_row in range(len(listed)):
                for other_place, other in enumerate(listed[other_row]):
                    if other not in clicked[user]:
                        logit = users[row, place] @ items[other_row, other_place] / temperature - shares[other]
                        rivals.append(logit)
            of_user.append(-np.log(np.exp(own) / np.sum(np.exp(rivals))))
        losses.append(np.mean(of_user))
    return np.array(losses)


def clicks_of(task):
    starts, items = task.histories.starts.tolist(), task.histories.items.tolist()
    return [set(items[start:end]) for start, end in pairwise(starts)]


def log_shares_by_hand(task):
    """Return log of the chance that a draw is of an item: any user alike, then any of their clicks."""
    clicked = [items for items in clicks_of(task) if items]
    shares = np.zeros(task.histories.n_items)
    for items in clicked:
        for item in items:
            shares[item] += 1 / len(items) / len(clicked)
    return np.log(np.where(shares > 0, shares, 1))


@settings(max_examples=10)
@given(seed=st.integers(0, 1000), correction=st.sampled_from([0.0, 0.4, 1.0]), temperature=st.floats(0.05, 2))
def test_the_loss_agrees_with_the_reference(seed, correction, temperature):
    task, towers = task_of(random_training_set(seed), correction=correction, temperature=temperature)
    batch = batch_of(task, [3, 0, 7, 12, 5], seed)
    found = task.loss(towers, batch, step_at()).per_example
    np.testing.assert_allclose(found.detach().numpy(), reference(task, towers, batch), rtol=2e-4)


def test_the_shares_are_the_chances_of_the_draws():
    task, _ = task_of(random_training_set(5))
    shares = _log_shares(random_training_set(5).interactions)
    np.testing.assert_allclose(shares, log_shares_by_hand(task), atol=1e-6)
    drawn = np.concatenate(
        [batch_of(task, list(range(task.n_examples)), seed)["items"].numpy().ravel() for seed in range(200)]
    )
    found = np.bincount(drawn, minlength=30) / len(drawn)
    warm = random_training_set(5).warm_items
    np.testing.assert_allclose(found[warm], np.exp(shares[warm]), atol=0.006)
    assert found[warm].sum() == pytest.approx(1)


@pytest.mark.parametrize("sizes", [(4, 3), (0, 7), (2, 3, 2)], ids=str)
def test_workers_together_have_the_loss_of_one(sizes):
    task, towers = task_of(random_training_set(6))
    whole = batch_of(task, list(range(7)))
    users, own, temperature = towers(whole)
    expected = task.loss(towers, whole, step_at()).per_example
    vectors = [part.detach() for part in torch.split(own, list(sizes))]
    items = list(torch.split(whole["items"], list(sizes)))
    found, start = [], 0
    for rank, size in enumerate(sizes):
        rows = slice(start, start + size)
        part = {"users": whole["users"][rows], "items": whole["items"][rows]}
        outputs = (users[rows].detach(), own[rows].detach(), temperature)
        step = step_at(workers=Shard(rank, vectors, items))
        found.append(task.loss(lambda _, outputs=outputs: outputs, part, step).per_example)
        start += size
    torch.testing.assert_close(torch.cat(found), expected.detach())


def test_a_worker_without_users_takes_part():
    task, towers = task_of(random_training_set(6))
    empty = batch_of(task, [])
    loss = task.loss(towers.train(), empty, step_at())
    assert loss.per_example.shape == (0,)
    loss.per_example.sum().backward()


# ---- users and items


@pytest.mark.parametrize("hidden", [0.0, 0.4])
def test_a_positive_is_not_in_its_own_history(hidden):
    """The vector of a user for one positive is that of their other clicks, of those that are read at all."""
    train = random_training_set(7)
    task, towers = task_of(train, history_dropout=hidden)
    batch = batch_of(task, list(range(20)))
    users = towers(batch)[0].detach()
    _, clicked = towers.all_items()
    ends = [*batch["history_offsets"].tolist()[1:], len(batch["history"])]
    left_out = 0
    for row, (start, end) in enumerate(zip(batch["history_offsets"].tolist(), ends, strict=True)):
        history = set(batch["listed"][batch["history"][start:end]].tolist())
        for place, item in enumerate(batch["items"][row].tolist()):
            left_out += item in history
            others = np.zeros((1, task.histories.n_items), np.float32)
            others[0, list(history - {item})] = 1
            expected = towers.user_vectors(sp.csr_array(others), clicked)[0]
            torch.testing.assert_close(users[row, place], expected, atol=2e-5, rtol=0)
    assert (left_out == 80) == (hidden == 0)


def test_own_vectors_are_left_out_for_a_share_of_the_positives():
    task, towers = task_of(random_training_set(8), id_dropout=0.3, positives=50, dropout=0.0)
    batch = batch_of(task, list(range(25)))
    with torch.no_grad():
        told = torch.nn.functional.normalize(towers.told(batch["listed"], batch), dim=-1)[batch["positives"]]
        vectors = towers.train()(batch)[1]
    without = (vectors - told).abs().amax(dim=-1) < 1e-6
    assert without.float().mean().item() == pytest.approx(0.3, abs=0.04)
    with torch.no_grad():
        assert not ((towers.eval()(batch)[1] - told).abs().amax(dim=-1) < 1e-6).any()


def test_scores_are_the_inner_products_of_unit_vectors():
    train = random_training_set(9)
    model = TwoTower(TestTwoTower.config).fit(train)
    users, items = model.user_vectors(train.interactions), model.item_vectors(all_items(model))
    assert users.dtype == items.dtype == np.float32
    for vectors in (users, items):
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(users @ items.T, model.score(train.interactions, all_items(model)), atol=1e-5)
    np.testing.assert_array_equal(model.item_vectors(np.array([4, 2])), items[[4, 2]])


def test_a_cold_item_is_what_its_attributes_say():
    """Items with the same attributes have the same vector, if neither has clicks."""
    train = random_training_set(10)
    model = TwoTower(TestTwoTower.config).fit(train)
    twin = model.add_items(train.features.take(train.cold_items[:1]))
    np.testing.assert_allclose(twin.item_vectors([30]), twin.item_vectors(train.cold_items[:1]), atol=1e-6)
    warm = model.add_items(train.features.take(train.warm_items[:1]))
    assert np.abs(warm.item_vectors([30]) - warm.item_vectors(train.warm_items[:1])).max() > 0.01


def test_clicks_alone_are_enough():
    train, genres = genre_groups()
    alone = clicks_alone(train.interactions.toarray()[:, train.warm_items])
    model = TwoTower(TwoTowerConfig(**QUICK, validation_share=0.2)).fit(alone)
    scores = model.score(alone.interactions, all_items(model))
    best = np.where(alone.interactions.toarray() > 0, -np.inf, scores).argmax(axis=1)
    kind = genres[train.warm_items]
    assert (kind[best] == np.repeat(np.arange(3), 12)).mean() > 0.95
    added = model.add_items(clicks_alone(np.zeros((1, 2))).features)
    assert added.n_items == 26
    np.testing.assert_array_equal(added.item_vectors([24, 25]), 0)


# ---- parameters


def test_a_learned_temperature_moves_and_a_given_one_does_not():
    train = random_training_set(11)
    for learned in (False, True):
        model = TwoTower(TwoTowerConfig(**QUICK, validation_share=0.0, learn_temperature=learned)).fit(train)
        moved = abs(model.fitted_network.temperature.item() - 0.1)
        assert moved > 1e-3 if learned else moved < 1e-7


def test_a_temperature_is_not_learned_down_to_nothing():
    towers = TwoTowers(TwoTowerConfig(temperature=1e-6), ItemAttributes.of(random_training_set(1)), np.arange(3))
    assert towers.temperature.item() == pytest.approx(_LEAST_TEMPERATURE)


@pytest.mark.parametrize("stop_by", ["items", "clicks"])
def test_what_training_is_stopped_by(stop_by):
    train = random_training_set(12, n_warm=22)
    rest, validation = TwoTower(TwoTowerConfig(stop_by=stop_by, validation_share=0.2)).hold_out(train)
    assert (np.isin(validation.candidates, rest.warm_items)).all() == (stop_by == "clicks")
    held = set(train.warm_items) - set(rest.warm_items)
    assert (held == set(validation.candidates)) == (stop_by == "items")
    assert TwoTower(TwoTowerConfig(validation_share=0)).hold_out(train)[1] is None


def test_without_a_refit_the_model_is_that_of_the_first_training():
    """Held-out items have no vector of their own then."""
    train = random_training_set(13)
    model = TwoTower(TwoTowerConfig(**{**QUICK, "epochs": 4}, validation_share=0.2, refit=False)).fit(train)
    assert len(model.state()["inputs.warm"]) == 18
    assert np.isfinite(model.score(train.interactions, all_items(model))).all()


@pytest.mark.parametrize(
    ("field", "value"),
    [("temperature", 0.0), ("id_dropout", 1.0), ("correction", 1.1), ("positives", 0), ("embedding_dim", 0),
     ("history_dropout", -0.1), ("stop_by", "users")],
)  # fmt: skip
def test_a_value_out_of_range_is_refused_by_name(field, value):
    with pytest.raises(ValidationError, match=field):
        TwoTowerConfig(**{field: value})


def test_attributes_that_tell_nothing_are_refused():
    train = random_training_set(14)
    same = type(train.features)({"same": vector_feature(np.ones((30, 1)))}, 30)
    with pytest.raises(DataError, match="Nothing can be learnt from the attributes"):
        TwoTower(TestTwoTower.config).fit(type(train)(train.interactions, same, "same"))


def test_a_history_of_the_positive_alone_is_read_as_empty():
    """What is left of it by rounding has any direction, and its gradient no bound."""
    clicks = np.eye(6)[np.arange(60) % 6]
    clicks[0, 1] = 1
    train = replace(clicks_alone(clicks), features=random_training_set(3, n_warm=4, n_cold=2).features)
    task, towers = task_of(train)
    users, _, _ = towers(batch_of(task, range(1, 60)))
    nobody = towers.users(torch.zeros(1, users.shape[-1]))
    assert torch.allclose(users, nobody.expand_as(users), atol=1e-6)
    (users * torch.randn(users.shape, generator=torch.Generator().manual_seed(0))).sum().backward()
    assert max(float(weight.grad.abs().max()) for weight in towers.parameters() if weight.grad is not None) < 1e3
    assert not torch.allclose(towers(batch_of(task, [0]))[0], nobody, atol=1e-3), "one of two clicks is left"
