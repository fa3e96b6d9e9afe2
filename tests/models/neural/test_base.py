"""What all networks share, by a tiny one: what is held out, the refit, and the way to arrays and back."""

import math

import numpy as np
import pytest
import safetensors.numpy
import torch
from torch.nn import functional

from coldray.core.errors import DataError, DivergedError, EmptyDatasetError, NotFittedError
from coldray.features.feature_set import FeatureSet
from coldray.models.base import TrainingSet
from coldray.models.neural.base import Network, NeuralConfig, NeuralModel, NeuralTask
from coldray.models.neural.validation import hold_out_clicks, hold_out_items
from coldray.training.task import Loss
from contracts.problems import clicks_alone, random_features, random_training_set
from models.learned import one_thread  # noqa: F401

QUICK = {"batch_size": 8, "epochs": 8, "patience": None, "learning_rate": 0.1, "validation_share": 0.25}
N_USERS, N_ITEMS = 40, 38


class TinyConfig(NeuralConfig):
    pass


class TinyNetwork(Network):
    """Weights between items, times a factor an item that is no weight."""

    def __init__(self, scale):
        super().__init__()
        self.weights = torch.nn.Parameter(torch.randn(len(scale), len(scale)) * 0.1)
        self.scale = scale

    def forward(self, clicks):
        return clicks @ self.weights * self.scale

    def scorer(self, items):
        def scores(histories):
            assert not torch.is_grad_enabled()
            assert not self.training
            clicks = torch.from_numpy(histories.toarray())
            return self(clicks).numpy()[:, items]

        return scores


class TinyTask(NeuralTask):
    name = "Tiny"

    def __init__(self, clicks, scale, validation, told):
        super().__init__(validation)
        self.clicks, self.scale, self.told = torch.from_numpy(clicks), scale, told

    @property
    def n_examples(self):
        return len(self.clicks)

    def build(self):
        return TinyNetwork(self.scale)

    def batch(self, examples, generator):
        return {"clicks": self.clicks[examples]}

    def loss(self, module, batch, step):
        self.told.append((step.epoch, batch["clicks"]))
        error = functional.mse_loss(module(batch["clicks"]), batch["clicks"], reduction="none").mean(dim=1)
        return Loss(error, {"error": error.detach()})


class Tiny(NeuralModel[TinyConfig]):
    name = "tiny"
    config_type = TinyConfig

    def __init__(self, config=None):
        super().__init__(config)
        self.fits = []
        """Of each training: its validation, and what each step saw."""

    def inputs(self, train):
        return {"scale": np.ones(train.interactions.shape[1], np.float32), "seen": train.clicks}

    def network(self, inputs, n_items):
        return TinyNetwork(torch.from_numpy(np.array(inputs["scale"])))

    def task(self, train, inputs, validation):
        self.fits.append((validation, []))
        clicks = train.interactions.toarray()
        return TinyTask(clicks, torch.from_numpy(inputs["scale"]), validation, self.fits[-1][1])

    def memory_bytes(self, n_users, n_items):
        return n_items**2


class TinyOfColdItems(Tiny):
    scores_cold_items = True


def problem(seed=5):
    return random_training_set(seed, n_users=N_USERS, n_warm=32, n_cold=6)


def fit(train=None, model=Tiny, **changes):
    return model(TinyConfig(**{**QUICK, **changes})).fit(problem() if train is None else train)


def rows_seen(told):
    """Return the clicks of all examples, epoch by epoch, sorted."""
    epochs = [[] for _ in range(told[-1][0] + 1)]
    for epoch, clicks in told:
        epochs[epoch] += [tuple(row) for row in clicks.tolist()]
    return [sorted(rows) for rows in epochs]


def rows_of_users(validation):
    return validation.histories.toarray().tolist()


def rows_of(train):
    return sorted(tuple(row) for row in train.interactions.toarray().tolist())


def score(model, train=None):
    train = train or problem()
    return model.score(train.interactions, np.arange(model.n_items))


# ---- what is held out


@pytest.mark.parametrize("model", [Tiny, TinyOfColdItems])
def test_held_out_clicks_are_not_trained_on_and_then_all_are(model):
    train = problem()
    fitted = fit(train, model=model)
    hold_out = hold_out_items if model is TinyOfColdItems else hold_out_clicks
    rest, expected = hold_out(train, 0.25, 1000, np.random.default_rng(0))
    (validation, first), (none, again) = fitted.fits
    assert none is None
    for part in ("histories", "clicks"):
        np.testing.assert_array_equal(getattr(validation, part).toarray(), getattr(expected, part).toarray())
    np.testing.assert_array_equal(validation.candidates, expected.candidates)
    assert rows_of(rest) != rows_of(train)
    assert rows_seen(first) == [rows_of(rest)] * 8
    best = int(fitted.history["ndcg@10"].argmax())
    assert 0 < best < 7, "this problem is best in the middle"
    assert rows_seen(again) == [rows_of(train)] * (best + 1)


