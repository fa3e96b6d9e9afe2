"""Models fitted and measured from a notebook."""

from dataclasses import replace

import numpy as np
import pytest

import coldray
from coldray.core.errors import ConfigError, EmptyDatasetError, LeakageError, MissingFieldError
from coldray.data.splits.positives import Positives
from coldray.experiments.evaluation import evaluate as measure
from coldray.experiments.folds import prepare_task
from coldray.features.builder import FeatureConfig
from coldray.models.linear.ease import EASE, EASEConfig
from coldray.models.marec.config import MARecConfig
from coldray.models.marec.model import MARec


@pytest.fixture(scope="module")
def films():
    return coldray.load_dataset("sample")


@pytest.fixture(scope="module")
def cold(films):
    return coldray.split(films, "item-cold", seed=3)


@pytest.fixture(scope="module")
def marec(cold):
    return coldray.fit("marec", cold, lambda_1=10.0)


@pytest.mark.parametrize("part", ["validation", "test"])
def test_what_is_measured_is_what_a_study_measures(cold, marec, part):
    fold = cold.for_tuning().fold if part == "validation" else cold.test_fold
    task = prepare_task(fold, FeatureConfig())
    model = MARec(MARecConfig(lambda_1=10.0)).fit(task.train)
    expected = measure(model, task, candidates="cold", cutoffs=(5, 10)).means()
    found = coldray.evaluate(marec, cold, ["ndcg@10", "recall@5", "coverage@5"], part=part)
    assert dict(found.metrics) == pytest.approx({name: expected[name] for name in found.metrics})
    assert found.part == part
    low, high = found.intervals["ndcg@10"]
    assert low < found["ndcg@10"] < high
    assert found.users == len(task.users)
    assert found.frame["metric"].to_list() == ["ndcg@10", "recall@5", "coverage@5"]
    assert found.frame["low"].is_null().to_list() == [False, False, True]
    assert f"{part} part" in repr(found)
    assert f"{found['ndcg@10']:.4f}" in found._repr_html_()


@pytest.mark.parametrize("part", ["validation", "test"])
def test_what_is_to_be_found_may_be_a_part_of_what_is_held_out(films, part):
    ratings = films.interactions.copy()
    ratings.data = np.random.default_rng(0).integers(1, 6, ratings.nnz).astype(np.float32)
    split = coldray.split(replace(films, ratings=ratings), "holdout", seed=1)
    model = coldray.fit("ease", split, regularization=20.0)
    fold = split.for_tuning().fold if part == "validation" else split.test_fold
    task = prepare_task(fold, None, positives=Positives(rating=">=4"))
    plain = EASE(EASEConfig(regularization=20.0)).fit(task.train)
    expected = measure(plain, task, candidates="all", cutoffs=(10,)).means()["recall@10"]
    found = coldray.evaluate(model, split, "recall@10", part=part, positives={"rating": ">=4"})
    assert found["recall@10"] == pytest.approx(expected)
    assert found["recall@10"] != coldray.evaluate(model, split, "recall@10", part=part)["recall@10"]
    with pytest.raises(EmptyDatasetError, match="is >5"):
        coldray.evaluate(model, split, part=part, positives={"rating": ">5"})
    with pytest.raises(ConfigError, match="unknown field 'stars'"):
        coldray.evaluate(model, split, part=part, positives={"rating": ">=4", "stars": ">=4"})


def test_the_fit_sees_nothing_of_the_test_items(cold, marec):
    tested = set(cold.dataset.item_ids[cold.test_items].tolist())
    assert not tested & set(marec.item_ids.tolist())
    train = cold.for_tuning().fold.train
    assert (marec.interactions != train).nnz == 0


def test_a_model_of_all_interactions_is_a_bundle(films, tmp_path):
    bundle = coldray.fit("ease", films, regularization=50.0)
    assert isinstance(bundle, coldray.Bundle)
    assert "0 cold" in repr(bundle)
    assert "regularization" in bundle._repr_html_()
    loaded = coldray.load_bundle(bundle.save(tmp_path / "bundle"))
    items = np.arange(5)
    histories = bundle.interactions[:3]
    np.testing.assert_allclose(loaded.model.score(histories, items), bundle.model.score(histories, items), rtol=1e-6)


def test_a_model_object_is_fitted_with_its_own_parameters(films):
    split = coldray.split(films, "holdout")
    model = EASE(EASEConfig(regularization=5.0))
    assert coldray.fit(model, split).model is model
    by_name = coldray.fit("ease", split, regularization=5.0)
    assert coldray.evaluate(by_name, split).metrics == coldray.evaluate(coldray.fit(model, split), split).metrics


def test_models_of_other_interactions_are_not_measured(films, cold, marec):
    for model, split in (
        (marec, coldray.split(films, "item-cold", seed=4)),
        (marec, coldray.split(films, "holdout", seed=3)),
        (coldray.fit("marec", films), cold),
    ):
        with pytest.raises(LeakageError, match="Fit it on the split"):
            coldray.evaluate(model, split, candidates="all")


@pytest.mark.parametrize(
    ("model", "options", "error", "words"),
    [
        ("mrec", {}, ConfigError, "Did you mean 'marec'"),
        ("marec", {"lambda1": 3}, ConfigError, "Did you mean 'lambda_1'"),
        ("als", {"regularization": -1}, ConfigError, "greater than 0"),
        ("ease", {"features": {"attribute": "x"}}, ConfigError, "Did you mean 'attributes'"),
        (EASE(EASEConfig()), {"regularization": 1.0}, ConfigError, "beside a model"),
        ("rating_svd", {}, MissingFieldError, "ratings"),
    ],
)
def test_a_model_that_cannot_be_fitted_is_refused_in_one_sentence(films, model, options, error, words):
    with pytest.raises(error, match=words):
        coldray.fit(model, films, **options)


def test_a_model_of_attributes_needs_some():
    bare = coldray.load_dataset({"user_id": [1, 1, 2], "item_id": [1, 2, 2]})
    with pytest.raises(MissingFieldError, match="labels="):
        coldray.fit("marec", bare)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"metrics": "ndgc@10"}, "Did you mean 'ndcg@10'"),
        ({"metrics": ["ndcg@0"]}, "metric 'ndcg@0' is not computed"),
        ({"part": "tset"}, "'validation' or 'test'"),
    ],
)
def test_a_measure_that_there_is_not_is_refused(cold, marec, options, words):
    with pytest.raises(ConfigError, match=words):
        coldray.evaluate(marec, cold, **options)


def test_cold_items_are_ranked_by_models_that_can_where_there_are_some(films, cold):
    clicks_alone = coldray.fit("ease", cold)
    with pytest.raises(ConfigError, match="cannot rank cold"):
        coldray.evaluate(clicks_alone, cold)
    split = coldray.split(films, "holdout")
    fitted = coldray.fit("marec", split)
    with pytest.raises(ConfigError, match="holds out interactions"):
        coldray.evaluate(fitted, split, candidates="cold")
