"""SASRec: the contract, the order of clicks, attention and losses against plain references, and new items."""

import math

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from coldray.core.errors import ConfigError, DataError, EmptyDatasetError
from coldray.features.feature_set import FeatureSet
from coldray.models.base import TrainingSet
from coldray.models.neural.item_attributes import ItemAttributes
from coldray.models.neural.sequences.attention import Packing
from coldray.models.neural.sequences.config import SASRecConfig
from coldray.models.neural.sequences.losses import gbce_loss, power_of
from coldray.models.neural.sequences.model import SASRec
from coldray.models.neural.sequences.task import SASRecTask
from coldray.models.popularity.model import Popularity
from contracts.problems import clicks_alone, in_random_order, random_training_set, vector_feature
from contracts.recommender import ColdItemContract, all_items
from models.learned import one_thread, step_at  # noqa: F401

QUICK = {"embedding_dim": 16, "max_length": 12, "epochs": 25, "batch_size": 16, "learning_rate": 0.01, "dropout": 0.2}
NO_STOP = {**QUICK, "validation_share": 0.0}


class TestSASRec(ColdItemContract):
    model = SASRec
    config = SASRecConfig(**NO_STOP, id_dropout=0.3)


class TestSASRecWithGBCE(ColdItemContract):
    model = SASRec
    config = SASRecConfig(**{**NO_STOP, "epochs": 50}, loss="gbce", n_negatives=8, id_dropout=0.3, n_layers=1)


class TestSASRecOfMaskedClicks(ColdItemContract):
    model = SASRec
    config = SASRecConfig(**QUICK, objective="masked", id_dropout=0.3, n_negatives=30, patience=25)


def sessions_of(*sessions, n_items, features=None, key="sessions"):
    """Return a training set of sessions given by their items, in order."""
    places = np.zeros((len(sessions), n_items), np.float32)
    for row, items in zip(places, sessions, strict=True):
        row[list(items)] = np.arange(1, len(items) + 1)
    return TrainingSet(sp.csr_array(places), features or FeatureSet({}, n_items), key)


def round_trips(n_sessions, n_items, seed=0):
    """Return sessions that go round the items from a random one on, forwards."""
    generator = np.random.default_rng(seed)
    starts, lengths = generator.integers(0, n_items, n_sessions), generator.integers(3, n_items - 2, n_sessions)
    return [[(start + step) % n_items for step in range(length)] for start, length in zip(starts, lengths, strict=True)]


def task_of(train, **changes):
    task = SASRecTask(SASRecConfig(**{**QUICK, **changes}), train, ItemAttributes.of(train), None)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return task, task.build().eval()


# ---- planted structure


@pytest.mark.parametrize("changes", [{"epochs": 12}, {"objective": "masked", "mask_share": 0.5}], ids=str)
def test_the_next_item_follows_from_the_order_and_popularity_does_not_find_it(changes):
    train = sessions_of(*round_trips(120, 12), n_items=12)
    model = SASRec(SASRecConfig(**{**NO_STOP, **changes})).fit(train)
    begun = sessions_of([3, 4, 5, 6], [8, 9, 10, 11], [11, 0, 1], n_items=12).interactions
    scores = model.score(begun, all_items(model))
    np.testing.assert_array_equal(np.where(begun.toarray() > 0, -np.inf, scores).argmax(axis=1), [7, 0, 2])
    popular = Popularity().fit(train).score(begun, all_items(model))
    assert (np.where(begun.toarray() > 0, -np.inf, popular).argmax(axis=1) == [7, 0, 2]).sum() < 2