def test_the_share_and_the_users_are_those_of_the_configuration():
    (validation, _), _ = fit(validation_share=0.5, validation_users=7).fits
    assert len(validation) == 7
    _, expected = hold_out_clicks(problem(), 0.5, 7, np.random.default_rng(0))
    np.testing.assert_array_equal(validation.clicks.toarray(), expected.clicks.toarray())
    (other, _), _ = fit(validation_share=0.5, validation_users=7, seed=1).fits
    assert rows_of_users(other) != rows_of_users(validation)


@pytest.mark.parametrize("changes", [{"refit": False}, {"schedule": "plateau"}], ids=str)
def test_without_a_refit_the_best_weights_are_kept(changes):
    fitted = fit(**changes)
    ((validation, _),) = fitted.fits
    metric = fitted.history["ndcg@10"]
    assert metric.argmax() < 7
    found = np.mean(validation.ndcg(fitted.scorer(validation.candidates), slice(0, len(validation))))
    assert found == pytest.approx(metric.max(), abs=1e-6)
    assert found != pytest.approx(metric[-1], abs=1e-4)


@pytest.mark.parametrize("warmup", [1.0, 7.0])
def test_the_refit_begins_anew(warmup):
    """As if it had been the only training, of so many epochs, of which the warm-up takes half at most."""
    fitted = fit(schedule="cosine", warmup_epochs=warmup)
    epochs = int(fitted.history["ndcg@10"].argmax()) + 1
    assert epochs > 2, "a warm-up of 1 is short, and one of 7 is cut"
    rising = 1.0 if warmup == 1.0 else epochs / 2
    alone = fit(schedule="cosine", validation_share=0.0, epochs=epochs, warmup_epochs=rising)
    np.testing.assert_array_equal(score(fitted), score(alone))


def test_training_stops_by_the_patience():
    fitted = fit(epochs=60, patience=3)
    metric = fitted.history["ndcg@10"]
    assert len(metric) == metric.argmax() + 1 + 3 < 60
    assert fitted.fits[1][1][-1][0] == metric.argmax()


def test_without_a_share_everything_is_trained_on_for_all_epochs():
    fitted = fit(validation_share=0.0)
    ((validation, told),) = fitted.fits
    assert validation is None
    assert rows_seen(told) == [rows_of(problem())] * 8
    assert set(fitted.history) == {"loss", "error"}


def test_nobody_to_ask_is_trained_on_for_all_epochs():
    fitted = fit(clicks_alone(np.eye(6)))
    ((validation, told),) = fitted.fits
    assert validation is None
    assert len(rows_seen(told)) == 8
    assert set(fitted.history) == {"loss", "error"}


class Picky(Tiny):
    """Cannot learn from fewer than all the clicks."""

    def inputs(self, train):
        if "without" in train.key:
            raise DataError("What is left tells nothing.")
        return super().inputs(train)


def test_where_nothing_is_learnt_from_the_rest_everything_is_trained_on_for_all_epochs(caplog):
    ((validation, told),) = fit(model=Picky).fits
    assert "(What is left tells nothing.) It trains for all 8 epochs" in caplog.text
    assert validation is None
    assert rows_seen(told) == [rows_of(problem())] * 8
    train = problem()
    with pytest.raises(DataError, match="tells nothing"):
        fit(TrainingSet(train.interactions, train.features, "without more"), model=Picky, validation_share=0.0)


def test_a_batch_may_be_larger_than_the_data():
    fitted = fit(batch_size=1000)
    assert all(len(clicks) == N_USERS for _, clicks in fitted.fits[0][1])


# ---- bad input


def test_no_click_is_an_error_that_names_the_data():
    empty = TrainingSet(problem().interactions * 0, problem().features, "nothing")
    empty.interactions.eliminate_zeros()
    with pytest.raises(EmptyDatasetError, match="nothing: there is no click to train tiny on"):
        fit(empty)


def test_a_loss_without_bounds_is_an_error():
    with pytest.raises(DivergedError, match="Tiny diverged in epoch"):
        fit(learning_rate=1e38)


