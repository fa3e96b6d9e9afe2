"""The tasks of the field's cold split: masks and measures against plain loops, and whole studies."""

from dataclasses import replace
from math import log2

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from coldray.core.errors import EmptyDatasetError, OutputError
from coldray.core.journal import Journal
from coldray.data.dataset import Dataset, binary_matrix, rows_of
from coldray.data.sources.sample import sample_dataset
from coldray.data.splits.parts import TEST, TRAIN, VALIDATION
from coldray.data.splits.recsys_cold import recsys_cold_splits
from coldray.experiments.folds import prepare_task
from coldray.experiments.listeners import Listeners, StudyListener
from coldray.experiments.record.record import StudyRecord
from coldray.experiments.space import StudyConfig
from coldray.experiments.study import draw_splits, prepare_study, run_study
from coldray.experiments.tasks.measured import evaluate_fold
from coldray.experiments.tasks.mixed import MIXED_TASKS, evaluate_mixed
from coldray.models.linear.ease import EASE, EASEConfig

K = 4


class Table:
    """Scores items by a table of users, who are told by their histories: no two of them are alike."""

    takes_clicks = False

    def __init__(self, scores, histories):
        self.scores, self.n_items = scores, scores.shape[1]
        self.users = {tuple(row): user for user, row in enumerate(histories)}

    def scorer(self, items):
        return lambda rows: np.stack([self.scores[self.users[tuple(row)]][items] for row in rows.toarray()])


def by_loops(split, scores, looked_for, *, cold_competing):
    """Return the measures of each task as GAR and ALDI take them: mask, sort, look up, average.

    All of a user's clicks but those of the task are masked; a test's candidates are the cold items of both parts.
    """
    clicks = split.dataset.interactions
    parts = dict(zip(zip(rows_of(clicks).tolist(), clicks.indices.tolist(), strict=True), split.parts, strict=True))
    n_users, n_items = clicks.shape
    warm = {item for (_, item), part in parts.items() if part == TRAIN}
    cold_of_part = set(split.cold[looked_for].tolist())
    found = {}
    for task in MIXED_TASKS:
        values = []
        for user in range(n_users):
            own = {item: part for (one, item), part in parts.items() if one == user}
            wanted = {item for item, part in own.items() if part == looked_for}
            on_warm, on_cold = wanted & warm, wanted & cold_of_part
            truth = {"warm": on_warm, "cold": on_cold, "overall": wanted if on_warm and on_cold else set()}[task]
            if not truth or TRAIN not in own.values():
                continue
            masked = {item for item, part in own.items() if part == TRAIN or (looked_for, part) == (TEST, VALIDATION)}
            masked |= {"warm": cold_competing, "cold": warm, "overall": set()}[task]
            if looked_for == VALIDATION:  # the tuning does not know them
                masked |= set(split.cold[TEST].tolist())
            order = sorted(set(range(n_items)) - masked, key=lambda item: (-scores[user, item], item))[:K]
            hits = [item in truth for item in order]
            ideal = sum(1 / log2(place + 2) for place in range(min(K, len(truth))))
            ndcg = sum(hit / log2(place + 2) for place, hit in enumerate(hits)) / ideal
            values.append((ndcg, sum(hits) / len(truth), sum(hits) / K))
        means = np.mean(values, axis=0)
        found |= {f"{task}.{name}@{K}": mean for name, mean in zip(("ndcg", "recall", "precision"), means, strict=True)}
    return found


def drawn_data(seed, n_users=25, n_items=30):
    """Return data in which everybody has another history, of many clicks."""
    rng = np.random.default_rng(seed)
    users, items = np.nonzero(rng.random((n_users, n_items)) < 0.5)
    return Dataset("drawn", np.arange(n_users), np.arange(n_items), binary_matrix(users, items, (n_users, n_items)), {})


@given(st.integers(0, 2**32 - 1))
def test_masks_and_measures_are_those_of_the_protocol(seed):
    data = drawn_data(seed)
    split = next(recsys_cold_splits(data, seeds=(seed,)))
    scores = np.random.default_rng(seed).integers(0, 12, data.interactions.shape).astype(np.float32)  # with ties
    hidden = split.cold[TEST]
    visible = np.setdiff1d(np.arange(data.n_items), hidden)
    cold = set(np.concatenate([*split.cold.values()]).tolist())
    for fold, columns, looked_for in (
        (split.for_tuning().fold, visible, VALIDATION),
        (split.test_fold, np.arange(data.n_items), TEST),
    ):
        task = prepare_task(fold, None)
        model = Table(scores[:, columns], fold.train.toarray())
        expected = by_loops(split, scores, looked_for, cold_competing=cold)
        for candidates, deciding in (("all", "overall"), ("cold", "cold")):
            measured = evaluate_fold(model, task, candidates=candidates, cutoffs=(K,))
            found = measured.part_means()
            assert found == pytest.approx(expected, abs=1e-6)
            for name in ("ndcg", "recall", "precision"):
                assert measured.means()[f"{name}@{K}"] == found[f"{deciding}.{name}@{K}"]


