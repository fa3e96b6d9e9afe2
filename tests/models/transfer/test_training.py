"""What learned transfers are trained and validated on, and which weights come out."""

import math
from functools import partial

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from coldray.core.errors import ConfigError, DataError, DivergedError
from coldray.features.feature_set import FeatureSet
from coldray.models.base import TrainingSet
from coldray.models.neural.inputs import AttributeInputs, bag
from coldray.models.profiles import item_profiles
from coldray.models.transfer import training as transfer_training
from coldray.models.transfer.carec import CARecConfig, ContrastiveTowers
from coldray.models.transfer.gerec import ConditionalAutoencoder, GERecConfig
from coldray.models.transfer.similarity import LearnedSimilarity, arrays_under
from coldray.models.transfer.training import HeldOut, TransferTask
from coldray.models.transfer.training import learn_similarity as learn_as_asked
from coldray.models.transfer.uarec import GaussianHeads, UARecConfig
from coldray.training.options import FitOptions
from contracts.problems import random_training_set, vector_feature
from models.learned import QUICK, one_thread  # noqa: F401

NETWORKS = {ContrastiveTowers: CARecConfig, GaussianHeads: UARecConfig, ConditionalAutoencoder: GERecConfig}
each_network = pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.__name__)


learn_similarity = partial(learn_as_asked, options=FitOptions())


def quick(network=GaussianHeads, **changes):
    return NETWORKS[network](**{**QUICK, "epochs": 6, "validation_share": 0.25, "patience": None, **changes})


def problem(seed=70):
    return random_training_set(seed, n_users=40, n_warm=32, n_cold=6)


def held_out(train, config):
    return HeldOut.of(train, config.validation_share, np.random.default_rng(config.seed))


class Spy(GaussianHeads):
    """Tells the profiles it was trained on, one tensor a batch."""

    seen: list[torch.Tensor] = []  # noqa: RUF012  reset by the fixture

    def forward(self, batch):
        if self.training:
            self.seen.append(batch["profiles"].clone())
        return super().forward(batch)


@pytest.fixture
def seen():
    Spy.seen.clear()
    return Spy.seen


def rows_of(batches, train, config):
    """Return which warm items the batches are made of; no two have the same profile."""
    profiles = torch.from_numpy(item_profiles(train, dim=config.profile_dim))
    assert len(torch.unique(profiles, dim=0)) == len(profiles)
    rows = torch.cat(batches)
    return [int(row) for row in (rows[:, None] == profiles).all(dim=2).float().argmax(dim=1)]


# ---- what is held out


def test_held_out_items_are_never_trained_on(seen):
    train, config = problem(), quick(refit=False)
    held = held_out(train, config)
    assert len(held.rows) == 8
    learn_similarity(train, network=Spy, config=config)
    rows = rows_of(seen, train, config)
    assert set(rows) == set(range(32)) - set(held.rows.tolist())
    assert len(rows) == 6 * 24


def test_the_refit_trains_on_every_item_for_as_many_epochs_as_were_best(seen):
    train, config = problem(), quick(epochs=8, learning_rate=0.03, seed=1)
    learned = learn_similarity(train, network=Spy, config=config)
    metric = learned["history.ndcg@10"]
    best = int(metric.argmax())
    assert 0 < best < 7, "this problem is best in the middle"
    rows = rows_of(seen, train, config)
    first, again = rows[: 8 * 24], rows[8 * 24 :]
    assert len(again) == (best + 1) * 32
    held = set(held_out(train, config).rows.tolist())
    assert not held & set(first)
    for epoch in range(best + 1):
        assert sorted(again[epoch * 32 : (epoch + 1) * 32]) == list(range(32))


def test_without_a_share_everything_is_trained_on_for_all_epochs(seen):
    train, config = problem(), quick(validation_share=0.0)
    learned = learn_similarity(train, network=Spy, config=config)
    assert sorted(rows_of(seen, train, config)) == sorted(list(range(32)) * 6)
    assert set(arrays_under("history.", learned)) == {"loss", "Gaussian NLL"}


def test_held_out_items_and_users():
    train = problem()
    held = HeldOut.of(train, 0.25, np.random.default_rng(3))
    clicks = train.interactions.toarray()[:, train.warm_items]
    masked = clicks.copy()
    masked[:, held.rows] = 0
    asked = np.flatnonzero(masked.any(axis=1) & clicks[:, held.rows].any(axis=1))
    np.testing.assert_array_equal(held.histories.toarray(), masked[asked])
    np.testing.assert_array_equal(held.clicks.toarray(), clicks[asked][:, held.rows])
    assert (np.diff(held.rows) > 0).all()
    assert held.histories.nnz == (held.histories.toarray() > 0).sum()


