"""MARec with learned refinements: what is added to its mixture, in which unit, and what is left alone."""

import numpy as np
import pytest
import scipy.sparse as sp
from pydantic import ValidationError

from coldray.features.feature_set import ScalarFeature
from coldray.models.base import TrainingSet
from coldray.models.marec import model as marec
from coldray.models.marec.config import MARecConfig
from coldray.models.marec.model import MARec
from coldray.models.marec.plus import REFINEMENTS, MARecPlus, MARecPlusConfig
from coldray.models.marec.weights import Refinement
from coldray.models.transfer.similarity import LearnedSimilarity, TransferConfig
from contracts.problems import random_features, random_training_set
from contracts.recommender import ColdItemContract, all_items
from models import marec_reference as reference
from models.learned import CountingComputations, one_thread  # noqa: F401

SMALL = {"hidden_dim": 16, "profile_dim": 8, "batch_size": 8, "epochs": 5, "validation_share": 0.0}
MAREC = {"delta": 1.0, "lambda_1": 3.0, "alpha": 2.0, "beta": 5.0}
PREFIXES = ["ca", "ua", "ge"]


def weights(**given):
    """Return the fusion weights, 0 where none is given."""
    return {f"{prefix}_weight": given.get(prefix, 0.0) for prefix in PREFIXES}


def columns(model, items):
    """Return the item weights of some items."""
    return model.score(sp.eye_array(model.n_items, dtype=np.float32, format="csr"), items)


def assert_agree(found, expected, tolerance=1e-4):
    scale = np.abs(expected).max()
    assert scale > 0
    np.testing.assert_allclose(found / scale, expected / scale, rtol=0, atol=tolerance)


class TestMARecPlus(ColdItemContract):
    model = MARecPlus
    # The labels of the planted problem are of equal size, for which δ must be small; of what is learnt, all is used.
    config = MARecPlusConfig(
        **{**SMALL, "epochs": 30, "hidden_dim": 32}, delta=1.0, ge_latent_dim=4, ca_temperature=1.0
    )


# ---- the sum


@pytest.mark.parametrize("order", [1, 2])
def test_without_weights_it_is_marec(order):
    train = random_training_set(80)
    plain = MARec(MARecConfig(**MAREC, order=order)).fit(train)
    plus = MARecPlus(MARecPlusConfig(**MAREC, order=order, **weights())).fit(train)
    np.testing.assert_array_equal(
        plus.score(train.interactions, all_items(plus)), plain.score(train.interactions, all_items(plain))
    )
    assert plus.mixture == plain.mixture
    assert plus.refinements == {}
    assert set(plus.state()) == set(plain.state())
    new = random_features(np.random.default_rng(0), 3)
    np.testing.assert_array_equal(
        columns(plus.add_items(new), np.arange(30, 33)), columns(plain.add_items(new), np.arange(30, 33))
    )


def reference_solution(train, config):
    attributes = {
        name: reference.Numbers(feature.values, feature.span)
        if isinstance(feature, ScalarFeature)
        else reference.Vectors(feature.matrix.toarray().astype(float))
        for name, feature in train.features.features.items()
    }
    parameters = {name: getattr(config, name) for name in reference.PARAMETERS}
    return reference.marec(train.interactions.toarray().astype(float), attributes, **parameters)


def alone(train, config, prefix):
    """Return the similarity of warm to cold items that a refinement's own model ranks by ``[W, C]``."""
    model = REFINEMENTS[prefix](config.refinement(prefix)).fit(train)
    return columns(model, train.cold_items)[train.warm_items].astype(float)


