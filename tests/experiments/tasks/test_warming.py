"""Measuring as cold items and users become known: numbers by hand, what is fitted when, and whole studies."""

from dataclasses import replace
from math import log2

import numpy as np
import pytest
import scipy.sparse as sp

from coldray.core.errors import ConfigError, EmptyDatasetError
from coldray.data.dataset import Dataset
from coldray.data.sources.sample import sample_dataset
from coldray.data.splits.parts import TEST, TRAIN, VALIDATION
from coldray.data.splits.warming import _WarmingSplit
from coldray.experiments.evaluation import EvaluationFold, evaluate
from coldray.experiments.folds import prepare_task
from coldray.experiments.prepared import describe_protocol
from coldray.experiments.space import StudyConfig
from coldray.experiments.study import draw_splits, prepare_study, run_study
from coldray.experiments.tasks.warming import TASKS, evaluate_warming
from coldray.features.builder import FeatureConfig
from coldray.features.feature_set import FeatureSet
from coldray.models.base import TrainingSet
from coldray.models.computations import Computations
from coldray.models.linear.ease import EASE, EASEConfig
from coldray.models.popularity.model import Popularity, PopularityConfig
from coldray.training.options import FitOptions

THIRD = 1 / log2(3)
"""What a hit at the second place is worth."""
FOURTH = 1 / log2(5)


class Table:
    """Scores items by a table, whatever the history; remembers what every fit learnt from."""

    takes_clicks = False
    cold_scale = 1.0
    n_items = 6
    fits: list

    def __init__(self, config=None):
        self.config = config

    def ranking_key(self):
        return None

    def fit(self, train, computations=None, options=None):
        self.fits.append((train.key, train.interactions.nnz, options and options.checkpoints))
        return self

    def scorer(self, items):
        return lambda histories: np.tile(np.array([9, 5, 4, 6, 3, 7], np.float32)[items], (histories.shape[0], 1))


@pytest.fixture
def table():
    return type("Fresh", (Table,), {"fits": []})


def by_hand(clicks=(0, 1)) -> EvaluationFold:
    """Two users; items 0 to 2 are warm, 3 and 4 cold, 5 is a cold item of validation.

    Item 3 is clicked by user 0 and then by user 1, item 4 by user 1; user 0 has a held-out click on item 1.
    """
    dense = np.array([[1, 1, 0, 1, 0, 0], [1, 0, 0, 1, 1, 1]], np.float32)
    interactions = sp.csr_array(dense)
    parts = np.array([TRAIN, TEST, TEST, TRAIN, TEST, TEST, VALIDATION], np.uint8)
    places = np.array([0, 0, 1, 0, 2, 1, 1], np.int32)
    cold = {VALIDATION: np.array([5], np.int32), TEST: np.array([3, 4], np.int32)}
    dataset = Dataset("by hand", np.arange(2), np.arange(6), interactions, {})
    split = _WarmingSplit(dataset, parts, places, cold, clicks=clicks, split=0, seed=1, protocol="item-warming")
    fold = split.test_fold
    return EvaluationFold.of(fold, TrainingSet(fold.train, FeatureSet({}, 6), fold.name))


def test_every_task_is_what_it_is_by_hand(table):
    measured = evaluate_warming(table(), by_hand(), candidates="all", cutoffs=(2, 4))
    found = measured.part_means()
    second = (1 + FOURTH) / (1 + THIRD)  # user 1 finds items 3 and 4 at the places 1 and 4
    assert found["cold_among_cold.n0.ndcg@4"] == pytest.approx(1)
    assert found["cold_among_all.n0.ndcg@4"] == pytest.approx((1 + second) / 2)
    assert found["warm_among_all.n0.ndcg@4"] == pytest.approx(THIRD)
    assert found["overall.n0.ndcg@4"] == pytest.approx((1 + second) / 2)
    assert found["overall.n0.recall@2"] == pytest.approx((1 + 0.5) / 2)
    assert found["new_items.n0.listed@2"] == pytest.approx(0.5)
    assert found["new_items.n0.listed@4"] == pytest.approx(0.5)
    assert found["new_items.n0.deserved"] == pytest.approx((0.5 + 1) / 2)
    # At 1 known click user 0 knows item 3 and user 1 item 4: neither is ranked for them, nor looked for.
    assert found["cold_among_cold.n1.ndcg@4"] == 1
    assert measured.parts["cold_among_cold.n1"].users.tolist() == [1]
    assert found["warm_among_all.n1.ndcg@4"] == 1
    assert found["overall.n1.ndcg@4"] == 1
    assert found["new_items.n1.listed@2"] == pytest.approx((0 + 0.5) / 2)
    assert found["new_items.n1.deserved"] == pytest.approx(0.5)
    # Of the clicks beyond the first, item 1 is the second that user 0 is shown at 0 known clicks.
    assert found["overall.n0_of_rest.ndcg@4"] == pytest.approx((THIRD + 1) / 2)
    assert found["overall.n1_of_rest.ndcg@4"] == 1


