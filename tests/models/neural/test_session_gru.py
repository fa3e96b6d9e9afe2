"""SessionGRU: the contract, the order of clicks, and the loss against a plain reference."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from coldray.core.errors import DataError, EmptyDatasetError
from coldray.features.feature_set import FeatureSet
from coldray.models.base import TrainingSet
from coldray.models.neural.session_gru import SessionGRU, SessionGRUConfig, _SessionNetwork, _SessionTask
from coldray.models.neural.validation import hold_out_last
from coldray.training.row_random import BatchRows, batch_rows
from contracts.problems import clicks_alone, in_random_order, random_training_set
from contracts.recommender import ClickedItemContract, all_items
from models.learned import one_thread, step_at  # noqa: F401

QUICK = {"embedding_dim": 16, "hidden_dim": 16, "epochs": 40, "batch_size": 16, "learning_rate": 0.015, "dropout": 0.2}


class TestSessionGRU(ClickedItemContract):
    model = SessionGRU
    config = SessionGRUConfig(**QUICK, validation_share=0.0)


class TestSessionGRUWithDrawnNegatives(ClickedItemContract):
    model = SessionGRU
    config = SessionGRUConfig(**QUICK, n_layers=2, negatives=8, patience=30, longest=6)


def sessions_of(*sessions, n_items, key="sessions"):
    """Return a training set of sessions given by their items, in order."""
    places = np.zeros((len(sessions), n_items), np.float32)
    for row, items in zip(places, sessions, strict=True):
        row[list(items)] = np.arange(1, len(items) + 1)
    return TrainingSet(sp.csr_array(places), FeatureSet({}, n_items), key)


def round_trips(n_sessions, n_items, seed=0):
    """Return sessions that go round the items from a random one on, forwards."""
    generator = np.random.default_rng(seed)
    starts, lengths = generator.integers(0, n_items, n_sessions), generator.integers(3, n_items - 2, n_sessions)
    return [[(start + step) % n_items for step in range(length)] for start, length in zip(starts, lengths, strict=True)]


def task_of(train, **changes):
    task = _SessionTask(SessionGRUConfig(**{**QUICK, **changes}), train, None)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return task, task.build().eval()


# ---- order


def test_the_next_item_follows_from_the_order_and_not_from_the_set():
    train = sessions_of(*round_trips(120, 12), n_items=12)
    model = SessionGRU(SessionGRUConfig(**QUICK, validation_share=0.0)).fit(train)
    forwards = sessions_of([3, 4, 5, 6], [8, 9, 10, 11], [11, 0, 1], n_items=12).interactions
    scores = model.score(forwards, all_items(model))
    np.testing.assert_array_equal(scores.argmax(axis=1), [7, 0, 2])
    other = sessions_of([6, 5, 4, 3], [10, 11, 8, 9], [1, 0, 11], n_items=12).interactions
    np.testing.assert_array_equal(model.score(other, all_items(model)).argmax(axis=1), [4, 10, 0])


def test_only_the_order_of_places_counts():
    train = in_random_order(random_training_set(1))
    model = SessionGRU(SessionGRUConfig(**{**QUICK, "epochs": 3}, validation_share=0.0)).fit(train)
    stretched = train.interactions.copy()
    stretched.data = stretched.data**2 + 3
    np.testing.assert_array_equal(
        model.score(stretched, all_items(model)), model.score(train.interactions, all_items(model))
    )


def test_the_last_clicks_of_a_long_session_are_read():
    train = sessions_of(*round_trips(20, 12), n_items=12)
    model = SessionGRU(SessionGRUConfig(**{**QUICK, "epochs": 2}, longest=3, validation_share=0.0)).fit(train)
    long, short, longer = (
        model.score(sessions_of(items, n_items=12).interactions, all_items(model))
        for items in ([9, 8, 1, 2, 3], [1, 2, 3], [9, 1, 2, 3])
    )
    np.testing.assert_allclose(long, short, atol=1e-6)
    np.testing.assert_allclose(longer, short, atol=1e-6)
    assert np.abs(model.score(sessions_of([2, 3], n_items=12).interactions, all_items(model)) - short).max() > 1e-4


@given(st.integers(0, 1000))
def test_the_last_click_of_a_user_is_held_out(seed):
    train = in_random_order(random_training_set(seed), seed)
    rest, validation = hold_out_last(train, 10, np.random.default_rng(seed))
    dense, left = train.interactions.toarray(), rest.interactions.toarray()
    lost = np.flatnonzero((dense != left).any(axis=1))
    assert len(lost) == min(10, (np.count_nonzero(dense, axis=1) > 1).sum())
    for user in lost:
        (item,) = np.flatnonzero(dense[user] != left[user])
        assert dense[user, item] == dense[user].max()
    assert set(validation.clicks.data.tolist()) == {1.0}
    assert validation.clicks.nnz == len(validation) == len(lost)
    assert set(validation.candidates) == set(rest.warm_items)


# ---- the loss


def states_by_hand(network, items):
    """Return what the unit holds after each click, one session at a time and not packed."""
    rows = network.read(torch.tensor(items))[None]
    return network.written(network.unit(rows)[0])[0].detach().numpy()


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 1000), negatives=st.sampled_from([None, 3]), longest=st.sampled_from([2, 50]))
def test_the_loss_agrees_with_the_reference(seed, negatives, longest):
    train = in_random_order(random_training_set(seed), seed)
    task, network = task_of(train, negatives=negatives, longest=longest)
    batch = task.batch(torch.arange(task.n_examples), torch.Generator().manual_seed(seed))
    found = task.loss(network, batch, step_at()).per_example.detach().numpy()
    weights, biases = (part.detach().numpy() for part in (network.wanted.weight, network.wanted.bias))
    dense = train.interactions.toarray()
    for row, user in enumerate(task.users.tolist()):
        items = sorted(np.flatnonzero(dense[user]).tolist(), key=lambda item: dense[user, item])
        items = items[-longest - 1 :]
        losses = []
        for state, wanted in zip(states_by_hand(network, items[:-1]), items[1:], strict=True):
            logits = weights @ state + biases
            rivals = logits if negatives is None else logits[[wanted, *batch["negatives"][row].tolist()]]
            losses.append(np.log(np.exp(rivals).sum()) - logits[wanted])
        assert found[row] == pytest.approx(np.mean(losses), abs=1e-4)


def test_a_worker_without_sessions_takes_part():
    task, network = task_of(in_random_order(random_training_set(2)))
    batch = task.batch(torch.zeros(0, dtype=torch.int64), torch.Generator())
    assert task.loss(network.train(), batch, step_at()).per_example.shape == (0,)


# ---- bad input


def test_clicks_without_an_order_are_refused():
    with pytest.raises(DataError, match=r"all \d+ clicks have the same place, .* Give the model places"):
        SessionGRU(SessionGRUConfig(**QUICK)).fit(random_training_set(3))


def test_nobody_with_two_clicks_is_refused():
    with pytest.raises(EmptyDatasetError, match="nobody has clicked twice"):
        SessionGRU(SessionGRUConfig(**QUICK)).fit(clicks_alone(np.eye(4)))
    with pytest.raises(EmptyDatasetError, match="nobody has clicked twice"):
        SessionGRU(SessionGRUConfig(**QUICK)).fit(clicks_alone(np.zeros((2, 4))))


@pytest.mark.parametrize("session", [[2, 0], [2, 0, 1], [3, 1, 0, 2]], ids=len)
def test_a_single_session_is_served(session):
    train, begun = sessions_of(session, n_items=5), sessions_of(session[:1], n_items=5).interactions
    learnt = SessionGRU(SessionGRUConfig(**QUICK, validation_share=0)).fit(train)
    assert learnt.score(begun, all_items(learnt))[0].argmax() == session[1]
    model = SessionGRU(SessionGRUConfig(**QUICK)).fit(train)
    assert np.isfinite(model.score(begun, all_items(model))).all()
    assert ("ndcg@10" in model.history) == (len(session) > 2), "there is something to hold out, and something left"


def test_a_history_of_ones_is_served_in_the_order_of_the_items():
    train = in_random_order(random_training_set(4))
    model = SessionGRU(SessionGRUConfig(**{**QUICK, "epochs": 2}, validation_share=0.0)).fit(train)
    ones = sp.csr_array((np.ones(3, np.float32), [4, 7, 9], [0, 3]), shape=(1, 30))
    ordered = sp.csr_array((np.array([1, 2, 3], np.float32), [4, 7, 9], [0, 3]), shape=(1, 30))
    np.testing.assert_array_equal(model.score(ones, all_items(model)), model.score(ordered, all_items(model)))


def test_many_histories_are_scored_as_a_few(monkeypatch):
    train = in_random_order(random_training_set(5))
    model = SessionGRU(SessionGRUConfig(**{**QUICK, "epochs": 2}, validation_share=0.0)).fit(train)
    whole = model.score(train.interactions, all_items(model))
    monkeypatch.setattr("coldray.models.neural.session_gru._BLOCK_SESSIONS", 7)
    np.testing.assert_allclose(model.score(train.interactions, all_items(model)), whole, atol=1e-5)


@pytest.mark.parametrize(("field", "value"), [("longest", 0), ("negatives", 0), ("dropout", 1.0), ("n_layers", 0)])
def test_a_value_out_of_range_is_refused_by_name(field, value):
    with pytest.raises(ValidationError, match=field):
        SessionGRUConfig(**{field: value})


def test_what_is_read_and_what_is_predicted_by_lose_units_in_training():
    config = SessionGRUConfig(**{**QUICK, "dropout": 0.5})
    network = _SessionNetwork(config, 9)
    batch = {"history": torch.randint(0, 9, (400, 3)), "lengths": torch.full((400,), 3)}
    with batch_rows(network, BatchRows(0, 400, 5)):
        outputs = network.train()(batch)[0]
    left_out = outputs == 0  # [b, L, d]
    assert left_out.float().mean() == pytest.approx(0.5, abs=0.03)
    assert (left_out == left_out[:, :1]).all(), "the same units at all places of a session"
    assert not (network.eval()(batch)[0] == 0).any()
    with batch_rows(network, BatchRows(0, 400, 5)):
        again, inner = network.train()(batch)[0], network.outputs(batch["history"], batch["lengths"])
    assert torch.equal(again, outputs)
    assert not torch.allclose(inner, network.eval().outputs(batch["history"], batch["lengths"])), "inputs lose some too"
