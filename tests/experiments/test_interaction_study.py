"""Studies that hold out interactions: EASE from the search to the test, and what such a study can never see."""

import sys
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest
import ray
import scipy.sparse as sp

from coldray.bundle.fitting import fit_bundle
from coldray.bundle.io import load_bundle, save_bundle
from coldray.core.errors import ConfigError, MissingFieldError, UnknownAttributeError
from coldray.data.dataset import Dataset, binary_matrix, rows_of
from coldray.data.sources.sample import sample_dataset
from coldray.data.splits.parts import (
    TEST,
    TEST_GIVEN,
    TRAIN,
    VALIDATION,
    VALIDATION_GIVEN,
    InteractionSplit,
)
from coldray.experiments.evaluation import _rank_task, evaluate
from coldray.experiments.folds import prepare_task, prepare_tasks
from coldray.experiments.forms.settled import settled_study
from coldray.experiments.listeners import StudyListener
from coldray.experiments.prepared import describe_dataset, describe_protocol
from coldray.experiments.search.run import search
from coldray.experiments.selection import select
from coldray.experiments.space import StudyConfig
from coldray.experiments.split_config import SplitConfig
from coldray.experiments.study import draw_splits, prepare_study, run_study
from coldray.experiments.winner import measure_winner
from coldray.features.builder import FeatureConfig, FeatureEncoder
from coldray.models.linear.ease import EASE, EASEConfig
from coldray.models.marec.model import MARec
from coldray.models.popularity.model import Popularity, PopularityConfig
from coldray.reports.published import HETREC, no_comparison, published_for
from coldray.reports.study.figures import published_picture
from coldray.reports.study.report import outcome
from contracts.lists import places_of

# Workers cannot import this module by its name, so what it defines travels by value.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
METRIC = "ndcg@10"
PROTOCOLS = {
    "holdout": {"n_splits": 2},
    "leave-last": {"n_splits": 1, "last": 2},
    "temporal": {"n_splits": 1},
    "per-user-temporal": {"n_splits": 1},
    "rolling-origin": {"n_splits": 2},
    "user-holdout": {"n_splits": 2},
    "k-fold": {"n_splits": 3},
}


def study(protocol="holdout", model="ease", space=None, **fields):
    search = {"algorithm": "grid", "max_concurrent": 1}
    base = {"name": "small", "model": model, "candidates": "all", "cutoffs": [5, 10], "search": search}
    space = space or {"regularization": {"choice": [1.0, 10.0, 100.0, 1e4]}}
    splits = {"protocol": protocol, **PROTOCOLS[protocol]}
    return StudyConfig.model_validate({**base, "space": space, "splits": splits, **fields})


@pytest.fixture(scope="module")
def dataset():
    """Return the sample with a time for each click."""
    data = sample_dataset(0, 120, 100)
    clicks = data.interactions
    times = np.random.default_rng(5).integers(0, 10**6, clicks.nnz)
    return replace(data, timestamps=sp.csr_array((times, clicks.indices, clicks.indptr), shape=clicks.shape))


class Shared(StudyListener):
    """Keeps what trials shared."""

    def __init__(self):
        self.labels = set()

    def shared(self, status):
        self.labels |= {entry.label for entry in status}


CONFIG = study()


@pytest.fixture(scope="module")
def listener():
    return Shared()


@pytest.fixture(scope="module")
def result(ray_cluster, dataset, listener, tmp_path_factory):
    return run_study(prepare_study(CONFIG, dataset), study_id="ease", listener=listener)


# ---- from the search to the test


def test_a_sweep_of_regularisations_counts_once_a_split(result, listener):
    assert [trial.status for trial in result.trials] == ["finished"] * 4
    assert {form.parameter: form.value for form in result.forms} == {"solver": "exact", "factorisation": "cholesky"}
    assert listener.labels == {f"co-clicks of seed 42 / split {number}" for number in range(2)}


def test_trials_and_test_are_what_an_evaluation_without_ray_gives(result, dataset):
    splits = draw_splits(dataset, CONFIG)
    for trial in result.trials:
        for fold, split in zip(trial.folds, splits, strict=True):
            assert dict(fold.metrics) == pytest.approx(alone(trial, split.for_tuning().fold), abs=1e-4)
    for fold, split in zip(result.test, splits, strict=True):
        assert dict(fold.metrics) == pytest.approx(alone(result.selection.winner, split.test_fold), abs=1e-4)
    low, high = result.test_intervals[METRIC]
    assert 0 < low < np.mean([fold.metrics[METRIC] for fold in result.test]) < high < 1