def test_a_new_item_with_the_attributes_of_what_comes_next_is_next():
    """Items of a kind are followed by those of the next kind; one of each kind, nobody has clicked."""
    n_kinds, each = 4, 5
    kinds = np.arange(n_kinds * each) % n_kinds
    generator = np.random.default_rng(2)
    warm = [np.flatnonzero(kinds == kind)[:-1] for kind in range(n_kinds)]
    sessions = []
    for start in generator.integers(0, n_kinds, 150):
        drawn = {kind: list(generator.permutation(warm[kind])) for kind in range(n_kinds)}
        sessions.append([drawn[(start + step) % n_kinds].pop() for step in range(generator.integers(3, 9))])
    features = FeatureSet({"kind": vector_feature(np.eye(n_kinds)[kinds])}, len(kinds))
    train = sessions_of(*sessions, n_items=len(kinds), features=features)
    model = SASRec(SASRecConfig(**{**NO_STOP, "epochs": 10}, id_dropout=0.4)).fit(train)
    history = sessions_of([warm[0][0], warm[1][0], warm[2][0]], n_items=len(kinds)).interactions
    cold = train.cold_items
    assert kinds[cold[model.score(history, cold)[0].argmax()]] == 3
    grown = model.add_items(FeatureSet({"kind": vector_feature(np.eye(n_kinds))}, n_kinds))
    longer = sp.csr_array(sp.hstack([history, sp.csr_array((1, n_kinds), dtype=np.float32)], format="csr"))
    assert grown.score(longer, np.arange(len(kinds), grown.n_items))[0].argmax() == 3


def test_an_item_of_which_nothing_is_known_is_a_mean_of_those_with_clicks():
    """Most items score below zero, which is what an item without any vector would get."""
    train = sessions_of(*round_trips(60, 12), n_items=14)
    model = SASRec(SASRecConfig(**{**NO_STOP, "epochs": 3})).fit(train)
    scores = model.score(train.interactions, all_items(model))
    np.testing.assert_allclose(scores[:, 12:], scores[:, :12].mean(axis=1, keepdims=True).repeat(2, axis=1), atol=1e-5)
    assert (scores[:, 12] < scores[:, :12].max(axis=1)).all()


# ---- attention


def attended_by_hand(heads, *, causal):
    """Return what each click of one session takes of the others ``[L, d]``, click by click."""
    length, _, n_heads, width = heads.shape
    found = np.zeros((length, n_heads, width))
    for click in range(length):
        seen = range(click + 1) if causal else range(length)
        for head in range(n_heads):
            query = heads[click, 0, head]
            weights = np.array([math.exp(query @ heads[other, 1, head] / math.sqrt(width)) for other in seen])
            found[click, head] = weights / weights.sum() @ np.stack([heads[other, 2, head] for other in seen])
    return found.reshape(length, -1)


@settings(deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.booleans(), st.integers(0, 100))
def test_attention_agrees_with_the_reference_whatever_else_is_packed(lengths, causal, seed):
    lengths = sorted(lengths)
    heads = torch.randn(sum(lengths), 3, 2, 4, generator=torch.Generator().manual_seed(seed))
    found = Packing(torch.tensor(lengths)).attended(heads, causal=causal)
    expected = [attended_by_hand(one.numpy(), causal=causal) for one in heads.split(lengths)]
    np.testing.assert_allclose(found.numpy(), np.concatenate(expected), atol=1e-5)


def states_of(network, items, vectors):
    """Return what stands at each click of one session by itself ``[L, d]``."""
    at = torch.arange(len(items))
    with torch.no_grad():
        return network.states(vectors, torch.tensor(items), at, torch.tensor([len(items)]), at)


@given(st.permutations(range(9)), st.integers(1, 8), st.integers(0, 20))
@settings(max_examples=20, deadline=None)
def test_what_comes_after_a_click_does_not_change_what_stands_there(items, cut, seed):
    _, network = task_of(sessions_of(*round_trips(9, 9, seed), n_items=9))
    vectors = network.all_items().detach()
    whole, part = states_of(network, items, vectors), states_of(network, items[:cut], vectors)
    torch.testing.assert_close(whole[:cut], part, atol=1e-5, rtol=1e-4)
    _, both_ways = task_of(sessions_of(*round_trips(9, 9, seed), n_items=9), objective="masked")
    around = [states_of(both_ways, some, vectors) for some in (items, items[:cut])]
    assert not torch.allclose(around[0][:cut], around[1], atol=1e-4), "of clicks left out, both sides count"