@pytest.mark.parametrize("given", [{"ca": 0.7}, {"ua": 2.0}, {"ge": 0.3}, {"ca": 0.5, "ua": 1.5, "ge": 4.0}], ids=str)
def test_the_similarities_are_summed_and_smoothed_by_the_closed_form(given):
    train = random_training_set(81, n_users=40)
    config = MARecPlusConfig(**MAREC, **SMALL, **weights(**given), ua_confidence_power=0.5)
    model = MARecPlus(config).fit(train)
    warm, cold = train.warm_items, train.cold_items
    solution = reference_solution(train, config)
    mixture = solution.mixture[np.ix_(warm, cold)]
    fused = mixture.copy()
    for prefix, weight in given.items():
        learned = alone(train, config, prefix)
        unit = np.abs(mixture).mean() / np.abs(learned).mean()
        assert model.refinements[prefix].unit == pytest.approx(unit, rel=1e-3)
        fused += weight * unit * learned
    clicks = train.interactions.toarray().astype(float)[:, warm]
    gram = clicks.T @ clicks
    expected = 2.0 * 5.0 * clicks @ np.linalg.solve(gram + 3.0 * np.eye(len(warm)), gram @ fused)
    found = model.score(train.interactions, cold)
    assert_agree(found, expected)
    plain = MARec(MARecConfig(**MAREC)).fit(train)
    scale = np.abs(expected).max()
    assert np.abs(found - plain.score(train.interactions, cold)).max() > 0.05 * scale
    np.testing.assert_array_equal(
        model.score(train.interactions, warm), plain.score(train.interactions, warm), "the warm side stays"
    )


def test_aligned_warm_items_are_refined_too():
    """With λ₀ > 0 no block of the closed form is zero."""
    train = random_training_set(82, n_users=50)
    config = MARecPlusConfig(**{**MAREC, "beta": 0.5}, **SMALL, **weights(ca=1.0), lambda_0=0.4)
    model = MARecPlus(config).fit(train)
    solution = reference_solution(train, config)
    warm, cold = train.warm_items, train.cold_items
    learned = alone(train, config, "ca")
    mixture = solution.mixture.copy()
    unit = np.abs(mixture[np.ix_(warm, cold)]).mean() / np.abs(learned).mean()
    mixture[np.ix_(warm, cold)] += unit * learned
    clicks = train.interactions.toarray().astype(float)
    encoded = {
        name: reference.Numbers(feature.values, feature.span)
        if isinstance(feature, ScalarFeature)
        else reference.Vectors(feature.matrix.toarray().astype(float))
        for name, feature in train.features.features.items()
    }
    theta = reference.closed_form(
        clicks,
        mixture,
        reference.gram_of_attributes(encoded),
        **{name: getattr(config, name) for name in ("alpha", "beta", "lambda_0", "lambda_1")},
    )
    assert_agree(columns(model, cold), theta[:, cold], 1e-3)


# ---- the unit


def test_the_scale_of_the_mixture_does_not_matter(monkeypatch):
    train = random_training_set(83)
    config = MARecPlusConfig(**MAREC, **SMALL, ge_latent_dim=4)
    once = MARecPlus(config).fit(train)
    real = marec.aligned_similarity

    def doubled(*args, **parameters):
        return 2 * real(*args, **parameters)

    monkeypatch.setattr(marec, "aligned_similarity", doubled)
    twice = MARecPlus(config).fit(train)
    assert_agree(
        twice.score(train.interactions, train.cold_items), 2 * once.score(train.interactions, train.cold_items)
    )


class Constant:
    """A learned similarity of a given size."""

    def __init__(self, size):
        self.size = size

    def between(self, features):
        return np.full((5, features.n_items), self.size, np.float32)


def test_a_weight_of_one_has_as_much_say_as_the_mixture():
    aligned = random_features(np.random.default_rng(1), 4)
    similarity = np.array([[1.0, -3.0, 2.0, 2.0]] * 5, np.float32)  # 2 on average, signs aside
    for size in (0.01, -8.0):
        refinement = Refinement.of("ca", Constant(size), 1.5, {}, similarity, aligned)
        np.testing.assert_allclose(np.abs(refinement.between(aligned)), 1.5 * 2.0, rtol=1e-6)
    assert Refinement.of("ca", Constant(0.0), 1.5, {}, similarity, aligned).unit == 1


def nothing_aligned():
    """Return a problem without cold items in which no item has fewer clicks than p, as every count is the same."""
    train = random_training_set(84, n_cold=0, n_users=33)
    generator = np.random.default_rng(0)
    clicks = np.array([generator.permutation(33) < 9 for _ in range(22)]).T.astype(np.float32)
    return TrainingSet(sp.csr_array(clicks), train.features, "nothing aligned")