def alone(trial, fold):
    task = prepare_task(fold, None)
    model = EASE(EASEConfig.model_validate(trial.config)).fit(task.train)
    return evaluate(model, task, candidates="all", cutoffs=(5, 10)).means()


def test_ease_beats_popularity_where_clicks_have_a_structure(result, dataset):
    for fold, split in zip(result.test, draw_splits(dataset, CONFIG), strict=True):
        task = prepare_task(split.test_fold, CONFIG.features)
        popular = Popularity(PopularityConfig(trees=10)).fit(task.train)
        baseline = evaluate(popular, task, candidates="all", cutoffs=(10,)).means()
        assert fold.metrics[METRIC] > baseline[METRIC]


def test_words_are_of_interactions(result):
    assert result.held_out == "interactions"
    assert result.protocol["split"].startswith("holdout: a random 20 % of each user's interactions is test")
    assert result.protocol["first split"].endswith("test interactions")
    assert result.protocol["selection"].endswith("test interactions are used once, by the winner")
    assert result.dataset["attributes"] == []
    assert "on the test interactions it reaches" in outcome(result)
    assert "item" not in outcome(result)
    assert not any("cold" in words for words in result.protocol.values())


def test_published_numbers_of_cold_items_are_not_shown_beside_others(result):
    paper = {"name": HETREC.dataset, "n_users": HETREC.n_users, "n_items": HETREC.n_items, "synthetic": False}
    assert published_for(paper) is HETREC
    assert published_for(paper, "interactions") is None
    assert "of cold items" in no_comparison(paper, "interactions")
    assert published_picture(replace(result, dataset=MappingProxyType(paper))) is None
    assert published_picture(replace(result, dataset=paper, held_out="items")) is not None


# ---- promise 6: selection cannot touch test data


def poisoned(split, seed):
    """Return the split with other test interactions: other items, and other numbers of them, for every user."""
    rng, data = np.random.default_rng(seed), split.dataset
    rows, columns = rows_of(data.interactions), data.interactions.indices
    kept = split.parts != TEST
    free = np.ones(data.interactions.shape, bool)
    free[rows[kept], columns[kept]] = False
    users, items = np.nonzero(free & (rng.random(free.shape) < 0.3))
    clicks = binary_matrix(np.append(rows[kept], users), np.append(columns[kept], items), free.shape)
    table = np.full(free.shape, TEST, np.uint8)
    table[rows[kept], columns[kept]] = split.parts[kept]
    times = sp.csr_array((rng.integers(0, 10**6, clicks.nnz), clicks.indices, clicks.indptr), shape=clicks.shape)
    values = times.toarray()
    values[rows[kept], columns[kept]] = data.timestamps.data[kept]
    times.data[:] = values[rows_of(clicks), clicks.indices]
    changed = replace(data, interactions=clicks, timestamps=times)
    return replace(split, dataset=changed, parts=table[rows_of(clicks), clicks.indices])


@pytest.fixture(scope="module")
def variants(dataset):
    splits = draw_splits(dataset, CONFIG)
    return {"as they are": splits, "poisoned": [poisoned(split, seed) for seed, split in enumerate(splits)]}


def test_test_interactions_change_nothing_a_search_finds(result, variants, dataset):
    splits = variants["poisoned"]
    tuning = [split.for_tuning() for split in splits]
    for split, original, visible in zip(splits, variants["as they are"], tuning, strict=True):
        assert visible.dataset.fingerprint == original.for_tuning().dataset.fingerprint
        assert split.dataset.fingerprint != original.dataset.fingerprint
    settled, _ = settled_study(CONFIG, dataset)  # by the sizes of the data, before anything is searched
    found = search(settled, tuning, study_id="canary")
    for trial, expected in zip(found.trials, result.trials, strict=True):
        assert trial.config == expected.config
        assert [dict(fold.metrics) for fold in trial.folds] == [dict(fold.metrics) for fold in expected.folds]
    assert select(found.trials, CONFIG.selection).winner.number == result.selection.winner.number


