"""Two stages: candidates and their order against loops, what a pipeline refuses, and the contract of all models."""

import numpy as np
import pytest
import ray.cloudpickle
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

import coldray
from coldray.core.errors import ConfigError
from coldray.data.sources.sample import sample_dataset
from coldray.experiments.space import StudyConfig
from coldray.models.registry import model_type
from coldray.models.two_stage import two_stage_type
from contracts.problems import random_features, random_training_set
from contracts.recommender import ClickedItemContract, ColdItemContract, all_items


class TwoStageContract:
    """What differs: candidates are found among the items that are asked for, which a score is relative to."""

    def test_some_items_are_columns_of_all(self, train, fitted):
        stages = {stage: fitted.kinds[stage](fitted.config.of(stage)).fit(train) for stage in ("retrieve", "rank")}
        for items in (train.warm_items, all_items(fitted)[::-1]):
            first, second = (stages[name].score(train.interactions, items) for name in ("retrieve", "rank"))
            expected = in_order(first, second, train.interactions[:, items].toarray() > 0, fitted.config)
            found = fitted.score(train.interactions, items)
            for row, order in enumerate(expected):
                assert (np.diff(found[row][order]) <= 1e-5).all()


def in_order(first, second, seen, config):
    """Return the places of items in the order of their scores, user by user and item by item."""
    orders = []
    for row in range(len(first)):
        by_first = sorted(range(first.shape[1]), key=lambda place: (-first[row, place], place))
        candidates = [place for place in by_first if not seen[row, place]][: config.k]
        ranked = standard(second[row, candidates]) + config.weight * standard(first[row, candidates])
        best = [candidates[place] for place in np.argsort(-ranked, kind="stable")]
        orders.append(best + [place for place in by_first if place not in candidates])
    return orders


def standard(scores):
    wide = scores.astype(np.float64)
    spread = wide.std() if len(wide) else 0
    return (wide - wide.mean()) / spread if spread > 1e-6 * np.abs(wide).max(initial=0) else np.zeros(len(wide))


class TestContentBehindEase(TwoStageContract, ClickedItemContract):
    model = two_stage_type("ease+content_knn")
    config = model.config_type(k=9, weight=0.5)
    tolerance = 1e-4


class TestKernelBehindContent(TwoStageContract, ColdItemContract):
    model = two_stage_type("content_knn+marec")
    config = model.config_type(k=100)
    tolerance = 1e-4

    def test_items_are_added_by_their_attributes(self, train, fitted):
        """To both stages: scores, which are relative to the candidates, are those of two stages that know them."""
        new = random_features(np.random.default_rng(3), 4)
        extended = fitted.add_items(new)
        assert (fitted.n_items, extended.n_items) == (len(all_items(fitted)), fitted.n_items + 4)
        histories = train.interactions.copy()
        histories.resize(histories.shape[0], extended.n_items)
        stages = [fitted.kinds[name](fitted.config.of(name)).fit(train).add_items(new) for name in ("retrieve", "rank")]
        first, second = (model.score(histories, all_items(extended)) for model in stages)
        scores = extended.score(histories, all_items(extended))
        expected = in_order(first, second, histories.toarray() > 0, extended.config)
        for row, order in enumerate(expected):
            assert (np.diff(scores[row][order]) <= 1e-5).all()
        again = self.rebuilt(extended, train.features.append(new))
        np.testing.assert_array_equal(again.score(histories, all_items(again)), scores)


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), k=st.integers(1, 40), weight=st.sampled_from([0.0, 0.3, 2.0]))
def test_candidates_come_first_in_the_order_of_both_stages(seed, k, weight):
    train = random_training_set(seed)
    kind = two_stage_type("item_knn+ease")
    model = kind(kind.config_type(k=k, weight=weight)).fit(train)
    items = all_items(model)
    first, second = (model_type(name)().fit(train).score(train.interactions, items) for name in ("item_knn", "ease"))
    seen = train.interactions.toarray() > 0
    found = model.score(train.interactions, items)
    for row, order in enumerate(in_order(first, second, seen, model.config)):
        assert (np.diff(found[row][order]) <= 1e-5).all()
        n_candidates = min(k, int((~seen[row]).sum()))
        assert (found[row][order[:n_candidates]] >= 0).all()
        assert (found[row][order[n_candidates:]] <= -1).all()