def test_where_no_item_is_aligned_new_ones_are_refined_in_the_unit_of_the_mixture(monkeypatch):
    train = nothing_aligned()
    config = MARecPlusConfig(**MAREC, **SMALL, **weights(ca=1.0))
    model = MARecPlus(config).fit(train)
    mixture = reference_solution(train, config).mixture
    refinement = model.refinements["ca"]
    learned = refinement.learned.between(train.features)
    unit = np.abs(mixture).mean() / np.abs(learned).mean()
    assert refinement.unit == pytest.approx(unit, rel=1e-3)
    assert abs(unit - 1) > 0.1
    monkeypatch.setattr("coldray.models.marec.plus._UNIT_ITEMS", 7)  # every 4th of 22
    few = MARecPlus(config).fit(train).refinements["ca"]
    assert few.unit == pytest.approx(np.abs(mixture[:, ::4]).mean() / np.abs(learned[:, ::4]).mean(), rel=1e-3)


# ---- what is trained


def trained(shared):
    return [parameters["network"] for parameters in shared.computed.get("learn_similarity", [])]


@pytest.mark.parametrize("left_out", PREFIXES)
def test_a_refinement_without_weight_is_not_trained(left_out):
    train, shared = random_training_set(85), CountingComputations()
    given = {prefix: 1.0 for prefix in PREFIXES if prefix != left_out}
    model = MARecPlus(MARecPlusConfig(**MAREC, **SMALL, **weights(**given))).fit(train, shared)
    assert trained(shared) == [REFINEMENTS[prefix].network for prefix in given]
    assert list(model.refinements) == list(given)


def test_trials_that_differ_in_what_is_not_trained_share_the_trainings():
    train, shared = random_training_set(86), CountingComputations()
    base = {**MAREC, **SMALL, **weights(ca=1.0, ua=1.0, ge=1.0)}
    scores = []
    for change in (
        {},
        {"ca_weight": 0.5},
        {"ge_weight": 3.0},
        {"ua_confidence_power": 1.0},
        {"lambda_1": 100.0},
        {"w0": 0.9},
        {"order": 1},
    ):
        model = MARecPlus(MARecPlusConfig(**{**base, **change})).fit(train, shared)
        scores.append(model.score(train.interactions, train.cold_items))
    assert len(trained(shared)) == 3
    for number, found in enumerate(scores):
        assert not any(np.allclose(found, other, rtol=1e-3) for other in scores[:number])
    fresh = MARecPlus(MARecPlusConfig(**{**base, "order": 1})).fit(train)
    np.testing.assert_allclose(fresh.score(train.interactions, train.cold_items), scores[-1], rtol=1e-4, atol=1e-5)
    MARecPlus(MARecPlusConfig(**base, ge_kl_weight=0.2)).fit(train, shared)
    assert trained(shared)[3:] == [REFINEMENTS["ge"].network]
    MARecPlus(MARecPlusConfig(**base, seed=1)).fit(train, shared)
    assert len(trained(shared)) == 7


def test_the_shared_mixture_is_not_changed():
    train, shared = random_training_set(87), CountingComputations()
    plain = MARec(MARecConfig(**MAREC)).fit(train, shared)
    before = plain.score(train.interactions, train.cold_items)
    MARecPlus(MARecPlusConfig(**MAREC, **SMALL)).fit(train, shared)
    after = MARec(MARecConfig(**MAREC)).fit(train, shared)
    np.testing.assert_array_equal(after.score(train.interactions, train.cold_items), before)


# ---- storage and new items


def test_refinements_survive_storage_and_new_items():
    train = random_training_set(88)
    config = MARecPlusConfig(**MAREC, **SMALL, **weights(ca=0.4, ge=2.0))
    model = MARecPlus(config).fit(train)
    new = random_features(np.random.default_rng(5), 4)
    restored = MARecPlus.from_state(config, model.state(), train.features)
    extended = restored.add_items(new)
    again = MARecPlus.from_state(config, extended.state(), train.features.append(new))
    for other in (restored, extended, again):
        assert list(other.refinements) == ["ca", "ge"]
        for prefix, refinement in other.refinements.items():
            mine = model.refinements[prefix]
            assert (refinement.weight, refinement.unit) == (mine.weight, mine.unit)
            np.testing.assert_array_equal(refinement.between(new), mine.between(new))
            assert refinement.history.keys() == mine.history.keys()
            np.testing.assert_array_equal(refinement.history["loss"], mine.history["loss"])
            assert len(refinement.history["loss"]) == 5
    np.testing.assert_allclose(
        columns(again.add_items(new), np.arange(34, 38))[:34], columns(extended, np.arange(30, 34)), atol=1e-6
    )