@pytest.mark.usefixtures("ray_cluster")
def test_test_interactions_do_change_the_test(result, variants, dataset):
    """Without this the test above could pass because the poison has no effect at all."""
    tested = measure_winner(
        replace(prepare_study(CONFIG, dataset), splits=tuple(variants["poisoned"])), result.selection
    )
    for first, second in zip(tested.folds, result.test, strict=True):
        assert abs(first.metrics[METRIC] - second.metrics[METRIC]) > 0.02


# ---- evaluation


def test_users_held_out_are_described_by_what_is_given_and_not_offered_it_again(dataset):
    (split, _) = draw_splits(dataset, study("user-holdout"))
    task = prepare_task(split.test_fold, None)
    assert np.array_equal(np.unique(rows_of(task.held_out)), task.users)
    assert (np.diff(task.train.interactions.indptr)[task.users] == 0).all()
    model = EASE(EASEConfig(regularization=10.0)).fit(task.train)
    listed = _rank_task(model, task, candidates="all", k=100).items
    given = task.histories.toarray()[task.users]
    assert given.any(axis=1).all()
    for row, known in zip(listed, given, strict=True):
        assert sorted(row[row >= 0]) == np.flatnonzero(known == 0).tolist()
    scores = model.score(task.histories[task.users], np.arange(model.n_items))
    assert (listed[:, 0] == np.where(given > 0, -np.inf, scores).argmax(axis=1)).all()


class Fixed:
    """Scores every item by its index, and promises that warm and cold items may be ranked apart."""

    cold_scale = 1.0

    def __init__(self, n_items):
        self.n_items = n_items

    def ranking_key(self):
        return "by index"

    def scorer(self, items):
        return lambda histories: np.tile(items.astype(np.float32), (histories.shape[0], 1))


def test_given_items_that_nobody_clicks_in_train_are_not_offered_either():
    """They are on the cold side of the list, where no train positive can be."""
    clicks = binary_matrix(np.array([0, 0, 1, 1, 1, 2, 2, 2]), np.array([0, 1, 1, 3, 2, 0, 3, 2]), (3, 5))
    data = Dataset("tiny", np.arange(3), np.arange(5), clicks, {})
    parts = np.array([TRAIN, TRAIN, TEST_GIVEN, TEST, TEST_GIVEN, VALIDATION_GIVEN, VALIDATION, VALIDATION_GIVEN])
    order = np.lexsort((np.array([0, 1, 1, 3, 2, 0, 3, 2]), np.array([0, 0, 1, 1, 1, 2, 2, 2])))
    split = InteractionSplit(data, parts[order].astype(np.uint8), split=0, seed=0, protocol="user-holdout")
    task = prepare_task(split.for_tuning().fold, None)
    assert task.train.cold_items.tolist() == [2, 3, 4]
    assert _rank_task(Fixed(5), task, candidates="all", k=5).items.tolist() == [[4, 3, 1, -1, -1]]


def test_a_list_of_warm_items_alone_has_no_cold_side():
    clicks = binary_matrix(np.repeat(np.arange(4), 3), np.tile(np.arange(3), 4), (4, 3))
    parts = np.array([TRAIN, TRAIN, TEST, TEST, TRAIN, TRAIN, TRAIN, VALIDATION, TRAIN, TRAIN, TRAIN, TRAIN], np.uint8)
    data = Dataset("tiny", np.arange(4), np.arange(3), clicks, {})
    task = prepare_task(InteractionSplit(data, parts, split=0, seed=0, protocol="holdout").test_fold, None)
    assert len(task.train.cold_items) == 0
    assert _rank_task(Fixed(3), task, candidates="all", k=2).items.tolist() == [[2, -1], [0, -1]]


@pytest.mark.parametrize("kind", [MARec, Popularity])
def test_a_model_of_cold_items_may_be_asked_for_warm_ones(dataset, kind):
    (split, _) = draw_splits(dataset, CONFIG)
    task = prepare_task(split.test_fold, FeatureConfig())
    metrics = evaluate(kind().fit(task.train), task, candidates="all", cutoffs=(10,)).means()
    assert 0 < metrics[METRIC] < 1


