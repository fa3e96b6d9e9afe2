"""Models that read ratings: their folds, their lists and errors, and a search that makes errors small."""

import math
from dataclasses import replace

import numpy as np
import pytest
import ray
import scipy.sparse as sp

from coldray.core.errors import MissingFieldError
from coldray.data.dataset import Dataset
from coldray.data.signals import Reads
from coldray.data.sources.sample import sample_dataset
from coldray.data.splits.interactions import interaction_splits
from coldray.data.splits.parts import TEST
from coldray.experiments.evaluation import EvaluationFold, _rank_task, evaluate
from coldray.experiments.folds import prepare_task, prepare_tasks
from coldray.experiments.forms.settled import Settled
from coldray.experiments.prepared import PreparedStudy
from coldray.experiments.record.record import StudyRecord
from coldray.experiments.results import FoldMetrics, TrialResult
from coldray.experiments.search import trial as trial_module
from coldray.experiments.search.proposals import Proposals
from coldray.experiments.search.run import scheduler
from coldray.experiments.search.shared import ClusterComputations
from coldray.experiments.search.trial import TrialPlan, _Kept, run_trials
from coldray.experiments.selection import select
from coldray.experiments.space import SchedulerConfig, SelectionConfig, StudyConfig
from coldray.experiments.winner import measure_winner
from coldray.models.ratings.knn import RatingKNN, RatingKNNConfig

CUTOFFS = (5,)


@pytest.fixture(scope="module")
def dataset():
    """Return the sample with ratings from 0 to 4 that depend on users and items."""
    data = sample_dataset(0, 60, 50)
    clicks, rng = data.interactions, np.random.default_rng(1)
    rows = np.repeat(np.arange(60), np.diff(clicks.indptr))
    values = np.round(
        2 + rng.normal(0, 1, 60)[rows] + rng.normal(0, 1, 50)[clicks.indices] + rng.normal(0, 0.3, clicks.nnz)
    )
    ratings = np.clip(values, 0, 4).astype(np.float32)
    return replace(data, ratings=sp.csr_array((ratings, clicks.indices, clicks.indptr), shape=clicks.shape))


@pytest.fixture(scope="module")
def split(dataset):
    (split,) = interaction_splits(dataset, protocol="holdout")
    return split


@pytest.fixture(scope="module")
def task(split):
    return prepare_task(split.test_fold, None, reads=Reads(ratings=True), predicts=True)


# ---- folds


@pytest.mark.parametrize("protocol", ["holdout", "user-holdout", "k-fold"])
def test_ratings_stand_where_clicks_do(dataset, protocol):
    split = next(interaction_splits(dataset, protocol=protocol, n_splits=3))
    for fold in (split.for_tuning().fold, split.test_fold):
        clicked, rated = prepare_task(fold, None), prepare_task(fold, None, reads=Reads(ratings=True), predicts=True)
        assert (clicked.ratings, rated.ratings) == (False, True)
        for name in ("held_out", "histories"):
            one, other = getattr(clicked, name), getattr(rated, name)
            assert np.array_equal(one.indices, other.indices)
            assert np.array_equal(one.indptr, other.indptr)
            rows = np.repeat(np.arange(one.shape[0]), np.diff(one.indptr))
            expected = fold.dataset.ratings.toarray()[rows, one.indices]
            np.testing.assert_array_equal(other.data, expected)
            assert set(one.data) == {1.0}
        assert (rated.given is None) == (protocol != "user-holdout")
        assert rated.users.tolist() == clicked.users.tolist()
        np.testing.assert_array_equal(rated.known.toarray(), clicked.histories.toarray())
        assert rated.train.key == clicked.train.key == fold.name


def test_a_dataset_without_ratings_has_none_to_predict(dataset):
    (split,) = interaction_splits(replace(dataset, ratings=None), protocol="holdout")
    with pytest.raises(MissingFieldError, match="'sample' has no ratings"):
        split.test_fold.as_read(Reads(ratings=True))
    with pytest.raises(MissingFieldError, match="no ratings"):
        prepare_task(split.test_fold, None, reads=Reads(ratings=True), predicts=True)