# ---- the batch and the loss


def test_only_the_last_clicks_are_read_and_only_their_order_counts():
    train = sessions_of(*round_trips(20, 12), n_items=12)
    model = SASRec(SASRecConfig(**{**NO_STOP, "epochs": 2, "max_length": 3})).fit(train)
    long, short = (
        model.score(sessions_of(items, n_items=12).interactions, all_items(model))
        for items in ([9, 8, 1, 2, 3], [1, 2, 3])
    )
    np.testing.assert_allclose(long, short, atol=1e-6)
    stretched = train.interactions.copy()
    stretched.data = stretched.data**2 + 3
    np.testing.assert_array_equal(
        model.score(stretched, all_items(model)), model.score(train.interactions, all_items(model))
    )


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 1000),
    kind=st.sampled_from([("softmax", None), ("softmax", 6), ("gbce", 6), ("gbce", None)]),
    max_length=st.sampled_from([2, 50]),
)
def test_the_loss_agrees_with_the_reference(seed, kind, max_length):
    train = in_random_order(random_training_set(seed), seed)
    task, network = task_of(train, loss=kind[0], n_negatives=kind[1], max_length=max_length)
    batch = task.batch(torch.arange(task.n_examples), torch.Generator().manual_seed(seed))
    found = task.loss(network, batch, step_at()).per_example.detach().numpy()
    vectors = network.all_items().detach()
    dense, warm = train.interactions.toarray(), train.warm_items
    drawn = batch["listed"][batch["rivals"]].numpy() if "rivals" in batch else warm
    for row, user in enumerate(task.users.tolist()):
        items = sorted(np.flatnonzero(dense[user]).tolist(), key=lambda item: dense[user, item])[-max_length - 1 :]
        rivals = drawn if kind == ("softmax", None) else [item for item in drawn if dense[user, item] == 0]
        total = 0.0
        for state, wanted in zip(states_of(network, items[:-1], vectors).numpy(), items[1:], strict=True):
            own = float(vectors[wanted].numpy() @ state)
            others = np.array([float(vectors[item].numpy() @ state) for item in rivals])
            if kind[0] == "gbce":
                share = min(len(drawn) / (len(warm) - 1), 1)
                beta = share * (0.75 * (1 - 1 / share) + 1 / share)
                right = 1 / (1 + math.exp(-own))
                wrong = 1 / (1 + np.exp(-others))
                total -= (math.log(right**beta) + np.log(1 - wrong).sum()) / (len(others) + 1)
            else:
                every = others if kind[1] is None else np.append(others, own)
                total += math.log(np.exp(every).sum()) - own
        assert found[row] == pytest.approx(total / task.asked, abs=1e-4)


def test_gbce_without_calibration_is_plain_and_with_all_of_it_raises_by_the_share():
    assert power_of(10, 1001, 0.0) == pytest.approx(1)
    assert power_of(10, 1001, 1.0) == pytest.approx(0.01)
    assert power_of(5000, 1001, 0.5) == pytest.approx(1), "all there are"
    own, others = torch.tensor([0.3]), torch.tensor([[0.1, -torch.inf, -0.2]])
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        torch.tensor([0.3, 0.1, -0.2]), torch.tensor([1.0, 0.0, 0.0])
    )
    assert float(gbce_loss(own, others, 1.0)) == pytest.approx(float(expected))


@given(st.integers(0, 1000), st.sampled_from([0.01, 0.3, 0.9]))
@settings(max_examples=15, deadline=None)
def test_what_is_masked_is_never_read(seed, share):
    train = in_random_order(random_training_set(seed), seed)
    task, _ = task_of(train, objective="masked", mask_share=share, max_length=6)
    examples = torch.arange(task.n_examples)
    batch = task.batch(examples, torch.Generator().manual_seed(seed))
    users = torch.repeat_interleave(torch.arange(len(batch["lengths"])), batch["lengths"])
    hidden = batch["items"] == len(batch["listed"])
    assert torch.equal(hidden.nonzero()[:, 0], batch["asked"]), "all that is asked for is hidden, and nothing else"
    for session in range(len(batch["lengths"])):
        read = set(batch["items"][(users == session) & ~hidden].tolist())
        wanted = batch["wanted"][users[batch["asked"]] == session].tolist()
        assert wanted, "of every session something is asked for"
        assert not read & set(wanted)


