"""What is measured of a winner besides its metrics: parts of the test, costs, and the map of items."""

import sys
import time
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from coldray.core.errors import ConfigError
from coldray.data.dataset import LabelAttribute
from coldray.data.signals import Reads
from coldray.data.sources.sample import sample_dataset
from coldray.data.splits.interactions import interaction_splits
from coldray.experiments.evaluation import evaluate
from coldray.experiments.folds import prepare_task
from coldray.experiments.inspection.config import InspectionConfig
from coldray.experiments.inspection.costs import FitMeter, score_seconds
from coldray.experiments.inspection.item_facts import label_attribute, shown_facts
from coldray.experiments.inspection.item_map import ItemMap, _one_click_vectors, _shown_items, agreement, item_map
from coldray.experiments.inspection.measure import inspect
from coldray.experiments.inspection.slices import _EMPTY, SLICES, named, slice_metrics
from coldray.features.builder import FeatureConfig
from coldray.models.linear.ease import EASE, EASEConfig
from coldray.models.neighbours.item import ItemKNN
from coldray.models.popularity.model import Popularity

CUTOFFS = (5, 10)
METRIC = "ndcg@10"


@pytest.fixture(scope="module")
def dataset():
    return sample_dataset(0, 150, 80)


@pytest.fixture(scope="module")
def task(dataset):
    return prepare_task(next(interaction_splits(dataset, protocol="holdout", seeds=(42,))).test_fold, FeatureConfig())


@pytest.fixture(scope="module")
def model(task):
    return EASE(EASEConfig(regularization=20)).fit(task.train)


def sliced(model, task, **config):
    measured = evaluate(model, task, candidates="all", cutoffs=CUTOFFS)
    found = slice_metrics(model, task, measured, config=InspectionConfig(**config), candidates="all", cutoffs=CUTOFFS)
    return measured, found


# Parts of a test.


def by_hand(model, task, inside, k):
    """Return the ndcg of lists of the items of a part alone, user by user, in plain loops."""
    scores = model.score(task.histories, np.arange(model.n_items))
    values = []
    for user in task.users:
        wanted = {item for item in task.held_out[[user]].indices if inside[item]}
        if not wanted:
            continue
        known = set(task.known[[user]].indices)
        listed = [item for item in np.flatnonzero(inside) if item not in known]
        listed.sort(key=lambda item: (-scores[user, item], item))
        gains = sum(1 / np.log2(2 + place) for place, item in enumerate(listed[:k]) if item in wanted)
        values.append(gains / sum(1 / np.log2(2 + place) for place in range(min(k, len(wanted)))))
    return np.mean(values), len(values)


@pytest.mark.parametrize("threshold", [5, 12])
def test_items_of_a_part_compete_among_themselves(model, task, threshold):
    _, found = sliced(model, task, cold_item_clicks=threshold)
    cold = task.train.clicks <= threshold
    for name, inside in (("cold_items", cold), ("warm_items", ~cold)):
        value, users = by_hand(model, task, inside, 10)
        assert found[name].metrics[METRIC] == pytest.approx(value, abs=1e-6)
        assert (found[name].n_users, found[name].n_items) == (users, inside.sum())


def test_users_of_a_part_are_those_with_so_many_known_clicks(model, task):
    few = int(np.median(np.diff(task.known.indptr)))
    measured, found = sliced(model, task, cold_user_clicks=few)
    known = np.diff(task.known.indptr)[measured.users]
    values = measured.per_user[METRIC]
    assert found["cold_users"].metrics[METRIC] == pytest.approx(values[known <= few].mean(), abs=1e-6)
    assert found["warm_users"].metrics[METRIC] == pytest.approx(values[known > few].mean(), abs=1e-6)
    assert (found["cold_users"].n_users, found["warm_users"].n_users) == ((known <= few).sum(), (known > few).sum())


def test_a_part_without_anybody_is_empty(model, task):
    _, found = sliced(model, task, cold_item_clicks=10**6, cold_user_clicks=10**6)
    assert found["warm_items"] == found["warm_users"] == _EMPTY
    assert set(found) == set(SLICES)
    assert not [name for name, _ in named(found) if name.startswith("warm")]
    assert dict(named(found))["cold_items.ndcg@10"] == found["cold_items"].metrics[METRIC]