def test_the_metrics_are_means_over_the_numbers_of_known_clicks(table):
    everything, cold = (
        evaluate_warming(table(), by_hand(), candidates=candidates, cutoffs=(4,)) for candidates in ("all", "cold")
    )
    second = (1 + FOURTH) / (1 + THIRD)
    np.testing.assert_allclose(everything.per_user["ndcg@4"], [1, (second + 1) / 2], rtol=1e-6)
    assert everything.users.tolist() == cold.users.tolist() == [0, 1]
    np.testing.assert_allclose(cold.per_user["ndcg@4"], [1, 1])
    assert everything.part_means() == cold.part_means()


def test_a_model_is_fitted_once_for_each_number_beyond_the_first(table):
    model = table()
    options = FitOptions(checkpoints="runs")
    evaluate_warming(model, by_hand((0, 1, 2)), candidates="cold", cutoffs=(2,), options=options)
    name = "seed 1 / split 0"
    assert [(key, clicks) for key, clicks, _ in table.fits] == [
        (f"{name}, 1 known clicks", 4), (f"{name}, 2 known clicks", 5),
    ]  # fmt: skip
    assert [str(folder) for *_, folder in table.fits] == ["runs/known-1", "runs/known-2"]


def test_what_nobody_has_to_find_is_left_out(table):
    found = evaluate_warming(table(), by_hand((0, 2)), candidates="all", cutoffs=(2,)).part_means()
    assert "overall.n2.ndcg@2" in found
    assert "cold_among_cold.n2.ndcg@2" not in found
    assert "cold_among_all.n0_of_rest.ndcg@2" not in found
    task = by_hand((0, 2))
    empty = replace(task, held_out=sp.csr_array(task.held_out.shape, dtype=np.float32))
    with pytest.raises(EmptyDatasetError, match="nobody has anything to be found"):
        evaluate_warming(table(), empty, candidates="all", cutoffs=(2,))


def test_a_fold_in_which_nothing_warms_up_has_no_later_state():
    with pytest.raises(ConfigError, match="nothing that becomes known"):
        by_hand().after(0).after(1)
    with pytest.raises(ConfigError, match="nothing that becomes known"):
        evaluate_warming(Table(), by_hand().after(0), candidates="all", cutoffs=(2,))


# ---- on generated data


@pytest.fixture(scope="module")
def data():
    return sample_dataset(n_users=60, n_items=60)


def study(model="ease", space=None, **fields):
    spaces = {
        "ease": {"regularization": {"choice": [5.0, 50.0]}},
        "popularity": {"trees": 5},
        "content_knn": {"k": {"choice": [3, 8]}},
    }
    splits = {"protocol": "item-warming", "n_splits": 1, "clicks": [0, 1, 4], **fields.pop("splits", {})}
    base = {"name": "small", "model": model, "space": space or spaces[model], "cutoffs": [5, 10], "splits": splits}
    return StudyConfig.model_validate({**base, "search": {"algorithm": "grid", "max_concurrent": 1}, **fields})


def test_at_no_known_click_the_cold_figure_is_that_of_the_cold_item_split(data):
    """On the same seed, with no warm click held out: to the last bit, on validation and on test."""
    model = Popularity(PopularityConfig(trees=5))
    warming, cold = study("popularity", splits={"warm_share": 0}), study("popularity", splits={
        "protocol": "notebook", "clicks": None,
    })  # fmt: skip
    for side in ("validation", "test"):
        tasks = []
        for config in (warming, cold):
            (split,) = draw_splits(data, config)
            fold = split.test_fold if side == "test" else split.for_tuning().fold
            tasks.append(prepare_task(fold, FeatureConfig()))
        found = evaluate_warming(model.fit(tasks[0].train), tasks[0], candidates="cold", cutoffs=(5, 10))
        expected = evaluate(model.fit(tasks[1].train), tasks[1], candidates="cold", cutoffs=(5, 10))
        for name in ("ndcg@10", "recall@5", "precision@10"):
            np.testing.assert_array_equal(found.parts["cold_among_cold.n0"].per_user[name], expected.per_user[name])