# ---- lists and errors


def test_lists_and_errors_are_measured_side_by_side(task, split):
    model = RatingKNN().fit(task.train)
    metrics = evaluate(model, task, candidates="all", cutoffs=CUTOFFS)
    held_out = task.held_out
    rows = np.repeat(np.arange(held_out.shape[0]), np.diff(held_out.indptr))
    known = np.isin(held_out.indices, task.train.interactions.indices)
    errors = (model.predict_ratings(task.histories, rows, held_out.indices) - held_out.data)[known]
    means = metrics.means()
    assert means["rmse"] == pytest.approx(np.sqrt(np.mean(errors**2)), rel=1e-5)
    assert means["mae"] == pytest.approx(np.mean(np.abs(errors)), rel=1e-5)
    assert means["accuracy"] == pytest.approx(np.mean(np.abs(errors) <= 0.5))
    assert means["rmse"] < 0.8 * held_out.data.std()
    assert not set(metrics.per_user) & {"rmse", "mae", "accuracy"}
    clicked = prepare_task(split.test_fold, None)
    plain = evaluate(model, replace(task, ratings=False, held_out=clicked.held_out), candidates="all", cutoffs=CUTOFFS)
    assert plain.ratings is None
    assert set(plain.means()) == set(means) - {"rmse", "mae", "accuracy"}


def test_items_rated_0_are_known_and_those_held_out_are_to_be_found():
    """The user of row 0 rated item 0 by 0 in train, and item 3 by 0 in test, which is the best of what is left."""
    values = np.array([0, 4, 0, 1, 3, 4, 2, 1, 4], np.float32)
    rows, columns = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2]), np.array([0, 1, 3, 0, 2, 3, 1, 2, 3])
    starts = np.searchsorted(rows, np.arange(4))
    ratings = sp.csr_array((values, columns, starts), shape=(3, 4))
    clicks = sp.csr_array((np.ones(9, np.float32), columns, starts), shape=(3, 4))
    data = Dataset("tiny", np.arange(3), np.arange(4), clicks, {}, ratings=ratings)
    (split,) = interaction_splits(data, protocol="holdout")
    fold = replace(split.test_fold, train_entries=np.arange(9) != 2, held_out_entries=np.arange(9) == 2)
    task = prepare_task(fold, None, reads=Reads(ratings=True), predicts=True)
    model = RatingKNN(RatingKNNConfig(damping=1e9)).fit(task.train)
    listed = _rank_task(model, task, candidates="all", k=4)
    assert listed.items.tolist() == [[3, 2, -1, -1]]
    assert evaluate(model, task, candidates="all", cutoffs=(1,)).means()["hr@1"] == 1


# ---- the search


def error_study(**fields):
    """Return a study that is chosen by rmse, whatever a study file may ask for."""
    base = {"name": "small", "model": "rating_knn", "candidates": "all", "cutoffs": CUTOFFS}
    space, splits = {"k": {"choice": [1, 30]}}, {"protocol": "holdout"}
    config = StudyConfig.model_validate(
        {**base, "space": space, "splits": splits, "selection": {"metric": "ndcg@5"}, **fields}
    )
    return config.model_copy(update={"selection": SelectionConfig(metric="rmse")})


def trial(number, values, **config):
    folds = tuple(FoldMetrics(0, split, {"rmse": value, "ndcg@5": value}) for split, value in enumerate(values))
    return TrialResult(f"t{number}", number, config, folds, "finished")


def chosen(trials, metric, tolerance, rule=()):
    return select(trials, SelectionConfig(metric=metric, tolerance=tolerance, simplest=rule))