# ---- checks before anything starts


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_protocol_gives_folds_and_is_described(dataset, protocol):
    config = study(protocol)
    splits = prepare_study(config, dataset).splits
    words = describe_protocol(config, dataset, splits)
    assert words["split"].startswith(f"{protocol}: ")
    assert ("given" in words["first split"]) == ("given" in words["users"]) == (protocol == "user-holdout")
    assert len(splits) == config.splits.n_splits
    for split in splits:
        for fold in (split.for_tuning().fold, split.test_fold):
            task = prepare_task(fold, None)
            model = EASE().fit(task.train)
            assert evaluate(model, task, candidates="all", cutoffs=(10,)).means()[METRIC] > 0


def test_shares_of_the_study_reach_the_splits_and_the_words(dataset):
    splits = {"protocol": "holdout", "n_splits": 1, "test_share": 0.5, "validation_share": 0.1}
    config = study(splits=splits)
    (split,) = draw_splits(dataset, config)
    assert (split.parts == TEST).mean() == pytest.approx(0.5, abs=0.03)
    assert "random 50 % of each" in describe_protocol(config, dataset, [split])["split"]
    (split,) = draw_splits(dataset, study("leave-last"))
    assert (split.parts == TEST).sum() == 2 * dataset.n_users


@pytest.mark.usefixtures("ray_cluster")
def test_sampled_users_are_those_of_the_search_and_of_the_test_and_are_said(dataset, result):
    splits = {**CONFIG.splits.model_dump(), "users": 20}
    config = CONFIG.model_copy(update={"splits": SplitConfig.model_validate(splits)})
    prepared = prepare_study(config, dataset)
    drawn = prepared.splits
    tested = measure_winner(prepared, result.selection)
    assert [len(next(iter(metrics.per_user.values()))) for metrics in tested.measured] == [20] * len(drawn)
    for reference, split in zip(prepare_tasks([s.test_fold for s in drawn], config).values(), drawn, strict=True):
        assert len(ray.get(reference).users) == 20
        assert len(prepare_task(split.test_fold, None).users) > 20
    assert "; at most 20 of each split, drawn by its seed" in describe_protocol(config, dataset, drawn)["users"]


def test_users_kept_in_train_are_said(dataset):
    clicks = dataset.interactions.tolil(copy=True)
    clicks[3, 5:] = clicks[3, :5] = 0
    clicks[3, 7] = 1
    short = replace(dataset, interactions=sp.csr_array(clicks), timestamps=None)
    words = describe_protocol(CONFIG, short, draw_splits(short, CONFIG))
    assert "1 user with too few interactions to hold one out, all in train" in words["first split"]


def test_a_model_that_cannot_score_cold_items_needs_held_out_interactions(dataset):
    with pytest.raises(ConfigError, match=r"'ease' cannot score cold items.*holdout"):
        prepare_study(study(splits={"protocol": "notebook"}, candidates="cold"), dataset)
    with pytest.raises(ConfigError, match=r"'ease' cannot score cold items"):
        prepare_study(study(splits={"protocol": "balanced"}), dataset)


def test_clicks_alone_are_enough_for_a_model_that_reads_nothing_else(dataset):
    bare = replace(dataset, attributes={}, default_attributes=())
    assert len(prepare_study(CONFIG, bare).splits) == 2
    marec = study(model="marec", space={"lambda_1": {"choice": [1.0, 10.0]}})
    with pytest.raises(MissingFieldError, match=r"no item attribute of dataset 'sample.*model 'marec' learns from"):
        prepare_study(marec, bare)
    with pytest.raises(UnknownAttributeError, match="plot"):
        prepare_study(study(features={"attributes": ["plot"]}), dataset)
    assert describe_dataset(dataset, marec)["attributes"] == list(dataset.default_attributes)


def test_a_split_by_time_of_data_without_times_is_refused(dataset):
    with pytest.raises(ConfigError, match="'sample' has no timestamps"):
        prepare_study(study("leave-last"), replace(dataset, timestamps=None))


def test_a_bundle_of_clicks_alone_recommends_after_a_trip_to_disk(dataset, tmp_path):
    bare = replace(dataset, attributes={}, default_attributes=())
    bundle = fit_bundle(EASE(), bare, FeatureEncoder(), {})
    again = load_bundle(save_bundle(bundle, tmp_path / "bundle"))
    history = bundle.history("user-0001")
    (found,), (expected,) = places_of(again, [history], 5), places_of(bundle, [history], 5)
    assert found == expected
    assert not {place.item for place in found} & set(history)