def test_no_more_users_are_asked_than_are_needed(monkeypatch):
    train = problem()
    everybody = HeldOut.of(train, 0.25, np.random.default_rng(3))
    monkeypatch.setattr(transfer_training, "_VALIDATION_USERS", 5)
    few = HeldOut.of(train, 0.25, np.random.default_rng(3))
    assert few.histories.shape == (5, 32)
    rows = {tuple(row) for row in everybody.histories.toarray()}
    assert {tuple(row) for row in few.histories.toarray()} <= rows


def test_nobody_to_ask_leaves_nothing_held_out(seen):
    """Every user clicked a single item: without it, there is no history to ask with."""
    labels = vector_feature(np.eye(3)[np.arange(12) % 3])
    train = TrainingSet(sp.eye_array(12, dtype=np.float32, format="csr"), FeatureSet({"a": labels}, 12), "singles")
    assert HeldOut.of(train, 0.5, np.random.default_rng(0)) is None
    assert HeldOut.of(problem(), 0.01, np.random.default_rng(0)) is None, "no item"
    learned = learn_similarity(train, network=Spy, config=quick(validation_share=0.5))
    assert sum(map(len, seen)) == 6 * 12
    assert "history.ndcg@10" not in learned


# ---- validation


def test_the_validation_knows_no_click_on_a_held_out_item(monkeypatch):
    train, config = problem(), quick()
    held, asked = held_out(train, config), []
    real = transfer_training.rank

    def spy(scorer, histories, candidates, **options):
        asked.append(histories)
        np.testing.assert_array_equal(candidates, np.arange(8))
        return real(scorer, histories, candidates, **options)

    monkeypatch.setattr(transfer_training, "rank", spy)
    learn_similarity(train, network=GaussianHeads, config=config)
    assert len(asked) == 6
    for histories in asked:
        assert histories.shape[1] == 32
        assert histories.nnz > 0
        assert not histories.toarray()[:, held.rows].any()


def ndcg(similarity, held):
    """Return the mean ndcg@10 of the users by plain loops."""
    values = []
    for history, clicks in zip(held.histories.toarray(), held.clicks.toarray(), strict=True):
        order = np.argsort(-(history @ similarity), kind="stable")[:10]
        gain = sum(1 / math.log2(place + 2) for place, item in enumerate(order) if clicks[item])
        values.append(gain / sum(1 / math.log2(place + 2) for place in range(min(10, int(clicks.sum())))))
    return np.mean(values)


@each_network
def test_the_best_weights_are_kept_and_the_metric_is_theirs(network):
    train, config = problem(), quick(network, refit=False, learning_rate=0.03, epochs=8)
    arrays = learn_similarity(train, network=network, config=config)
    learned, held = LearnedSimilarity.from_arrays(network, config, arrays), held_out(train, config)
    features = train.features.take(train.warm_items[held.rows])
    with torch.no_grad():
        queries = learned.network.queries(bag(learned.encoder.encode(features)))[0].numpy()
    metric = arrays["history.ndcg@10"]
    assert ndcg(arrays["keys"] @ queries.T, held) == pytest.approx(metric.max(), abs=1e-6)
    assert metric.argmax() < 7 or metric[:7].max() < metric[7]
    assert np.ptp(metric) > 0.01


def test_the_training_stops_by_the_plateau():
    train = problem()
    config = quick(epochs=60, patience=3, learning_rate=0.03)
    metric = learn_similarity(train, network=GaussianHeads, config=config)["history.ndcg@10"]
    assert len(metric) == metric.argmax() + 1 + 3 < 60


# ---- the result


@each_network
def test_the_history_has_one_value_an_epoch(network):
    arrays = learn_similarity(problem(), network=network, config=quick(network, epochs=4, validate_every=2))
    history = arrays_under("history.", arrays)
    parts = {
        ContrastiveTowers: {"InfoNCE"},
        GaussianHeads: {"Gaussian NLL"},
        ConditionalAutoencoder: {"reconstruction", "KL"},
    }
    assert set(history) == {"loss", "ndcg@10"} | parts[network]
    assert {len(values) for values in history.values()} == {4}
    np.testing.assert_array_equal(np.isnan(history["ndcg@10"]), [True, False, True, False])
    assert np.isfinite(history["loss"]).all()