# ---- what is odd


def test_odd_histories_are_served():
    """None, one of all items, one of 10,000 clicks, ones in place of places, and items without a click."""
    n_items = 10_050
    train = sessions_of(*round_trips(30, 12), n_items=n_items)
    model = SASRec(SASRecConfig(**{**NO_STOP, "epochs": 1})).fit(train)
    places = np.zeros((4, n_items), np.float32)
    places[1], places[2, 3:10_003], places[3, [4, 10_020]] = 1, np.arange(10_000, 0, -1), 1
    scores = model.score(sp.csr_array(places), np.arange(30))
    assert scores.shape == (4, 30)
    assert np.isfinite(scores).all()
    last = np.zeros((1, n_items), np.float32)
    last[0, 3:15] = np.arange(12, 0, -1)
    np.testing.assert_allclose(scores[2], model.score(sp.csr_array(last), np.arange(30))[0], atol=1e-5)


def test_clicks_of_the_same_place_are_read_in_the_order_of_the_items():
    train = sessions_of(*round_trips(20, 12), n_items=12)
    model = SASRec(SASRecConfig(**{**NO_STOP, "epochs": 1})).fit(train)
    tied, told = np.zeros((2, 1, 12), np.float32)
    tied[0, [7, 4, 9]], told[0, [4, 7, 9]] = 5, [1, 2, 3]
    np.testing.assert_array_equal(*(model.score(sp.csr_array(rows), all_items(model)) for rows in (tied, told)))


def test_who_has_seen_everything_is_no_example_where_something_is_drawn():
    everything = sessions_of(range(5), range(5), n_items=5)
    assert np.isfinite(SASRec(SASRecConfig(**NO_STOP)).fit(everything).score(everything.interactions, [0, 4])).all()
    with pytest.raises(EmptyDatasetError, match=r"clicked all|left an item to be told from"):
        SASRec(SASRecConfig(**NO_STOP, n_negatives=3)).fit(everything)


def test_clicks_without_an_order_and_nobody_with_two_are_refused():
    with pytest.raises(DataError, match=r"all \d+ clicks have the same place, .* Give the model places"):
        SASRec(SASRecConfig(**QUICK)).fit(random_training_set(3))
    with pytest.raises(EmptyDatasetError, match="nobody has clicked twice"):
        SASRec(SASRecConfig(**QUICK)).fit(clicks_alone(np.eye(4)))


def test_heads_that_do_not_divide_are_refused_with_the_way_out():
    with pytest.raises(ConfigError, match=r"embedding_dim is 16, which 3 heads do not divide.* such as 18"):
        SASRecConfig(embedding_dim=16, n_heads=3)


@pytest.mark.parametrize(
    ("field", "value"),
    [("max_length", 0), ("n_negatives", 0), ("calibration", 1.1), ("mask_share", 0.0), ("loss", "bpr"), ("n_heads", 0)],
)
def test_a_value_out_of_range_is_refused_by_name(field, value):
    with pytest.raises(ValidationError, match=field):
        SASRecConfig(**{field: value})


def test_many_histories_are_scored_as_a_few(monkeypatch):
    train = in_random_order(random_training_set(5))
    model = SASRec(SASRecConfig(**{**NO_STOP, "epochs": 1})).fit(train)
    whole = model.score(train.interactions, all_items(model))
    monkeypatch.setattr("coldray.models.neural.sequences.network._BLOCK_SESSIONS", 7)
    np.testing.assert_allclose(model.score(train.interactions, all_items(model)), whole, atol=1e-5)
