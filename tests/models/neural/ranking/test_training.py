"""What rankers learn from: clicks before a click and none after, drawn items, both losses, and the moment of a list."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coldray.features.feature_set import FeatureSet
from coldray.features.graph.item_graph import GRAPH_WORDS
from coldray.features.moments import TIME, ClickMoments
from coldray.models.neural.ranking.config import FMConfig
from coldray.models.neural.ranking.model import FM
from coldray.models.neural.ranking.task import Clicks
from contracts.problems import random_training_set, scalar_feature, with_moments, with_users
from models.learned import one_thread, step_at  # noqa: F401

QUICK = {"embedding_dim": 8, "batch_size": 32, "epochs": 3, "validation_share": 0.2}


def timed(train, times):
    """Return a training set whose clicks are at these times, which are all that is known of their moments."""
    train = with_moments(train)
    features = FeatureSet({TIME: scalar_feature(times, 1.0), "at:hour": scalar_feature(times % 24, 24.0)}, len(times))
    return replace(train, moments=ClickMoments(features, train.moments.ratings, ("item_popularity", *GRAPH_WORDS)))


def random_times(train, generator):
    """Return times of the clicks of a training set, many of them alike, some unknown."""
    times = generator.integers(0, 12, train.interactions.nnz).astype(float)
    times[generator.random(len(times)) < 0.15] = np.nan
    return times


def read_before(clicks):
    """Return the items that are read before each click, by user and item."""
    found = {}
    for place, (start, length, end, count) in enumerate(
        zip(clicks.starts, clicks.lengths, clicks.ends, clicks.counts, strict=True)
    ):
        read = clicks.items[start + (end - 1 - np.arange(count)) % max(length, 1)]
        found[int(clicks.users[place]), int(clicks.items[place])] = read.tolist()
    return found


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 3, 100]))
@settings(max_examples=20)
def test_a_click_is_learned_from_those_of_its_user_before_it(seed, most):
    """By a loop over all pairs of clicks."""
    generator = np.random.default_rng(seed)
    plain = random_training_set(seed % 5, n_users=12, n_warm=14, n_cold=2)
    train = timed(plain, random_times(plain, generator))
    users, items = train.interactions.nonzero()
    times = train.moments.times
    found = read_before(Clicks.of(train, most, 0))
    assert len(found) == train.interactions.nnz
    for place, (user, item) in enumerate(zip(users.tolist(), items.tolist(), strict=True)):
        others = [at for at in np.flatnonzero(users == user) if at != place]
        if np.isfinite(times[place]):
            others = [at for at in others if times[at] < times[place]]
        read = found[user, item]
        assert len(read) == len(set(read)) == min(most, len(others))
        assert set(read) <= set(items[others].tolist())
        if np.isfinite(times[place]):
            left = sorted(times[others])[-most:]
            assert sorted(times[[at for at in others if items[at] in read]]) == left, "the last ones"


def test_what_comes_later_changes_nothing_that_a_click_is_learned_from():
    """Other items, moments and times after a day: clicks before it are given the same history, and the same moment."""
    plain = with_users(random_training_set(3, n_users=24, n_warm=24, n_cold=2))
    generator = np.random.default_rng(1)
    times = generator.permutation(plain.interactions.nnz).astype(float)
    day = np.median(times)
    train = timed(plain, times)
    later = np.where(times > day, day + 1 + generator.permutation(len(times)), times)
    clicks = plain.interactions.copy()
    for user in range(24):  # what comes later is on other items, but for those that others have clicked before
        row = slice(clicks.indptr[user], clicks.indptr[user + 1])
        past = times[row] <= day
        free = np.setdiff1d(plain.warm_items, clicks.indices[row][past])
        clicks.indices[row][~past] = generator.permutation(free)[: (~past).sum()]
    other = timed(replace(plain, interactions=clicks), later)

    def inputs_before(of):
        model = FM(FMConfig(**QUICK))
        # How features are scaled is fitted on all that is known, as items are; what is read is of the past.
        past = {name: values for name, values in model.inputs(of).items() if ".past." in name}
        arrays = {**model.inputs(train), **past}
        task = model.task(of, arrays, None)
        batch = task.batch(torch.arange(task.n_examples), torch.Generator().manual_seed(0))
        found = {}
        ends = [*batch["history_offsets"].tolist()[1:], len(batch["history"])]
        bags = [*batch["moment_offsets"].tolist()[1:], len(batch["moment_indices"])]
        for place, (row, user) in enumerate(zip(task.places.tolist(), task.users.tolist(), strict=True)):
            if of.moments.times[task.rows[row]] > day:
                continue
            history = slice(int(batch["history_offsets"][place]), ends[place])
            moment = slice(int(batch["moment_offsets"][place]), bags[place])
            found[user, int(task.items[row])] = (
                batch["history"][history].tolist(),
                batch["moment_indices"][moment].tolist(),
                batch["moment_weights"][moment].tolist(),
                batch["at"][place, 0].tolist(),
            )
        return found

    expected = inputs_before(train)
    assert len(expected) > 20
    assert any(history for history, *_ in expected.values())
    assert inputs_before(other) == expected


@pytest.mark.parametrize("loss", ["pointwise", "pairwise"])
def test_the_loss_agrees_with_the_loop(loss):
    train = with_moments(random_training_set(4))
    model = FM(FMConfig(**QUICK, loss=loss, negatives=3))
    task = model.task(train, model.inputs(train), None)
    batch = task.batch(torch.arange(task.n_examples), torch.Generator().manual_seed(0))
    module = task.build().eval()
    with torch.no_grad():
        found = task.loss(module, batch, step_at()).per_example.numpy()
        scores = module(batch).double().numpy()
    for row, value in zip(scores, found, strict=True):
        click, *drawn = row
        if loss == "pointwise":
            terms = [np.log1p(np.exp(-click)), *(np.log1p(np.exp(one)) for one in drawn)]
        else:
            terms = [np.log1p(np.exp(one - click)) for one in drawn]
        assert value == pytest.approx(np.mean(terms), rel=1e-4)


@pytest.mark.parametrize("of_items", [(), ("item_popularity", "item_age"), GRAPH_WORDS], ids=["none", "plain", "graph"])
def test_drawn_items_are_none_of_the_users_and_an_example_is_scored_as_it_will_be_served(of_items):
    train = with_moments(with_users(random_training_set(4)))
    train = replace(train, moments=replace(train.moments, of_items=of_items))
    model = FM(FMConfig(**QUICK))
    task = model.task(train, model.inputs(train), None)
    batch = task.batch(torch.arange(task.n_examples), torch.Generator().manual_seed(0))
    items = batch["listed"][batch["chosen"]].numpy()
    clicks = train.interactions.toarray() > 0
    assert clicks[task.users.numpy(), items[:, 0]].all()
    assert not clicks[task.users.numpy()[:, None], items[:, 1:]].any()
    module = task.build().eval()
    scorer = module.asker_scorer(np.arange(30))
    with torch.no_grad():
        scores = module(batch).numpy()
        ends = [*batch["history_offsets"].tolist()[1:], len(batch["history"])]
        for example in range(0, task.n_examples, 9):
            user, moment = int(task.users[example]), int(task.rows[task.places[example]])
            history = np.zeros((1, 30), np.float32)
            history[0, batch["history"][int(batch["history_offsets"][example]) : ends[example]]] = 1
            earlier = task.clicks.earlier(task.places[[example]].numpy())
            if np.isfinite(train.moments.times[moment]):
                assert set(earlier.indices) == set(np.flatnonzero(history))
            else:
                assert earlier.nnz == 0, "what was before is not known"
            asking = asked_by(task, train, [user], [moment])._replace(earlier=earlier)
            expected = scorer(sp.csr_array(history), asking)[0, items[example]]
            np.testing.assert_allclose(scores[example], expected, rtol=1e-3, atol=1e-5)


def asked_by(task, train, users, moments):
    """Return who asks, by rows of users and of moments."""
    features = train.moments.features.take(np.asarray(moments))
    return task.encoder.encode(train.users.take(np.asarray(users)).beside(features))


# ---- what it is stopped by


def test_the_last_click_of_a_user_is_held_out_and_its_list_is_asked_for_at_its_moment():
    plain = random_training_set(3, n_users=20)
    times = np.random.default_rng(0).permutation(plain.interactions.nnz).astype(float)
    train = timed(plain, times)
    rest, validation = FM(FMConfig(**QUICK)).hold_out(train)
    users, items = train.interactions.nonzero()
    several = np.flatnonzero(np.diff(train.interactions.indptr) > 1)
    np.testing.assert_array_equal(validation.users, several)
    for row, user in enumerate(validation.users):
        own = np.flatnonzero(users == user)
        last = own[times[own].argmax()]
        assert validation.clicks[[row]].indices.tolist() == [items[last]]
        assert validation.asking[user] == last
    assert rest.interactions.nnz == train.interactions.nnz - len(several)
    kept = rest.interactions.data.astype(int) - 1
    assert set(kept) | set(validation.asking[validation.users]) == set(range(train.interactions.nnz))


@pytest.mark.parametrize("stop_by", ["last", "clicks", "items"])
def test_without_times_clicks_are_held_out_by_chance_and_items_where_that_is_asked_for(stop_by):
    train = random_training_set(3, n_users=20)
    rest, validation = FM(FMConfig(**QUICK, stop_by=stop_by)).hold_out(train)
    assert (validation.asking == -1).all()
    gone = np.setdiff1d(train.warm_items, rest.warm_items)
    assert (len(validation.candidates) == len(gone)) == (stop_by == "items")
    model = FM(FMConfig(**QUICK, stop_by=stop_by)).fit(train)
    assert set(model.history) >= {"loss", "ndcg@10"}


@pytest.mark.parametrize("of_items", [(), ("item_popularity",), GRAPH_WORDS], ids=["none", "plain", "graph"])
def test_lists_of_a_validation_are_those_that_are_served_at_its_moments(of_items):
    train = with_moments(with_users(random_training_set(3, n_users=20)))
    train = replace(train, moments=replace(train.moments, of_items=of_items))
    model = FM(FMConfig(**QUICK))
    rest, validation = model.hold_out(train)
    inputs = model.inputs(rest)
    task = model.task(rest, inputs, validation)
    module = task.build().eval()
    found = task.validate(module, slice(None))["ndcg@10"]
    asking = asked_by(task, train, validation.users, validation.asking[validation.users])
    scorer = module.asker_scorer(validation.candidates)
    with torch.no_grad():
        scores = scorer(validation.histories, asking)
    known = validation.histories.toarray()[:, validation.candidates] > 0
    order = np.argsort(-np.where(known, -np.inf, scores), axis=1, kind="stable")[:, :10]
    hits = np.take_along_axis(validation.clicks.toarray()[:, validation.candidates] > 0, order, axis=1)
    gains = 1 / np.log2(np.arange(2, 12))
    ideal = [gains[: min(10, n)].sum() for n in np.diff(validation.clicks.indptr)]
    np.testing.assert_allclose(found, (hits * gains).sum(axis=1) / ideal, rtol=1e-5)