def test_a_task_in_which_nobody_has_anything_to_find_is_named():
    split = next(recsys_cold_splits(drawn_data(1), seeds=(1,)))
    task = prepare_task(split.test_fold, None)
    cold = np.isin(task.held_out.indices, task.held_out_items)
    alone = task.held_out.copy()
    alone.data[cold] = 0
    alone.eliminate_zeros()
    model = EASE(EASEConfig(regularization=5.0)).fit(task.train)
    with pytest.raises(EmptyDatasetError, match="anything to be found in the task cold"):
        evaluate_mixed(model, replace(task, held_out=alone), candidates="all", cutoffs=(K,))


# ---- whole studies


@pytest.fixture(scope="module")
def data():
    return sample_dataset(n_users=60, n_items=60)


def study(**fields):
    base = {
        "name": "small", "model": "content_knn", "space": {"k": {"choice": [3, 8]}}, "cutoffs": [5, 10],
        "candidates": "all", "search": {"algorithm": "grid"}, "splits": {"protocol": "recsys-cold", "n_splits": 1},
    }  # fmt: skip
    return StudyConfig.model_validate({**base, **fields})


class Breaks(StudyListener):
    """Fails at the first split that is reported."""

    def trial_reported(self, trial_id, folds):
        raise OutputError("the disk is full")


def test_a_study_tunes_and_tests_in_the_tasks_and_goes_on_where_it_was_broken(data, ray_cluster, tmp_path):
    config = study(search={"algorithm": "grid", "max_concurrent": 1})
    undisturbed = run_study(prepare_study(config, data), study_id="mixed")
    names = {
        f"{task}.{measure}@{k}" for task in MIXED_TASKS for measure in ("ndcg", "recall", "precision") for k in (5, 10)
    }
    for folds in (undisturbed.test, undisturbed.selection.winner.folds):
        assert set(folds[0].parts) == names
        assert folds[0].metrics["ndcg@10"] == folds[0].parts["overall.ndcg@10"]
    assert names <= set(undisturbed.test_intervals)
    (split,) = draw_splits(data, config)
    assert undisturbed.protocol["cold items"] == "6 for validation and 6 for the test, beside 48 warm ones"
    assert "models learn from the train clicks alone" in undisturbed.protocol["split"]
    assert split.counts()["test_items"] == 6
    path = tmp_path / "events.jsonl"
    record = StudyRecord(path, "broken")
    with pytest.raises(OutputError, match="the disk is full"):
        run_study(prepare_study(config, data), study_id="broken", record=record, listener=Listeners(record, Breaks()))
    record = StudyRecord(path, "broken")
    resumed = run_study(prepare_study(config, data), study_id="broken", record=record, listener=record)
    assert [fold.parts for fold in resumed.test] == [fold.parts for fold in undisturbed.test]
    assert resumed.selection.winner.config == undisturbed.selection.winner.config
    done = [event["trial"] for event in Journal(path).read() if event["event"] == "split"]
    assert sorted(done) == [0, 1]


def test_cold_lists_decide_where_they_are_the_candidates(data, ray_cluster):
    result = run_study(prepare_study(study(candidates="cold"), data), study_id="mixed-cold")
    for folds in (result.test, result.selection.winner.folds):
        assert folds[0].metrics["ndcg@10"] == folds[0].parts["cold.ndcg@10"]


def test_no_validation_figure_depends_on_the_test(data):
    """The canary of the protocol: who clicks a test item, or has a test click on a warm one, is scrambled."""
    config = study()
    plain = replace(data, timestamps=None, ratings=None)
    (split,) = draw_splits(plain, config)
    dense = plain.interactions.toarray()
    dense[:, split.cold[TEST]] = np.random.default_rng(0).random((len(dense), len(split.cold[TEST]))) < 0.3
    scrambled = replace(plain, interactions=sp.csr_array(dense))
    clicks = scrambled.interactions
    numbers = [rows_of(one) * one.shape[1] + one.indices for one in (plain.interactions, clicks)]
    parts = np.full(clicks.nnz, TEST, np.uint8)
    known = np.isin(numbers[1], numbers[0])
    parts[known] = split.parts[np.searchsorted(numbers[0], numbers[1][known])]
    parts[np.isin(clicks.indices, split.cold[TEST])] = TEST
    other = replace(split, dataset=scrambled, parts=parts)
    figures = []
    for one in (split, other):
        task = prepare_task(one.for_tuning().fold, config.features)
        model = config.configured({"k": 8}).fit(task.train)
        figures.append(evaluate_fold(model, task, candidates="all", cutoffs=(10,)).part_means())
    assert figures[0] == figures[1]