def test_all_items_in_one_part_are_the_whole_test(model, task):
    measured, found = sliced(model, task, cold_item_clicks=10**6)
    assert found["cold_items"].metrics == pytest.approx(measured.means(), abs=1e-6)


def test_of_cold_candidates_the_held_out_items_alone_are_parted(dataset):
    from coldray.data.splits.items import cold_item_splits

    cold = prepare_task(next(cold_item_splits(dataset, n_splits=1, seed=42)).test_fold, FeatureConfig())
    model = Popularity().fit(cold.train)
    measured = evaluate(model, cold, candidates="cold", cutoffs=CUTOFFS)
    found = slice_metrics(
        model, cold, measured, config=InspectionConfig(cold_item_clicks=0), candidates="cold", cutoffs=CUTOFFS
    )
    assert found["cold_items"].n_items == len(cold.held_out_items)
    assert found["cold_items"].metrics == pytest.approx(measured.means(), abs=1e-6)
    assert found["warm_items"] == _EMPTY


# Costs.


def test_the_time_of_a_fit_is_told():
    with FitMeter() as meter:
        time.sleep(0.05)
    assert meter.seconds >= 0.05


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the kernel does not let a peak begin anew")
def test_the_memory_of_a_fit_is_told():
    with FitMeter() as meter:
        np.ones(40_000_000 // 8).sum()
    assert 35_000_000 <= meter.peak_bytes < 400_000_000
    with FitMeter() as idle:
        pass
    assert idle.peak_bytes < 30_000_000, "the peak of an earlier fit counts no more"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is given back to the kernel by GNU's library")
def test_a_fit_that_finds_the_room_of_an_earlier_one_takes_it_all_the_same():
    small = [bytes(2000) for _ in range(40_000)]
    behind = bytes(2000)  # what lies before it is not given back by itself
    del small
    with FitMeter() as meter:
        small = [bytes(2000) for _ in range(40_000)]
    del small
    if meter.peak_bytes is not None:
        assert meter.peak_bytes > 60_000_000, len(behind)


def test_the_latency_is_that_of_one_user_at_a_time(model, task):
    asked = []

    class Slow:
        n_items = model.n_items

        def scorer(self, items):
            real = model.scorer(items)

            def scores(histories):
                asked.append(histories.shape[0])
                time.sleep(0.002)
                return real(histories)

            return scores

    assert 0.002 <= score_seconds(Slow(), task, np.arange(model.n_items), 3) < 1
    assert asked == [1] * 8, "five who are not timed, and three"


# The map of items.


def test_the_most_clicked_items_are_shown(task):
    items = _shown_items(task.train, 20)
    assert (np.diff(items) > 0).all()
    least = task.train.clicks[items].min()
    assert len(items) == 20
    assert (np.delete(task.train.clicks, items) <= least).all()
    assert _shown_items(task.train, 10**6).tolist() == task.train.warm_items.tolist()


class Planted:
    """A model of two groups of items, to which an item says nothing of the other group, and one everybody is given."""

    click_value = 1.0
    reads = Reads()

    def __init__(self, n_items, popular=0.0):
        self.n_items = n_items
        self.group = np.arange(n_items) % 2
        self.popularity = popular * np.arange(n_items, dtype=np.float32) ** 2

    def score(self, histories, items):
        alike = (self.group[:, None] == self.group[items]).astype(np.float32)
        own = np.zeros((self.n_items, len(items)), np.float32)
        own[items, np.arange(len(items))] = 1000
        noise = np.random.default_rng(0).normal(0, 0.1, alike.shape).astype(np.float32)
        return histories @ (alike + own + noise) + self.popularity[items]


@pytest.mark.parametrize("popular", [0.0, 0.01])
def test_neighbours_are_of_the_planted_group_however_popular_others_are(task, popular):
    model = Planted(80, popular)
    items = np.arange(80, dtype=np.int32)
    vectors = _one_click_vectors(model, items)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(80), abs=1e-5)
    drawn = item_map(model, task.train, count=80, neighbours=10, seed=0)
    assert (drawn.neighbours % 2 == (drawn.items % 2)[:, None]).all()
    assert (drawn.neighbours != drawn.items[:, None]).all()
    assert drawn.positions.shape == (len(drawn.items), 2)
    centres = [drawn.positions[drawn.items % 2 == group].mean(axis=0) for group in (0, 1)]
    spread = max(drawn.positions[drawn.items % 2 == group].std() for group in (0, 1))
    assert np.linalg.norm(centres[0] - centres[1]) > spread


