"""A study on generated events, from a file to the test: graded by their weights, and learned by who reads them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import ndcg_score

import coldray
from coldray.core.errors import MissingFieldError
from coldray.data.splits.interactions import interaction_splits
from coldray.evaluation.ranking import rank
from coldray.experiments.comparison.config import load_comparison
from coldray.experiments.comparison.run import check_comparison, comparison_protocol
from coldray.experiments.evaluation import evaluate
from coldray.experiments.folds import prepare_task
from coldray.experiments.listeners import StudyListener
from coldray.experiments.prepared import describe_dataset
from coldray.experiments.space import StudyConfig
from coldray.experiments.study import prepare_study, run_study
from coldray.models.linear.als import ALS, ALSConfig

SPACE = {"n_factors": 4, "confidence": {"choice": ["clicks", "events"]}}
STUDY = {
    "name": "bought",
    "model": "als",
    "space": SPACE,
    "splits": {"protocol": "holdout", "n_splits": 1},
    "candidates": "all",
    "cutoffs": [5],
    "selection": {"metric": "ndcg@5"},
    "search": {"algorithm": "grid"},
}
N_ITEMS = 24


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Return a dataset read from a file of events: people look at some of both groups, and buy of their own alone."""
    rng = np.random.default_rng(0)
    users, own = rng.integers(0, 60, 1200), rng.random(1200) < 0.85
    items = 2 * rng.integers(0, N_ITEMS // 2, 1200) + np.where(own, users % 2, 1 - users % 2)
    kinds = np.where(own & (rng.random(1200) < 0.4), "purchase", "view").tolist()
    path = tmp_path_factory.mktemp("events") / "events.csv"
    pl.DataFrame({"user_id": users, "item_id": items, "kind": kinds}).write_csv(path)
    return coldray.load_dataset(path, event="kind", event_weights="purchase=8,view=1")


class Heard(StudyListener):
    """What a console is told of the stages of a study."""

    def __init__(self):
        self.stages = []

    def stage(self, text):
        self.stages.append(text)


def slow_ndcg(task, lists):
    """Return the graded ndcg of lists, by scikit-learn, user by user."""
    found = []
    for row, user in enumerate(lists.users):
        worth = task.held_out[[user]].toarray()
        scores = np.full((1, N_ITEMS), -1.0)
        scores[0, lists.items[row]] = np.arange(5, 0, -1)
        top = np.sort(worth[0])[::-1][:5]
        listed = worth[0][lists.items[row]]
        discounts = 1 / np.log2(np.arange(2, 7))
        found.append((listed * discounts).sum() / (top * discounts).sum())
        assert found[-1] == pytest.approx(ndcg_score(worth, scores, k=5), abs=1e-6)
    return np.mean(found)


def test_a_study_of_events_is_graded_by_their_weights_and_may_learn_them(data, ray_cluster):
    study = prepare_study(StudyConfig.model_validate(STUDY), data)
    heard = Heard()
    result = run_study(study, study_id="bought", listener=heard)
    assert {f"{name}: {result.protocol[name]}" for name in ("events", "events learned")} <= set(heard.stages)
    assert {trial.config["confidence"] for trial in result.trials} == {"clicks", "events"}
    task = prepare_task(study.splits[0].test_fold, None, reads=study.config.reads)
    assert set(np.unique(task.held_out.data)) == set(np.unique(task.histories.data)) == {1.0, 8.0}
    model = ALS(ALSConfig(**result.selection.winner.config)).fit(task.train)
    every = np.arange(N_ITEMS)
    lists = rank(model.scorer(every), task.histories, every, k=5, exclude=task.known, users=task.users)
    (fold,) = result.test
    assert fold.metrics["ndcg@5"] == pytest.approx(slow_ndcg(task, lists), abs=1e-5)
    alike = evaluate(model, replace(task, graded=False), candidates="all", cutoffs=(5,)).means()
    assert fold.metrics["recall@5"] == pytest.approx(alike["recall@5"])
    assert fold.metrics["ndcg@5"] != pytest.approx(alike["ndcg@5"])
    values, counts = np.unique(task.held_out.data, return_counts=True)
    told = result.protocol["events"]
    assert told.startswith("weights purchase 8, view 1; ndcg is graded by their weights")
    assert told.endswith(f"in the tests {counts[0]:,} of {values[0]:g}, {counts[1]:,} of {values[1]:g}")
    assert result.protocol["events learned"] == "by weight, as als reads them"
    assert result.dataset["events"] == ["purchase 8", "view 1"]
    json.dumps(result.dataset)


def test_who_reads_no_weights_takes_every_event_as_a_click_and_is_graded_all_the_same(data):
    plain = StudyConfig.model_validate({**STUDY, "model": "ease", "space": {"regularization": 20.0}})
    study = prepare_study(plain, data)
    assert study.protocol()["events learned"] == "an event of any kind is one click"
    task = prepare_task(study.splits[0].test_fold, None)
    np.testing.assert_array_equal(task.train.interactions.data, 1)
    assert task.graded
    limited = prepare_task(study.splits[0].test_fold, None, users=10)
    assert set(np.unique(limited.held_out.data)) == {1.0, 8.0}


def test_a_comparison_says_which_entries_learn_from_weights(data):
    shared = {key: value for key, value in STUDY.items() if key not in ("name", "model", "space", "search")}
    names = {"weighed": {"confidence": "events"}, "plain": {"confidence": "clicks"}}
    entries = {name: {"study": "als.yaml", "overrides": {"space": space}} for name, space in names.items()}
    path = Path(__file__).parents[2] / "tune_spaces" / "compare_models.yaml"
    comparison = load_comparison(path, {**shared, "entries": entries, "baseline": "plain"})
    told = comparison_protocol(comparison, check_comparison(comparison, data))
    assert told["events learned"] == "by weight in weighed; to the others an event of any kind is one click"
    assert "ndcg is graded by their weights" in told["events"]


def test_data_of_one_kind_are_as_before(data):
    bare = replace(data, events=None)
    study = prepare_study(StudyConfig.model_validate({**STUDY, "space": {"n_factors": 4}}), bare)
    assert not prepare_task(study.splits[0].test_fold, None).graded
    assert not {"events", "events learned"} & {*study.protocol(), *describe_dataset(bare)}
    with pytest.raises(MissingFieldError, match=r"no kinds of events.*--event-column"):
        prepare_study(StudyConfig.model_validate(STUDY), bare)


def test_the_front_door_grades_by_events_and_folds_weights_in(data):
    split = coldray.split(data, "holdout")
    model = coldray.fit("als", split, n_factors=4, confidence="events")
    found = coldray.evaluate(model, split, ["ndcg@5", "recall@5"])
    task = prepare_task(split.for_tuning().fold, None, reads=model.model.reads)
    every = np.arange(N_ITEMS)
    lists = rank(model.model.scorer(every), task.histories, every, k=5, exclude=task.known, users=task.users)
    assert found["ndcg@5"] == pytest.approx(slow_ndcg(task, lists), abs=1e-5)
    even, odd = ({item: 8.0 if item % 2 == side else 1.0 for item in range(8)} for side in (0, 1))
    lists = model.recommend(histories=[even, odd], k=4)
    assert (lists["item"] % 2).to_list() == [0] * 4 + [1] * 4


def test_a_bundle_keeps_what_the_clicks_of_its_users_were_worth(data, tmp_path):
    split = coldray.split(data, "holdout")
    model = coldray.fit("als", split, n_factors=4, confidence="events")
    again = coldray.load_bundle(model.save(tmp_path / "bundle"))
    np.testing.assert_array_equal(again.interactions.data, model.interactions.data)
    assert set(np.unique(again.interactions.data)) == {1.0, 8.0}
    user = data.user_ids[0].item()
    assert again.history(user) == model.history(user)
    assert set(again.history(user).values()) <= {1.0, 8.0}
    assert again.model.click_value == pytest.approx(model.interactions.data.mean())
    assert model.recommend(users=[user]).equals(again.recommend(users=[user]))


def test_a_click_after_the_fit_may_be_left_unweighed(data):
    split = next(interaction_splits(data, protocol="holdout"))
    model = coldray.fit("als", split, n_factors=4, confidence="events")
    unweighed, mean = [3, 4], dict.fromkeys([3, 4], model.model.click_value)
    assert model.recommend(histories=[unweighed])["score"].to_list() == pytest.approx(
        model.recommend(histories=[mean])["score"].to_list(), rel=1e-6
    )
