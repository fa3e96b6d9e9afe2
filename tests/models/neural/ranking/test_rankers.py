"""Context-aware rankers: the contracts, scores by loops over features, and a structure that only the moment tells."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from coldray.core.errors import DataError
from coldray.data.signals import numbered
from coldray.features.feature_set import FeatureSet
from coldray.features.graph.item_graph import GRAPH_WORDS
from coldray.features.moments import TIME, ClickMoments
from coldray.models.base import TrainingSet
from coldray.models.neural.item_attributes import ItemAttributes
from coldray.models.neural.ranking import crosses
from coldray.models.neural.ranking.config import DCNConfig, DeepFMConfig, FMConfig
from coldray.models.neural.ranking.model import DCN, FM, DeepFM, _encoder
from coldray.models.transfer.similarity import arrays_under
from contracts.problems import random_training_set, scalar_feature, vector_feature, with_moments, with_users
from contracts.recommender import ContextContract
from models.learned import one_thread  # noqa: F401

QUICK = {
    "embedding_dim": 8,
    "batch_size": 32,
    "epochs": 30,
    "learning_rate": 0.02,
    "id_dropout": 0.4,
    "validation_share": 0.0,
}
DEEP = {**QUICK, "hidden_dim": 16, "dropout": 0.0}
CONFIGS = [
    FMConfig(**QUICK),
    DeepFMConfig(**DEEP),
    DCNConfig(**DEEP),
    DCNConfig(**DEEP, cross_rank=3, cross_layers=3, n_layers=1),
]
KINDS = {FMConfig: FM, DeepFMConfig: DeepFM, DCNConfig: DCN}


class TestFM(ContextContract):
    model = FM
    config = CONFIGS[0]


class TestPairwiseFM(ContextContract):
    model = FM
    config = FMConfig(**QUICK, loss="pairwise")


class TestDeepFM(ContextContract):
    model = DeepFM
    config = CONFIGS[1]


class TestDCN(ContextContract):
    model = DCN
    config = CONFIGS[2]


class TestDCNOfLowRank(ContextContract):
    model = DCN
    config = CONFIGS[3]


class TestDeepFMOfItemsAtMoments(ContextContract):
    model = DeepFM
    config = CONFIGS[1]

    def problem(self, seed, **sizes):
        train = super().problem(seed, **sizes)
        of_items = "item_popularity", "item_rating_mean", "item_age", *GRAPH_WORDS
        return replace(train, moments=replace(train.moments, of_items=of_items))


@pytest.fixture(scope="module")
def train():
    return with_moments(with_users(random_training_set(4, n_users=20, n_warm=15, n_cold=4)))


# ---- scores, by loops


def features_of(model, history, user, moment, item):
    """Return the features of a pair by field, each a list of values, weights and vectors."""
    network = model.fitted_network
    tables = [table.weight.detach().double().numpy() for table in (network.clicked, network.users, network.moments)]
    own, told = (table.weight.detach().double().numpy() for table in (network.own, network.told))
    place, warm = network.places.numpy(), len(tables[0])
    known = [place[one] for one in history if place[one] < warm]
    worth = max(len(known), 1) ** -model.config.history_power
    rows = [[(one, worth) for one in known], *(list(zip(*row, strict=True)) for row in (user, moment))]
    fields = [[(x, *split(table[at])) for at, x in row] for table, row in zip(tables, rows, strict=True)]
    attributes = network.attributes.rows[[item]]
    fields.append([(1.0, *split(own[place[item]]))] if place[item] < warm else [])
    fields.append([(x, *split(told[at])) for at, x in zip(attributes.indices, attributes.data, strict=True)])
    return fields


def split(row):
    return row[0], row[1:]


def by_loops(model, fields, dim):
    """Return the score of a pair: the equations of the three papers, feature by feature."""
    names = {name: value.double().numpy() for name, value in model.fitted_network.state_dict().items()}
    every = [one for field in fields for one in field]
    score = 0.0
    if not isinstance(model, DCN):
        score += names["crosses.0.bias"][0] + sum(x * w for x, w, _ in every)
        for place, (x, _, v) in enumerate(every):
            for other, _, u in every[place + 1 :]:
                score += x * other * sum(v * u)
    flat = np.concatenate([sum((x * v for x, _, v in field), np.zeros(dim)) for field in fields])
    if isinstance(model, DCN):
        crossed = flat
        for layer in range(model.config.cross_layers):
            if model.config.cross_rank is None:
                matrix, bias = (names[f"crosses.0.layers.{layer}.{part}"] for part in ("weight", "bias"))
            else:
                matrix = names[f"crosses.0.layers.{layer}.1.weight"] @ names[f"crosses.0.layers.{layer}.0.weight"]
                bias = names[f"crosses.0.layers.{layer}.1.bias"]
            crossed = flat * (matrix @ crossed + bias) + crossed
        score += names["crosses.0.last.weight"][0] @ crossed + names["crosses.0.last.bias"][0]
    if not isinstance(model, FM):
        first = np.hstack([names["crosses.1.of_asker.weight"], names["crosses.1.of_item.weight"]])
        units = np.maximum(first @ flat + names["crosses.1.of_asker.bias"], 0)
        for layer in range(model.config.n_layers - 1):
            at = f"crosses.1.rest.{2 + 3 * layer}"
            units = np.maximum(names[f"{at}.weight"] @ units + names[f"{at}.bias"], 0)
        last = f"crosses.1.rest.{3 * model.config.n_layers - 1}"
        score += names[f"{last}.weight"][0] @ units + names[f"{last}.bias"][0]
    return score


@pytest.mark.parametrize("of_items", [(), ("item_popularity", "item_rating_mean")], ids=["plain", "items at moments"])
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: type(config).__name__)
def test_scores_by_loops_over_features(train, config, of_items):
    train = replace(train, moments=replace(train.moments, of_items=of_items))
    model = KINDS[type(config)](config.model_copy(update={"epochs": 2})).fit(train)
    encoder = _encoder(arrays_under("inputs.", model.state()))
    askers = train.users.beside(train.moments.features.take(np.arange(20)))
    found = model.profile_scorer(np.arange(19))(train.interactions, askers)
    users, moments, times, _ = encoder.encode(askers)
    earlier = sp.csr_array((1, 19))
    for asker in range(0, 20, 6):
        history = train.interactions[[asker]].indices
        user, moment = ((rows[[asker]].indices, rows[[asker]].data) for rows in (users, moments))
        for item in range(0, 19, 2):
            fields = features_of(model, history, user, moment, item)
            if encoder.of_items is not None:
                table = model.fitted_network.at.weight.detach().double().numpy()
                at = encoder.of_items.encode(np.array([item]), times[[asker]], earlier)[0, 0]
                fields.append([(x, *split(row)) for x, row in zip(at, table, strict=True)])
            expected = by_loops(model, fields, config.embedding_dim)
            assert found[asker, item] == pytest.approx(expected, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("floats", [1, 2000])
def test_blocks_of_askers_change_nothing(train, monkeypatch, floats):
    model = DCN(CONFIGS[2].model_copy(update={"epochs": 1})).fit(train)
    whole = model.score(train.interactions, np.arange(19))
    monkeypatch.setattr(crosses, "_BLOCK_FLOATS", floats)
    np.testing.assert_allclose(model.score(train.interactions, np.arange(19)), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: type(config).__name__)
def test_the_weights_take_what_is_reckoned(train, config):
    model = KINDS[type(config)](config)
    network = model.network(model.inputs(train), 19)
    layers = sum(each.numel() for each in network.crosses.parameters())
    assert layers <= model._layer_weights() < 1.3 * layers + 2


# ---- what only the moment tells


def hours_and_labels(*, context):
    """Return clicks of people without tastes: on the items of one label by day, on those of the other by night."""
    generator = np.random.default_rng(0)
    n_users, n_items = 60, 24
    labels = np.arange(n_items) % 2
    clicks = (generator.random((n_users, n_items)) < 0.4).astype(np.float32)
    clicks = sp.csr_array(clicks)
    times = generator.permutation(clicks.nnz) * 86_400.0 + generator.integers(0, 6, clicks.nnz) * 3600
    times += np.where(labels[clicks.indices] == 0, 9, 20) * 3600.0
    hours = 2 * np.pi * (times % 86_400) / 86_400
    features = {TIME: scalar_feature(times)}
    if context:
        features |= {"at:sin": scalar_feature(np.sin(hours)), "at:cos": scalar_feature(np.cos(hours))}
    moments = ClickMoments(FeatureSet(features, clicks.nnz), np.full(clicks.nnz, np.nan))
    items = FeatureSet({"label": vector_feature(np.eye(2)[labels])}, n_items)
    return TrainingSet(numbered(clicks), items, f"hours, context={context}", moments=moments), labels


def asked_at(hours):
    """Return the moments of people who ask at these hours of a day."""
    angles = 2 * np.pi * np.asarray(hours) / 24
    return FeatureSet({"at:cos": scalar_feature(np.cos(angles)), "at:sin": scalar_feature(np.sin(angles))}, len(hours))


@pytest.mark.parametrize("config", CONFIGS[:3], ids=lambda config: type(config).__name__)
def test_what_is_clicked_by_day_and_by_night_is_found_by_the_moment_alone(config):
    shares = {}
    for context in (True, False):
        train, labels = hours_and_labels(context=context)
        changes = {"epochs": 15, "context_dropout": 0.1, "validation_share": 0.1}
        model = KINDS[type(config)](config.model_copy(update=changes)).fit(train)
        asking = asked_at([10, 11, 12, 21, 22, 23])
        nothing = sp.csr_array((6, 24), dtype=np.float32)
        scores = model.profile_scorer(np.arange(24))(nothing, asking)
        best = np.argsort(-scores, axis=1)[:, :10]
        shares[context] = (labels[best] == np.array([0, 0, 0, 1, 1, 1])[:, None]).mean()
    assert shares[True] > 0.95
    assert shares[False] < 0.75


def test_what_is_clicked_much_of_late_is_found_by_what_items_have_at_a_moment():
    """In each of 12 spans of two months another third of the items is clicked; people ask at the end of each."""
    generator = np.random.default_rng(1)
    n_users, n_items, span = 150, 24, 60 * 86_400.0
    clicks = sp.csr_array((generator.random((n_users, n_items)) < 0.5).astype(np.float32))
    liked = np.arange(12) % 3
    of_thirds = [np.flatnonzero(liked == third) for third in range(3)]
    when = np.array([generator.choice(of_thirds[item % 3]) for item in clicks.indices])
    times = (when + generator.random(clicks.nnz)) * span
    shares = {}
    for of_items in ((), ("item_popularity",)):
        features = FeatureSet({TIME: scalar_feature(times, 1.0)}, clicks.nnz)
        moments = ClickMoments(features, np.full(clicks.nnz, np.nan), of_items)
        bare = FeatureSet({}, n_items)
        train = TrainingSet(numbered(clicks), bare, f"spans {of_items}", moments=moments)
        model = FM(CONFIGS[0].model_copy(update={"epochs": 40, "batch_size": 256})).fit(train)
        asking = FeatureSet({TIME: scalar_feature((np.arange(3, 12) + 0.9) * span, 1.0)}, 9)
        scores = model.profile_scorer(np.arange(n_items))(sp.csr_array((9, n_items), dtype=np.float32), asking)
        best = np.argsort(-scores, axis=1)[:, :8]
        shares[of_items] = (best % 3 == liked[3:, None]).mean()
    assert shares["item_popularity",] > 0.95
    assert shares[()] < 0.6


# ---- what is refused


def test_features_that_tell_no_moment_from_others_are_refused(train):
    alike = {
        TIME: train.moments.features.features[TIME],
        "at:device": vector_feature(np.ones((len(train.moments.ratings), 1))),
    }
    moments = ClickMoments(FeatureSet(alike, len(train.moments.ratings)), train.moments.ratings)
    with pytest.raises(DataError, match=r"at:device of \d+ clicks"):
        FM(CONFIGS[0]).fit(replace(train, moments=moments))


def test_items_without_attributes_have_a_feature_of_their_own_alone(train):
    bare = replace(train, features=FeatureSet({}, 19))
    model = FM(CONFIGS[0].model_copy(update={"epochs": 1})).fit(bare)
    assert ItemAttributes.from_arrays(arrays_under("inputs.", model.state())).n_inputs == 0
    scores = model.score(bare.interactions, np.arange(19))
    assert np.ptp(scores[:, bare.cold_items], axis=1).max() == 0
    assert np.ptp(scores[:, bare.warm_items], axis=1).min() > 0
    assert torch.isfinite(torch.from_numpy(scores)).all()