def test_the_lowest_error_is_the_best_and_the_tolerance_lies_above_it():
    trials = [
        trial(0, (1.0, 1.2), k=9),
        trial(1, (0.9, 0.9), k=9),
        trial(2, (0.91, 0.91), k=5),
        trial(3, (0.93,) * 2, k=1),
    ]
    assert chosen(trials, "rmse", 0.0).winner.number == 1
    selection = chosen(trials, "rmse", 0.02, ({"k": "low"},))
    assert (selection.best.number, selection.winner.number) == (1, 2)
    assert [one.number for one in selection.within_tolerance] == [2, 1]
    assert chosen(trials, "rmse", 0.04, ({"k": "low"},)).winner.number == 3
    assert [one.number for one in chosen(trials, "rmse", 0.5).within_tolerance] == [1, 2, 3, 0]
    assert chosen(trials, "ndcg@5", 0.0).winner.number == 0
    assert trials[0].quality("rmse") == pytest.approx(-1.1)
    assert trials[0].quality("ndcg@5") == pytest.approx(1.1)


def test_search_and_scheduler_make_an_error_small():
    config = error_study(search={"trials": 2}, scheduler={"grace_splits": 1})
    assert isinstance(config.scheduler, SchedulerConfig)
    assert Proposals(config, StudyRecord()).mode == "min"
    assert scheduler(config, 3)._metric_op == -1.0
    other = config.model_copy(update={"selection": SelectionConfig(metric="accuracy")})
    assert Proposals(other, StudyRecord()).mode == "max"
    assert scheduler(other, 3)._metric_op == 1.0


@pytest.mark.parametrize(("metric", "worst"), [("rmse", 1e9), ("mae", 1e9), ("accuracy", 0.0), ("ndcg@5", 0.0)])
def test_a_failed_trial_reports_the_worst_there_is(monkeypatch, metric, worst):
    reports = []
    monkeypatch.setattr(trial_module.tune, "report", reports.append)
    plan = TrialPlan("rating_knn", "all", CUTOFFS, metric, "failing")
    task = EvaluationFold(prepared_clicks(), sp.csr_array((2, 3), dtype=np.float32), *[np.zeros(0, np.int32)] * 2, 0, 0)
    monkeypatch.setattr(trial_module.ray, "get", lambda reference: task)
    monkeypatch.setattr(trial_module, "_kept", lambda *_: _Kept(None, ClusterComputations(None)))
    batch = {"trials": [{"number": 0, "parameters": {"k": 3}, "folds": []}]}
    run_trials(batch, plan=plan, tasks={(0, 0): "reference"}, results=None)
    (report,) = reports
    assert report[metric] == worst
    (told,) = report["trials"]
    assert told["ended"]
    assert "Are they clicks" in told["error"]


def prepared_clicks():
    """Return clicks, which a model of ratings refuses."""
    data = Dataset("tiny", np.arange(2), np.arange(3), sp.csr_array(np.ones((2, 3), np.float32)), {})
    (split,) = interaction_splits(data, protocol="holdout")
    return prepare_task(split.test_fold, None).train


@pytest.mark.usefixtures("ray_cluster")
def test_the_winner_is_tested_on_ratings_and_has_intervals_of_its_errors(split, caplog):
    config, clicks = error_study(), split.dataset.interactions
    parts = np.where(clicks.indices == clicks.indices[0], TEST, split.parts).astype(np.uint8)
    split = replace(split, parts=parts)  # one item is in test alone
    winner = trial(0, (1.0,), k=30)
    study = PreparedStudy(config, config, Settled(), split.dataset, (split,))
    tested = measure_winner(study, chosen([winner], "rmse", 0.0))
    alone = prepare_task(split.test_fold, None, reads=Reads(ratings=True), predicts=True)
    expected = evaluate(RatingKNN(RatingKNNConfig(k=30)).fit(alone.train), alone, candidates="all", cutoffs=CUTOFFS)
    assert dict(tested.folds[0].metrics) == pytest.approx(expected.means(), rel=1e-5)
    left_out = expected.ratings.n_unknown_items
    assert left_out == (clicks.indices == clicks.indices[0]).sum()
    assert f"Test: {left_out} ratings of items that nobody rated in train" in caplog.text
    for name in ("rmse", "mae", "accuracy", "ndcg@5"):
        low, high = tested.intervals[name]
        assert low < expected.means()[name] < high
        assert math.isfinite(high)
    (reference,) = prepare_tasks([split.test_fold], config).values()
    np.testing.assert_array_equal(ray.get(reference).held_out.toarray(), alone.held_out.toarray())
