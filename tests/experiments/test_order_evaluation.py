"""Models that read the order of clicks: their folds, and what their lists are held against."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

from coldray.core.errors import MissingFieldError
from coldray.data.signals import Reads, _with_order
from coldray.data.sources.sample import sample_dataset
from coldray.data.splits.interactions import interaction_splits
from coldray.experiments.evaluation import evaluate
from coldray.experiments.folds import prepare_task
from coldray.experiments.space import StudyConfig
from coldray.experiments.study import prepare_study, run_study
from coldray.models.neural.session_gru import SessionGRU, SessionGRUConfig


@pytest.fixture(scope="module")
def dataset():
    data = sample_dataset(0, 40, 30)
    clicks = data.interactions
    times = np.random.default_rng(0).integers(0, 50, clicks.nnz)
    return replace(data, timestamps=sp.csr_array((times, clicks.indices, clicks.indptr), shape=clicks.shape))


def test_places_are_the_ranks_of_the_times(dataset):
    """The first click has place 1; of clicks at the same time, the item of the lower index comes first."""
    ordered = _with_order(dataset)
    times, places = dataset.timestamps, ordered.interactions
    assert places.dtype == np.float32
    for user in range(40):
        row = slice(times.indptr[user], times.indptr[user + 1])
        clicks = sorted(zip(times.data[row].tolist(), times.indices[row].tolist(), strict=True))
        found = dict(zip(places.indices[row].tolist(), places.data[row].tolist(), strict=True))
        assert found == {item: place for place, (_, item) in enumerate(clicks, start=1)}
    np.testing.assert_array_equal(dataset.interactions.data, 1)


@pytest.mark.parametrize("protocol", ["holdout", "leave-last", "user-holdout"])
def test_places_stand_where_clicks_do_and_clicks_are_to_be_found(dataset, protocol):
    (split,) = interaction_splits(dataset, protocol=protocol)
    for fold in (split.test_fold, split.for_tuning().fold):
        clicks, task = prepare_task(fold, None), prepare_task(fold, None, reads=Reads(order=True))
        for found, expected in (
            (task.train.interactions, clicks.train.interactions),
            (task.histories, clicks.histories),
        ):
            np.testing.assert_array_equal(found.toarray() > 0, expected.toarray() > 0)
            assert found.data.max() > 1
        assert (task.held_out != clicks.held_out).nnz == 0
        np.testing.assert_array_equal(task.users, clicks.users)


def test_the_last_click_is_later_than_all_others(dataset):
    (split,) = interaction_splits(dataset, protocol="leave-last")
    task = prepare_task(split.test_fold, None, reads=Reads(order=True))
    places = _with_order(dataset).interactions.toarray()
    times = dataset.timestamps.toarray()
    for user in task.users:
        last = times[user, task.held_out[[user]].indices[0]]
        assert times[user, places[user] > 0].max() == last


def test_a_model_of_sessions_is_measured(dataset):
    (split,) = interaction_splits(dataset, protocol="leave-last")
    task = prepare_task(split.test_fold, None, reads=Reads(order=True))
    config = SessionGRUConfig(embedding_dim=8, hidden_dim=8, epochs=2, validation_share=0)
    metrics = evaluate(SessionGRU(config).fit(task.train), task, candidates="all", cutoffs=(5,)).means()
    assert 0 <= metrics["ndcg@5"] <= 1


def test_without_timestamps_neither_a_fold_nor_a_study_begins(dataset):
    bare = replace(dataset, timestamps=None)
    (split,) = interaction_splits(bare, protocol="holdout")
    with pytest.raises(MissingFieldError, match="has no timestamps, so nobody knows what came after what"):
        prepare_task(split.test_fold, None, reads=Reads(order=True))
    study = {
        "name": "sessions", "model": "session_gru", "space": {"epochs": 1}, "search": {"algorithm": "grid"},
        "splits": {"protocol": "holdout"}, "candidates": "all", "selection": {"metric": "ndcg@10"},
    }  # fmt: skip
    with pytest.raises(MissingFieldError, match="so nobody knows what came after what"):
        prepare_study(StudyConfig.model_validate(study), bare)


# ---- models of which the configuration says what they read


def rated(dataset):
    clicks = dataset.interactions
    ratings = np.random.default_rng(1).integers(1, 6, clicks.nnz).astype(np.float32)
    return replace(dataset, ratings=sp.csr_array((ratings, clicks.indices, clicks.indptr), shape=clicks.shape))


def study_of(**space):
    return StudyConfig.model_validate(
        {
            "name": "texts", "model": "text_graph", "search": {"algorithm": "grid", "max_concurrent": 1},
            "candidates": "all", "splits": {"protocol": "holdout", "n_splits": 1}, "selection": {"metric": "ndcg@10"},
            "space": {"epochs": 1, "heads": 2, "head_dim": 4, "validation_share": 0.0, **space},
        }
    )  # fmt: skip


@pytest.mark.parametrize(
    ("space", "reads"),
    [
        ({}, Reads()),
        ({"rating_embedding": False, "time_buckets": 0}, Reads()),
        ({"rating_embedding": True}, Reads(ratings=True)),
        ({"rating_embedding": {"choice": [False, True]}}, Reads(ratings=True)),
        ({"time_buckets": {"choice": [0, 4]}}, Reads(order=True)),
        ({"time_buckets": {"choice": [0, 4]}, "rating_embedding": True}, Reads(ratings=True, order=True)),
    ],
)
def test_a_study_reads_what_any_of_its_configurations_does(dataset, space, reads):
    config = study_of(**space)
    assert config.reads == reads
    prepare_study(config, rated(dataset))
    bare = replace(rated(dataset), ratings=None)
    if reads.ratings:
        with pytest.raises(MissingFieldError, match="'sample' has no ratings"):
            prepare_study(config, bare)
    else:
        prepare_study(config, bare)


def test_one_end_of_a_range_may_read_more():
    ranged = study_of().model_dump() | {"search": {"algorithm": "optuna", "trials": 2}}
    config = StudyConfig.model_validate(ranged | {"space": {"time_buckets": {"int_uniform": [0, 6]}}})
    assert config.reads == Reads(order=True)


@pytest.mark.usefixtures("ray_cluster")
def test_a_study_of_ratings_and_times_finds_the_better_configuration_and_tests_it(dataset):
    """Every configuration is fitted on what any of them reads; clicks are to be found, not ratings."""
    config = study_of(rating_embedding={"choice": [False, True]}, time_buckets={"choice": [0, 3]})
    result = run_study(prepare_study(config, rated(dataset)), study_id="ratings and times")
    assert [trial.status for trial in result.trials] == ["finished"] * 4
    assert len({trial.mean("ndcg@10") for trial in result.trials}) == 4
    assert 0 < result.test[0].metrics["ndcg@10"] <= 1
    assert "rmse" not in result.test[0].metrics


def test_of_ratings_and_times_clicks_are_to_be_found(dataset):
    (split,) = interaction_splits(rated(dataset), protocol="holdout")
    clicks = prepare_task(split.test_fold, None)
    task = prepare_task(split.test_fold, None, reads=Reads(ratings=True, order=True))
    assert (task.held_out != clicks.held_out).nnz == 0
    assert (task.known != clicks.known).nnz == 0
    assert np.iscomplexobj(task.train.interactions.data)