@pytest.mark.parametrize("ask", [lambda m: m.history, lambda m: m.fitted_network, lambda m: m.extended({}, 1)])
def test_before_the_fit(ask):
    with pytest.raises(NotFittedError, match="Tiny"):
        ask(Tiny(TinyConfig()))


# ---- what is kept


def test_the_history_has_one_value_an_epoch():
    history = fit(epochs=5, validate_every=2).history
    assert set(history) == {"loss", "error", "ndcg@10"}
    assert {values.shape for values in history.values()} == {(5,)}
    np.testing.assert_array_equal(np.isnan(history["ndcg@10"]), [True, False, True, False, False])
    np.testing.assert_allclose(history["loss"], history["error"])
    assert history["loss"][-1] < history["loss"][0]


def test_the_state_goes_through_a_file():
    fitted = fit()
    arrays = {name: np.ascontiguousarray(value) for name, value in fitted.state().items()}
    loaded = safetensors.numpy.load(safetensors.numpy.save(arrays))
    for values in loaded.values():
        values.flags.writeable = False  # as from Ray's object store
    again = Tiny.from_state(fitted.config, loaded, problem().features)
    assert again.n_items == N_ITEMS
    np.testing.assert_array_equal(score(again), score(fitted))
    assert set(again.history) == set(fitted.history)
    weights = again.fitted_network.weights
    weights.data += 1  # a copy: what was loaded is nobody's to change
    np.testing.assert_array_equal(loaded["weights.weights"], fitted.state()["weights.weights"])


def test_what_the_network_is_built_of_is_kept():
    fitted = fit()
    fitted._state["inputs.scale"] = np.full(N_ITEMS, 2, np.float32)
    again = Tiny.from_state(fitted.config, fitted.state(), FeatureSet({}, N_ITEMS))
    np.testing.assert_array_equal(score(again), 2 * score(fit()))


@pytest.mark.parametrize("refit", [True, False])
def test_the_inputs_kept_are_those_of_what_was_trained_on(refit):
    """A network that saw no click on the held-out items must not be told of any when it is built again."""
    train = problem()
    fitted = fit(train, model=TinyOfColdItems, refit=refit)
    rest, _ = hold_out_items(train, 0.25, 1000, np.random.default_rng(0))
    np.testing.assert_array_equal(fitted.state()["inputs.seen"], (train if refit else rest).clicks)


def test_more_items_are_a_network_of_other_inputs():
    fitted = fit()
    extended = fitted.extended({"scale": np.ones(N_ITEMS, np.float32) * 3}, 2)
    assert extended.n_items == N_ITEMS + 2
    assert fitted.n_items == N_ITEMS
    np.testing.assert_array_equal(extended.state()["clicks"], [*problem().clicks, 0, 0])
    np.testing.assert_array_equal(extended.state()["inputs.scale"], 3)
    np.testing.assert_array_equal(fitted.state()["inputs.scale"], 1)
    assert "inputs.scale" not in fitted.extended({}, 2).state()
    np.testing.assert_array_equal(extended.state()["weights.weights"], fitted.state()["weights.weights"])


def test_a_second_fit_forgets_the_first():
    model = fit()
    score(model)  # builds the network
    other = problem(6)
    model.fit(other)
    np.testing.assert_array_equal(score(model, other), score(fit(other), other))


def test_the_same_seed_gives_the_same_weights_and_the_caller_keeps_his_random_state():
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first = score(fit())
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(8)
    np.testing.assert_array_equal(score(fit()), first)
    assert not np.allclose(score(fit(seed=3)), first)


def test_features_say_nothing_to_a_network_that_does_not_read_them():
    train = problem()
    other = TrainingSet(train.interactions, random_features(np.random.default_rng(9), N_ITEMS), "others")
    np.testing.assert_array_equal(score(fit(other)), score(fit(train)))


def test_the_metric_is_the_ndcg_of_the_held_out_clicks_by_plain_loops():
    fitted = fit(refit=False)
    ((validation, _),) = fitted.fits
    scores = fitted.score(validation.histories, validation.candidates)
    values = []
    for row, known, wanted in zip(scores, validation.histories.toarray(), validation.clicks.toarray(), strict=True):
        competing = [place for place, item in enumerate(validation.candidates) if not known[item]]
        order = sorted(competing, key=lambda place, row=row: -row[place])[:10]
        gain = sum(1 / math.log2(n + 2) for n, place in enumerate(order) if wanted[validation.candidates[place]])
        values.append(gain / sum(1 / math.log2(n + 2) for n in range(min(10, int(wanted.sum())))))
    assert np.mean(values) == pytest.approx(fitted.history["ndcg@10"].max(), abs=1e-6)