def test_whoever_has_clicked_everything_gets_the_order_of_the_first_stage():
    train = random_training_set(3)
    kind = two_stage_type("item_knn+ease")
    model = kind(kind.config_type(k=4)).fit(train)
    everything = sp.csr_array(np.ones((1, model.n_items), np.float32))
    expected = model_type("item_knn")().fit(train).score(everything, all_items(model))
    np.testing.assert_allclose(model.score(everything, all_items(model)), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ease+content_knn+marec", "has two stages, such as two_tower\\+deepfm; .* has 3"),
        ("ease+content_nn", "Unknown model 'content_nn'.*'content_knn'"),
        ("mf+ease", "pipeline.retrieve: the model 'mf' predicts ratings"),
        ("ease+session_gru", "pipeline.rank: the model 'session_gru' reads more of clicks"),
    ],
)
def test_what_is_no_pipeline_is_refused(name, words):
    with pytest.raises(ConfigError, match=words):
        model_type(name)


def test_models_and_their_parameters_go_to_other_processes():
    train = random_training_set(5)
    kind = two_stage_type("ease+content_knn")
    model = kind(kind.config_type(k=5, rank__k=7)).fit(train)
    again, config = ray.cloudpickle.loads(ray.cloudpickle.dumps((model, model.config)))
    assert type(again) is kind
    assert config == again.config == model.config
    items = all_items(model)
    np.testing.assert_array_equal(again.score(train.interactions, items), model.score(train.interactions, items))


PIPELINE = {"retrieve": "ease", "k": 20, "rank": "content_knn"}


def study(**fields):
    return StudyConfig.model_validate(
        {"name": "two", "candidates": "all", "splits": {"protocol": "holdout", "n_splits": 1}, **fields}
    )


def test_a_pipeline_is_a_model_whose_stages_are_searched_together():
    space = {"weight": {"choice": [0, 1]}, "retrieve__regularization": {"log_uniform": [1.0, 100.0]}, "rank__k": 30}
    config = study(pipeline=PIPELINE, space=space)
    assert config.model == "ease+content_knn"
    assert config.space == {**space, "k": 20}
    assert config.searched == ("weight", "retrieve__regularization")
    assert study(**config.model_dump(exclude={"name", "candidates", "splits"})) == config
    assert config.configured({"k": 3, "rank__k": 30}).config.of("rank").k == 30


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"pipeline": {"retrieve": "ease", "k": 5}, "space": {}}, "pipeline names a model for each stage"),
        ({"pipeline": "ease", "space": {}}, "pipeline names a model for each stage"),
        ({"pipeline": PIPELINE | {"kk": 1}, "space": {}}, "pipeline.kk is no field of a pipeline. Did you mean 'k'"),
        ({"pipeline": PIPELINE, "model": "ease", "space": {}}, "'ease' stands beside the pipeline ease\\+content_knn"),
        ({"pipeline": PIPELINE, "space": {"k": 7}}, "pipeline.k is 20, and space.k 7. Give one"),
        ({"pipeline": PIPELINE, "space": {"rank__kk": 7}}, "space.rank__kk is no parameter .* 'rank__k'"),
        ({"pipeline": PIPELINE, "space": {"rank__k": 0}}, "space.rank__k: 0 is not valid"),
    ],
)
def test_what_a_pipeline_cannot_be_is_refused_by_its_field(fields, words):
    with pytest.raises(ConfigError, match=words):
        study(**fields)


def test_a_pipeline_is_tuned_bundled_and_stored_as_one(tmp_path, ray_cluster):
    films = sample_dataset(0, 60, 50)
    config = study(pipeline=PIPELINE, space={"weight": {"choice": [0, 1]}}, search={"trials": 2})
    result = coldray.tune(config, films, output=tmp_path)
    assert result.winner.model.name == "ease+content_knn"
    expected = coldray.fit("ease+content_knn", films, **result.config)
    assert result.winner.recommend(["user-0001"], k=30).equals(expected.recommend(["user-0001"], k=30))
