"""A study, and a comparison, that look for interactions of some ratings alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from coldray.core.errors import ConfigError, StudyError
from coldray.data.sources.sample import sample_dataset
from coldray.data.splits.published import PredefinedSplit
from coldray.evaluation.ranking import rank
from coldray.experiments.comparison.config import load_comparison
from coldray.experiments.evaluation import evaluate
from coldray.experiments.folds import prepare_task
from coldray.experiments.forms.settled import Settled
from coldray.experiments.record.saved_search import load_search, save_search
from coldray.experiments.search.run import SearchOutcome
from coldray.experiments.space import StudyConfig, load_study
from coldray.experiments.study import prepare_study, run_study
from coldray.models.linear.ease import EASE, EASEConfig

STUDY = {
    "name": "liked",
    "model": "ease",
    "space": {"regularization": 50.0},
    "splits": {"protocol": "predefined", "n_splits": 1},
    "candidates": "all",
    "cutoffs": [5],
    "selection": {"metric": "ndcg@5"},
    "filters": {},
}
LIKED = StudyConfig.model_validate({**STUDY, "positives": {"rating": ">=4"}})


@pytest.fixture(scope="module")
def published():
    """Return a published split of the sample, with ratings."""
    data, rng = sample_dataset(0, 60, 50), np.random.default_rng(2)
    clicks = data.interactions
    ratings = sp.csr_array(
        (rng.integers(1, 6, clicks.nnz).astype(np.float32), clicks.indices, clicks.indptr), shape=clicks.shape
    )
    parts = np.where(rng.random(clicks.nnz) < 0.3, 2, 0).astype(np.uint8)
    return PredefinedSplit(replace(data, ratings=ratings), parts, "planted")


def test_a_published_split_is_searched_and_tested_by_what_was_liked(published, ray_cluster):
    study = prepare_study(LIKED, published.dataset, published)
    result = run_study(study, study_id="liked")
    task = prepare_task(study.splits[0].test_fold, None)
    model = EASE(EASEConfig(regularization=50.0)).fit(task.train)
    lists = rank(model.scorer(np.arange(50)), task.histories, np.arange(50), k=5, exclude=task.known)
    wanted = published.test.toarray() * (published.dataset.ratings.toarray() >= 4)
    discounts = 1 / np.log2(np.arange(2, 7))
    ndcg = [
        (wanted[user][lists.items[user]] * discounts).sum() / discounts[: min(5, int(wanted[user].sum()))].sum()
        for user in range(60)
        if wanted[user].any() and task.histories[[user]].nnz
    ]
    (fold,) = result.test
    assert fold.metrics["ndcg@5"] == pytest.approx(np.mean(ndcg), abs=1e-5)
    assert fold.metrics["ndcg@5"] != pytest.approx(
        evaluate(model, task, candidates="all", cutoffs=(5,)).means()["ndcg@5"]
    )
    assert f"{int(wanted.sum())} of {published.test.nnz} test interactions" in result.protocol["positives"]


def test_the_shipped_study_of_texts_and_a_graph_looks_for_what_was_liked_by_histories_of_every_rating(
    published, ray_cluster
):
    path = Path(__file__).parents[2] / "tune_spaces" / "text_graph.yaml"
    small = {"heads": 1, "head_dim": 2, "epochs": 1, "stop_by": "clicks", "rating_embedding": True}
    overrides = {"splits.protocol": "predefined", "splits.n_splits": 1, "candidates": "all", "search.trials": 1}
    written = {"space": small, "selection.simplest": [], "search.algorithm": "random", "search.first": []}
    config = load_study(path, {**overrides, **written, "positives": {"rating": ">=4"}})
    study = prepare_study(config, published.dataset, published)
    task = prepare_task(study.splits[0].test_fold, config.features, reads=config.reads, positives=config.positives)
    ratings = published.dataset.ratings.toarray()
    known = published.train.toarray() > 0
    np.testing.assert_array_equal(task.histories.toarray()[known], ratings[known])
    assert (ratings[known] < 4).any()
    assert task.held_out.nnz == (ratings[published.test.toarray() > 0] >= 4).sum()
    (fold,) = run_study(study, study_id="texts").test
    assert 0 < fold.metrics["ndcg@50"] < 1


def test_a_study_without_a_rule_is_recorded_as_before():
    plain = StudyConfig.model_validate(STUDY)
    assert "positives" not in plain.model_dump(mode="json")
    assert LIKED.model_dump(mode="json")["positives"] == {"rating": ">=4"}


def test_a_saved_search_by_another_rule_is_not_tested(published, tmp_path):
    path = save_search(tmp_path / "search.json", LIKED, published.dataset, SearchOutcome((), 0.0), Settled())
    with pytest.raises(StudyError, match="is of another study: positives was"):
        load_search(path, StudyConfig.model_validate(STUDY), published.dataset)


def test_a_misspelt_column_and_a_model_of_ratings_are_refused(published):
    spaces = Path(__file__).parents[2] / "tune_spaces"
    with pytest.raises(ConfigError, match=r"unknown field 'positives.raitng'. Did you mean 'rating'"):
        load_study(spaces / "ease.yaml", {"positives": {"raitng": ">=4"}})
    predicting = load_study(spaces / "mf.yaml", {"splits.protocol": "predefined", "positives.rating": ">=4"})
    with pytest.raises(ConfigError, match="predicts every held-out rating"):
        prepare_study(predicting, published.dataset, published)


def test_the_entries_of_a_comparison_have_one_rule():
    path = Path(__file__).parents[2] / "tune_spaces" / "compare_models.yaml"
    liked = load_comparison(path, {"positives": {"rating": ">3"}})
    assert {entry.study.positives.rating for entry in liked.entries} == {">3"}
    assert {entry.study.positives for entry in load_comparison(path).entries} == {None}
    with pytest.raises(ConfigError, match="which all entries have in common"):
        load_comparison(path, {f"entries.{liked.entries[0].name}.overrides": {"positives": {"rating": ">3"}}})