def test_a_model_that_needs_clicks_learns_from_those_that_become_known(data):
    (split,) = draw_splits(data, study(splits={"clicks": [0, 10]}))
    task = prepare_task(split.test_fold, None)
    found = evaluate_warming(
        EASE(EASEConfig(regularization=20.0)).fit(task.train), task, candidates="all", cutoffs=(10,)
    ).part_means()
    assert found["cold_among_all.n0_of_rest.ndcg@10"] < 0.6 * found["cold_among_all.n10_of_rest.ndcg@10"]
    assert found["new_items.n0.listed@10"] < found["new_items.n10.listed@10"]


def test_clicks_are_taken_without_a_fit_by_a_model_that_can(data, monkeypatch):
    (split,) = draw_splits(data, study("popularity"))
    task = prepare_task(split.test_fold, FeatureConfig())
    model = Popularity(PopularityConfig(trees=5)).fit(task.train)
    before = model.state()["popularity"].copy()
    monkeypatch.setattr(Popularity, "fit", lambda *_: pytest.fail("it was fitted again"))
    evaluate_warming(model, task, candidates="all", cutoffs=(10,))
    np.testing.assert_array_equal(model.state()["popularity"], before)


def test_users_become_known_by_their_first_clicks(data):
    config = study(candidates="all", splits={"protocol": "user-warming"})
    (split,) = draw_splits(data, config)
    task = prepare_task(split.test_fold, None)
    assert np.diff(task.histories.indptr)[task.users].tolist() == [0] * len(task.users)
    assert np.diff(task.after(4).histories.indptr)[task.users].max() == 4
    fits = Computations()
    model = EASE(EASEConfig(regularization=20.0)).fit(task.train, fits)
    found = evaluate_warming(model, task, candidates="all", cutoffs=(10,), computations=fits).part_means()
    assert {name.partition(".")[0] for name in found} == {"overall"}
    assert found["overall.n4_of_rest.ndcg@10"] > found["overall.n0_of_rest.ndcg@10"]


# ---- whole studies


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        ("ease", {"candidates": "all"}),
        ("content_knn", {}),
        ("ease", {"candidates": "all", "splits": {"protocol": "user-warming"}}),
    ],
)
def test_a_study_tunes_and_tests_in_the_protocol(data, ray_cluster, model, fields):
    config = study(model, **fields)
    result = run_study(prepare_study(config, data), study_id=f"warming-{model}")
    users = config.splits.protocol == "user-warming"
    tasks = ("overall",) if users else TASKS
    names = {f"{task}.n{n}.ndcg@10" for task in tasks for n in (0, 1, 4)}
    for folds in (result.test, result.selection.winner.folds):
        assert names <= set(folds[0].parts)
        assert all(np.isfinite(value) for value in folds[0].parts.values())
    assert names <= set(result.test_intervals)
    assert "the first 0, 1, 4 clicks of each cold" in result.protocol["known clicks"]
    assert result.held_out == "interactions"
    winner = max(result.trials, key=lambda trial: trial.mean("ndcg@10"))
    assert result.selection.best.number == winner.number


def test_a_study_says_of_how_many_items_there_are_fewer_clicks_and_that_they_are_drawn(data):
    config = study(splits={"clicks": [0, 4, 30]})
    timeless = replace(data, timestamps=None)
    (split,) = draw_splits(timeless, config)
    lengths = np.bincount(data.interactions.indices, minlength=data.n_items)[split.cold[TEST]]
    assert 0 < (lengths < 30).sum() < len(lengths)
    words = describe_protocol(config, timeless, [split])["known clicks"]
    assert "drawn by the seed, as the data have no timestamps" in words
    assert f"of the {len(lengths)} test items of the first split have " in words
    assert f"{(lengths < 30).sum()} fewer than 30: there all are known" in words
    (split,) = draw_splits(data, study(splits={"clicks": [0, 1]}))
    assert "fewer" not in describe_protocol(study(splits={"clicks": [0, 1]}), data, [split])["known clicks"]


def test_a_search_is_the_same_whatever_the_test_clicks(data, ray_cluster):
    """The canary of the protocol: the test side is scrambled, and no validation figure changes."""
    config = study("content_knn")
    (split,) = draw_splits(data, config)
    hidden = split.parts == TEST
    clicks = data.interactions.copy()
    rng = np.random.default_rng(0)
    dense = clicks.toarray()
    items = split.cold[TEST]
    dense[:, items] = rng.random((len(dense), len(items))) < 0.3
    assert hidden.any()
    other = replace(data, interactions=sp.csr_array(dense), timestamps=None, ratings=None)
    plain = replace(data, timestamps=None, ratings=None)
    folds = [
        run_study(prepare_study(config, one), study_id=name).selection.winner.folds[0]
        for name, one in (("plain", plain), ("scrambled", other))
    ]
    assert folds[0].metrics == folds[1].metrics
    assert folds[0].parts == folds[1].parts