def test_an_added_item_has_the_column_of_a_cold_item_with_its_attributes():
    train = random_training_set(89)
    model = MARecPlus(MARecPlusConfig(**MAREC, **SMALL, ge_latent_dim=4)).fit(train)
    extended = model.add_items(train.features.take(train.cold_items))
    added = np.arange(model.n_items, extended.n_items)
    assert_agree(columns(extended, added)[: model.n_items], columns(model, train.cold_items), 1e-5)


# ---- the configuration


@pytest.mark.parametrize("prefix", PREFIXES)
def test_every_parameter_reaches_the_refinement(prefix):
    own = {
        "ca": {"ca_temperature": 0.7, "ca_embedding_dim": 5},
        "ua": {"ua_confidence_power": 0.9},
        "ge": {"ge_latent_dim": 3, "ge_kl_weight": 0.25, "ge_kl_warmup": 2.5},
    }
    shared = {
        "hidden_dim": 7,
        "profile_dim": 9,
        "dropout": 0.45,
        "learning_rate": 0.017,
        "batch_size": 11,
        "epochs": 13,
        "validation_share": 0.35,
        "seed": 17,
    }
    everything = {name: value for values in own.values() for name, value in values.items()} | shared
    fusion = {f"{name}_weight" for name in PREFIXES}
    assert set(everything) | fusion == (set(MARecPlusConfig.model_fields) - set(MARecConfig.model_fields)) | {"seed"}
    config = MARecPlusConfig(**everything)
    refinement = config.refinement(prefix)
    assert type(refinement) is REFINEMENTS[prefix].config_type
    assert isinstance(refinement, TransferConfig)
    expected = {name.removeprefix(f"{prefix}_"): value for name, value in own[prefix].items()} | shared
    assert {name: getattr(refinement, name) for name in expected} == expected
    defaults = REFINEMENTS[prefix].config_type()
    rest = set(REFINEMENTS[prefix].config_type.model_fields) - set(expected)
    assert all(getattr(refinement, name) == getattr(defaults, name) for name in rest)
    assert {name: getattr(defaults, name) for name in expected}.items() & expected.items() == set()


@pytest.mark.parametrize(
    ("field", "value"),
    [("ca_weight", -0.1), ("ca_temperature", 0.0), ("ge_latent_dim", 0), ("hidden_dim", 0), ("dropout", 1.0)],
)
def test_a_value_out_of_range_is_refused_by_name(field, value):
    with pytest.raises(ValidationError, match=field):
        MARecPlusConfig(**{field: value})


def test_ranking_keys_tell_refinements_apart():
    train, shared = random_training_set(90), CountingComputations()
    base = MARecPlus(MARecPlusConfig(**MAREC, **SMALL, **weights(ca=1.0))).fit(train, shared)
    scaled = MARecPlus(MARecPlusConfig(**{**MAREC, "beta": 9.0}, **SMALL, **weights(ca=1.0))).fit(train, shared)
    other = MARecPlus(MARecPlusConfig(**MAREC, **SMALL, **weights(ca=2.0))).fit(train, shared)
    assert base.ranking_key() == scaled.ranking_key() != other.ranking_key()
    cold = train.cold_items
    assert_agree(scaled.score(train.interactions, cold), 9 / 5 * base.score(train.interactions, cold), 1e-5)


def test_a_refinement_is_the_learned_similarity_itself():
    train = random_training_set(91)
    model = MARecPlus(MARecPlusConfig(**MAREC, **SMALL, **weights(ua=2.0), ua_confidence_power=1.0)).fit(train)
    refinement = model.refinements["ua"]
    assert isinstance(refinement.learned, LearnedSimilarity)
    assert refinement.learned.exponent == 1
    cold = train.features.take(train.cold_items)
    np.testing.assert_allclose(
        refinement.between(cold), 2 * refinement.unit * refinement.learned.between(cold), rtol=1e-5
    )