def test_a_map_is_the_same_for_the_same_seed(model, task):
    one, other = (item_map(model, task.train, count=40, neighbours=5, seed=3) for _ in range(2))
    assert (one.positions == other.positions).all()
    assert (one.neighbours == other.neighbours).all()


def test_a_model_to_which_all_clicks_say_the_same_has_no_map(task):
    assert item_map(Popularity().fit(task.train), task.train, count=40, neighbours=5, seed=0) is None
    assert item_map(Planted(80), task.train, count=6, neighbours=5, seed=0) is None, "too few"


@given(st.integers(0, 2**20))
def test_agreement_is_that_of_plain_loops(seed):
    draws = np.random.default_rng(seed)
    labels = sp.csr_array((draws.random((12, 3)) < 0.4).astype(np.float32))
    items = np.sort(draws.choice(12, 8, replace=False)).astype(np.int32)
    neighbours = np.array([draws.choice(np.setdiff1d(items, [item]), 3, replace=False) for item in items], np.int32)
    sets = [set(labels[[item]].indices) for item in range(12)]
    pairs = [(a, b) for a in items for b in items if a != b and sets[a] and sets[b]]
    near = [(a, b) for a, row in zip(items, neighbours, strict=True) for b in row if sets[a] and sets[b]]
    found = agreement(ItemMap(items, np.zeros((8, 2), np.float32), neighbours), labels)
    for value, of in zip(found, (near, pairs), strict=True):
        share = np.mean([bool(sets[a] & sets[b]) for a, b in of]) if of and pairs else np.nan
        assert value == pytest.approx(share, nan_ok=True)


# What is told of items.


def test_items_are_named_and_coloured_by_genres(dataset, model, task):
    assert label_attribute(dataset, None) == "genres"
    assert label_attribute(dataset, "directors") == "directors"
    with pytest.raises(ConfigError, match=r"no labels 'genre'\. Did you mean 'genres'"):
        label_attribute(dataset, "genre")
    inspection = inspected(model, task, mapped=True)
    facts = shown_facts(dataset, InspectionConfig(), [[inspection]])
    assert facts.attribute == "genres"
    assert facts.names[0] == dataset.attributes["title"].texts[0]
    assert set(facts.queries) <= set(inspection.map.items)
    genres = dataset.attributes["genres"]
    assert isinstance(genres, LabelAttribute)
    first, second = (set(genres.matrix[[item]].indices) for item in facts.queries[:2])
    assert first
    assert not first & second, "the second item listed is of other genres"


def test_without_a_map_nothing_is_told_of_items(dataset, model, task):
    assert shown_facts(dataset, InspectionConfig(), [[inspected(model, task, mapped=False)]]) is None
    assert shown_facts(dataset, None, []) is None


def inspected(model, task, *, mapped, **config):
    measured = evaluate(model, task, candidates="all", cutoffs=CUTOFFS)
    with FitMeter() as fit:
        model.fit(task.train)
    config = InspectionConfig(**{"timed_users": 5, **config})
    return inspect(model, task, fit, measured, config=config, candidates="all", cutoffs=CUTOFFS, mapped=mapped)


def test_an_inspection_holds_costs_parts_and_the_map(task):
    found = inspected(ItemKNN().fit(task.train), task, mapped=True, mapped_items=30, neighbours=4)
    assert found.costs.fit_seconds > 0
    assert found.costs.score_seconds > 0
    assert set(found.slices) == set(SLICES)
    assert found.map.neighbours.shape == (30, 4)
    assert inspected(ItemKNN().fit(task.train), task, mapped=True, mapped_items=0).map is None