@each_network
def test_the_same_seed_gives_the_same_arrays_and_another_seed_others(network):
    train = problem()
    torch.manual_seed(1)
    first = learn_similarity(train, network=network, config=quick(network))
    torch.manual_seed(2)
    again = learn_similarity(train, network=network, config=quick(network))
    other = learn_similarity(train, network=network, config=quick(network, seed=5))
    assert first.keys() == again.keys()
    for name, values in first.items():
        np.testing.assert_array_equal(again[name], values)
    for name in ("history.loss", "mean_confidence" if network is GaussianHeads else "history.ndcg@10"):
        assert not np.array_equal(other[name], first[name])
    weights = [name for name in first if name.startswith("network.") and name.endswith("weight")]
    assert weights
    assert not any(np.array_equal(other[name], first[name]) for name in weights)


@each_network
def test_the_random_state_of_the_caller_is_left_alone(network):
    torch.manual_seed(7)
    before, before_numpy = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    config = quick(network, epochs=2)
    arrays = learn_similarity(problem(), network=network, config=config)
    assert torch.equal(torch.get_rng_state(), before)
    LearnedSimilarity.from_arrays(network, config, arrays)
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(np.random.get_state()[1], before_numpy)  # noqa: NPY002


@each_network
def test_arrays_rebuild_the_similarity(network):
    train, config = problem(), quick(network, epochs=2)
    arrays = learn_similarity(train, network=network, config=config)
    read_only = {name: np.array(values) for name, values in arrays.items()}
    for values in read_only.values():
        values.flags.writeable = False  # as from Ray's object store
    cold = train.features.take(train.cold_items)
    first, again = (LearnedSimilarity.from_arrays(network, config, source) for source in (arrays, read_only))
    np.testing.assert_array_equal(again.between(cold), first.between(cold))
    assert first.between(cold).dtype == np.float32
    assert set(again.arrays()) | {name for name in arrays if name.startswith("history.")} == set(arrays)


@each_network
def test_items_without_any_attribute_are_trained_on_and_asked_about(network):
    train = problem()
    hot = train.features.features["a"].matrix.toarray()
    hot[train.warm_items[:3]] = 0
    bare = TrainingSet(train.interactions, FeatureSet({"a": vector_feature(hot)}, len(hot)), "bare")
    config = quick(network, epochs=2)
    arrays = learn_similarity(bare, network=network, config=config)
    nothing = FeatureSet({"a": vector_feature(np.zeros((2, hot.shape[1])))}, 2)
    similarity = LearnedSimilarity.from_arrays(network, config, arrays).between(nothing)
    assert np.isfinite(similarity).all()
    np.testing.assert_allclose(similarity[:, 0], similarity[:, 1], atol=1e-6)


def test_a_worker_without_examples_gets_an_empty_batch():
    train, config = problem(), quick(ContrastiveTowers)
    inputs = AttributeInputs.of(train).encode(train.features.take(train.warm_items))
    task = TransferTask(ContrastiveTowers, config, inputs, item_profiles(train, dim=8), None)
    batch = task.batch(torch.zeros(0, dtype=torch.int64), torch.Generator())
    assert {len(batch[name]) for name in ("indices", "offsets", "weights", "profiles")} == {0}
    assert task.build()(batch)["attributes"].shape == (0, 64)


# ---- refusals


@each_network
def test_a_loss_that_is_not_finite_is_told(network):
    with pytest.raises(DivergedError, match=r"diverged in epoch 0.*learning_rate"):
        learn_similarity(problem(), network=network, config=quick(network, learning_rate=1e37, weight_decay=0.0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 25}, r"batch_size is 25, .* 24 training examples"),
        ({"schedule": "plateau", "validation_share": 0.0}, "plateau"),
        ({"warmup_epochs": 6.0}, "warmup_epochs"),
    ],
    ids=str,
)
def test_what_contradicts_the_data_is_refused_before_the_training(seen, changes, message):
    with pytest.raises(ConfigError, match=message):
        learn_similarity(problem(), network=Spy, config=quick(**changes))
    assert not seen


@pytest.mark.parametrize("schedule", ["constant", "cosine", "plateau"])
def test_every_schedule_and_a_warm_up_go_with_the_refit(schedule):
    config = quick(schedule=schedule, warmup_epochs=4.0, learning_rate=0.05)
    arrays = learn_similarity(problem(), network=GaussianHeads, config=config)
    assert len(arrays["history.loss"]) == 6


def test_no_click_and_no_usable_attribute_are_refused():
    train = problem()
    empty = TrainingSet(sp.csr_array(train.interactions.shape, dtype=np.float32), train.features, "empty")
    with pytest.raises(DataError, match="No item has a click"):
        learn_similarity(empty, network=GaussianHeads, config=quick())
    alike = FeatureSet({"a": vector_feature(np.ones((train.features.n_items, 2)))}, train.features.n_items)
    with pytest.raises(DataError, match="Nothing can be learnt from the attributes"):
        learn_similarity(TrainingSet(train.interactions, alike, "alike"), network=GaussianHeads, config=quick())
