"""Training in the calling process: what is learnt, when it stops, how it resumes, and what it refuses."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from coldray.core.errors import (
    CatalogTooLargeError,
    CheckpointError,
    ClusterError,
    ConfigError,
    DataError,
    DivergedError,
    ModelError,
    NumericalError,
    OutputError,
)
from coldray.training import progress as progress_module
from coldray.training.checkpoint import latest_checkpoint, position_of, read_checkpoint
from coldray.training.cluster.workers import OneWorker
from coldray.training.config import TrainingConfig
from coldray.training.options import FitOptions
from coldray.training.progress import ParameterCount, TrainingListener, TrainingListeners
from coldray.training.task import Loss
from coldray.training.trainer import train
from coldray.training.validation import evaluate_module
from training.planted import Matching, Regression

CONFIG = TrainingConfig(batch_size=14, epochs=6, learning_rate=0.05, patience=None)


class Interrupted(Exception):  # noqa: N818
    """Stands for the loss of the process."""


class InterruptAt(TrainingListener):
    """Interrupts the training in the middle of an epoch or at its end."""

    def __init__(self, epoch, step=None):
        self.epoch, self.step = epoch, step

    def step_done(self, progress):
        if (progress.epoch, progress.step) == (self.epoch, self.step):
            raise Interrupted

    def epoch_done(self, record):
        if self.step is None and record.epoch == self.epoch:
            raise Interrupted


class Recorder(TrainingListener):
    def __init__(self):
        self.events = []

    def training_started(self, plan):
        self.events.append(("started", plan))

    def step_done(self, progress):
        self.events.append(("step", progress))

    def epoch_done(self, record):
        self.events.append(("epoch", record))

    def training_ended(self, result):
        self.events.append(("ended", result))


@pytest.fixture(autouse=True)
def every_step(monkeypatch):
    """Report every step, however fast they come."""
    monkeypatch.setattr(progress_module, "_STEP_SECONDS", 0.0)


def same_history(left, right, rel=1e-6):
    assert [record.epoch for record in left] == [record.epoch for record in right]
    for one, other in zip(left, right, strict=True):
        assert one.loss == pytest.approx(other.loss, rel=rel)
        assert dict(one.parts) == pytest.approx(dict(other.parts), rel=rel)
        assert dict(one.metrics) == pytest.approx(dict(other.metrics), rel=rel)
        assert one.learning_rate == pytest.approx(other.learning_rate, rel=rel)


def test_the_planted_weights_are_found():
    task = Regression()
    result = train(task, CONFIG.model_copy(update={"epochs": 60, "learning_rate": 0.1}))
    assert result.weights["1.weight"].numpy() == pytest.approx(task.planted[None], abs=1e-2)
    assert result.best_metric == pytest.approx(0.0, abs=1e-3)
    assert result.history[-1].loss < 1e-3 < result.history[0].loss
    assert (result.workers, result.device, result.reason, result.checkpoint) == (1, "cpu", "epochs", None)


def test_pairs_that_belong_together_are_matched():
    config = CONFIG.model_copy(update={"epochs": 80, "learning_rate": 0.03, "batch_size": 23})
    result = train(Matching(), config)
    assert result.history[0].metrics["hit"] < 0.5
    assert result.best_metric > 0.9


def test_the_gradient_is_that_of_the_mean_loss_of_the_batch():
    """One step with a whole epoch as its batch, beside Adam on the closed form of the mean squared error."""
    task = Regression()
    start = train(task, CONFIG.model_copy(update={"batch_size": 53, "epochs": 1, "learning_rate": 1e-12})).weights
    config = CONFIG.model_copy(update={"batch_size": 53, "epochs": 1, "optimizer": "adamw", "weight_decay": 0.1})
    found = train(task, config).weights
    weight, bias = start["1.weight"].numpy().astype(np.float64)[0], start["1.bias"].numpy().astype(np.float64)
    error = task.inputs @ weight + bias - task.targets
    gradient = np.concatenate([2 * task.inputs.T @ error, [2 * error.sum()]]) / 53
    expected = np.concatenate([weight, bias]) * (1 - 0.05 * 0.1) - 0.05 * gradient / (np.abs(gradient) + 1e-8)
    assert np.concatenate([found["1.weight"][0], found["1.bias"]]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("optimizer", "clip_norm"), [("adam", None), ("adamw", 0.1)])
def test_the_l1_penalty_is_the_soft_threshold_of_each_step(optimizer, clip_norm):
    task = Regression()
    plan = {"batch_size": 53, "epochs": 1, "optimizer": optimizer, "clip_norm": clip_norm}
    plain = train(task, CONFIG.model_copy(update=plan)).weights
    found = train(task, CONFIG.model_copy(update={**plan, "l1": 4.0})).weights
    for name, kept in plain.items():
        values = kept.numpy()
        expected = np.sign(values) * np.maximum(np.abs(values) - 0.05 * 4.0, 0)
        assert found[name].numpy() == pytest.approx(expected, abs=1e-6)
        assert ((found[name].numpy() == 0) == (np.abs(values) <= 0.2)).all()


def test_weights_that_tell_nothing_are_exactly_zero_by_l1():
    task = Regression()
    found = train(task, CONFIG.model_copy(update={"epochs": 40, "l1": 100.0})).weights
    assert all(not values.any() for values in found.values())


@pytest.mark.parametrize("interruption", [(2, None), (2, 2), (2, 3), (0, 2)], ids=str)
@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_a_resumed_training_equals_one_that_was_not_interrupted(tmp_path, interruption, optimizer):
    task = Regression(dropout=0.3, batch_noise=0.1)
    config = CONFIG.model_copy(
        update={
            "optimizer": optimizer,
            "schedule": "plateau",
            "plateau_patience": 1,
            "warmup_epochs": 1.5,
            "clip_norm": 1.0,
        }
    )
    whole, kept = train(task, config), FitOptions(checkpoints=tmp_path, checkpoint_every_steps=2)
    with pytest.raises(Interrupted):
        train(task, config, kept.model_copy(update={"listener": InterruptAt(*interruption)}))
    position = position_of(latest_checkpoint(tmp_path / "regression"))
    assert position == ((interruption[0], 2) if interruption != (2, 2) else (2, 0)) or interruption == (0, 2)
    resumed = train(task, config, kept)
    same_history(whole.history, resumed.history)
    assert (resumed.best_epoch, resumed.best_metric) == (whole.best_epoch, pytest.approx(whole.best_metric, rel=1e-6))
    for name, tensor in whole.weights.items():
        assert torch.allclose(tensor, resumed.weights[name], rtol=1e-6)


def test_dropout_and_batches_draw_anew_at_every_step_and_epoch():
    class Drawing(Regression):
        def __init__(self):
            super().__init__()
            self.seen = []

        def batch(self, examples, generator):
            self.seen.append(float(torch.rand(1, generator=generator)))
            return super().batch(examples, generator)

        def loss(self, module, batch, step):
            self.seen.append(float(torch.rand(1)))
            return super().loss(module, batch, step)

    task = Drawing()
    train(task, CONFIG.model_copy(update={"epochs": 3}))
    assert len(set(task.seen)) == len(task.seen) == 3 * 4 * 2
    again = Drawing()
    train(again, CONFIG.model_copy(update={"epochs": 3}))
    assert again.seen == task.seen
    other = Drawing()
    train(other, CONFIG.model_copy(update={"epochs": 3, "seed": 1}))
    assert not set(other.seen) & set(task.seen)


def test_the_callers_random_state_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(Regression(dropout=0.5), CONFIG)
    with pytest.raises(Interrupted):
        train(Regression(dropout=0.5), CONFIG, FitOptions(listener=InterruptAt(1)))
    assert torch.equal(torch.rand(3), expected)


class Rehearsed(Regression):
    """Validates as it was told beforehand, and marks the weights with the epoch."""

    def __init__(self, values, **options):
        super().__init__(**options)
        self.values, self.asked = values, 0

    def build(self):
        module = super().build()
        module.register_buffer("epoch", torch.zeros(()))
        return module

    def loss(self, module, batch, step):
        module.epoch.fill_(step.epoch)
        return super().loss(module, batch, step)

    def validate(self, module, users):
        assert not module.training
        assert not torch.is_grad_enabled()
        self.asked += 1
        value = self.values[int(module.epoch)]
        return {"fit": np.full(users.stop - users.start, value)}


def test_training_stops_when_patience_runs_out_and_gives_back_the_best():
    task = Rehearsed([0.1, 0.5, 0.4, 0.6, 0.2, 0.6, 0.5, 0.9])
    result = train(task, CONFIG.model_copy(update={"patience": 3, "epochs": 8}))
    assert result.reason == "patience"
    assert len(result.history) == 7
    assert (result.best_epoch, result.best_metric) == (3, pytest.approx(0.6))
    assert result.weights["epoch"] == 3.0


def test_the_best_weights_survive_a_resume(tmp_path):
    values, config = [0.1, 0.9, 0.2, 0.3], CONFIG.model_copy(update={"epochs": 4})
    with pytest.raises(Interrupted):
        train(Rehearsed(values), config, FitOptions(checkpoints=tmp_path, listener=InterruptAt(2)))
    result = train(Rehearsed(values), config, FitOptions(checkpoints=tmp_path))
    assert (result.best_epoch, result.best_metric, result.weights["epoch"]) == (1, pytest.approx(0.9), 1.0)


def test_validations_are_as_far_apart_as_asked_and_the_last_epoch_has_one():
    task = Rehearsed([0.9, 0.1, 0.9, 0.2, 0.3], n_validation_users=3)
    result = train(task, CONFIG.model_copy(update={"validate_every": 2, "epochs": 5}))
    assert [bool(record.metrics) for record in result.history] == [False, True, False, True, True]
    assert task.asked == 3
    assert result.best_epoch == 4


def test_without_validation_users_all_epochs_are_trained_and_the_last_weights_kept():
    config = CONFIG.model_copy(update={"patience": 1, "epochs": 4})
    result = train(Regression(n_validation_users=0), config)
    assert (result.reason, result.best_metric, result.best_epoch, len(result.history)) == ("epochs", None, 3, 4)
    longer = train(Regression(n_validation_users=0), config.model_copy(update={"epochs": 5}))
    assert not torch.equal(longer.weights["1.weight"], result.weights["1.weight"])


def test_a_finished_training_is_not_repeated_but_can_go_on(tmp_path):
    first = train(Regression(), CONFIG, FitOptions(checkpoints=tmp_path))
    recorder = Recorder()
    again = train(Regression(), CONFIG, FitOptions(checkpoints=tmp_path, listener=recorder))
    assert again.history == first.history
    assert [kind for kind, _ in recorder.events] == ["started", "ended"]
    more = train(Regression(), CONFIG.model_copy(update={"epochs": 8}), FitOptions(checkpoints=tmp_path))
    same_history(more.history, train(Regression(), CONFIG.model_copy(update={"epochs": 8})).history)


def test_trainings_that_are_kept_go_on_each_by_itself(tmp_path):
    """As those of a fit: the refit is interrupted, the first training is not done again."""
    whole = train(Regression(), CONFIG)

    def fit(listener):
        first = train(Regression(), CONFIG, FitOptions(checkpoints=tmp_path / "fit", listener=recorder))
        second = FitOptions(checkpoints=tmp_path / "fit", listener=listener)
        return first, train(Regression(), CONFIG, second, refit=True)

    recorder = Recorder()
    with pytest.raises(Interrupted):
        fit(InterruptAt(3))
    recorder = Recorder()
    again = fit(recorder)
    epochs = [event.epoch for kind, event in recorder.events if kind == "epoch"]
    assert epochs == [3, 4, 5]  # nothing of the first
    for result in again:
        same_history(result.history, whole.history)
    assert train(Regression(), CONFIG).checkpoint is None  # no longer kept


def test_a_resume_with_nothing_to_resume_begins(tmp_path):
    begun = train(Regression(), CONFIG, FitOptions(checkpoints=tmp_path))
    assert begun.history[0].epoch == 0
    same_history(begun.history, train(Regression(), CONFIG).history)


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    train(Regression(), CONFIG, FitOptions(checkpoints=tmp_path))
    with pytest.raises(CheckpointError, match=r"trained on 53 examples; there are 60"):
        train(Regression(60), CONFIG, FitOptions(checkpoints=tmp_path))
    with pytest.raises(CheckpointError, match=r"clip_norm was None and is 2\.0"):
        train(Regression(), CONFIG.model_copy(update={"clip_norm": 2.0}), FitOptions(checkpoints=tmp_path))


class Diverging(Regression):
    """Has a loss, a gradient or a weight that is not finite from a certain step on."""

    def __init__(self, what):
        super().__init__()
        self.what = what

    def loss(self, module, batch, step):
        loss = super().loss(module, batch, step)
        if step.progress < 2.4:
            return loss
        if self.what == "loss":
            return Loss(loss.per_example * float("nan"))
        if self.what == "weight" and step.progress >= 2.7:  # the last step of the epoch
            with torch.no_grad():
                module[1].bias.fill_(float("inf"))
            return Loss((loss.per_example * 0).detach() + module[1].weight.sum())
        if self.what == "gradient":
            return Loss(loss.per_example + torch.sqrt(module[1].weight[0, 0] * 0))
        return loss


@pytest.mark.parametrize(
    ("what", "step", "message"),
    [
        ("loss", 2, "the loss is nan"),
        ("gradient", 2, "the norm of the gradient is nan"),
        ("weight", 4, r"weight '1\.bias' is not finite"),
    ],
)
def test_divergence_names_the_place_and_keeps_the_last_good_checkpoint(tmp_path, what, step, message):
    with pytest.raises(DivergedError, match=message) as caught:
        train(Diverging(what), CONFIG, FitOptions(checkpoints=tmp_path))
    latest = latest_checkpoint(tmp_path / "regression")
    assert position_of(latest) == (2, 0)
    for part in (f"epoch 2, step {step} of 4", "learning rate 0.05", str(latest), "Use a lower learning_rate"):
        assert part in str(caught.value)
    assert all(torch.isfinite(tensor).all() for tensor in read_checkpoint(latest).model.values())


def test_divergence_without_a_checkpoint_says_so():
    with pytest.raises(DivergedError, match="No checkpoint was kept"):
        train(Diverging("loss"), CONFIG)


def test_a_metric_that_is_not_defined_for_a_user_is_no_mean():
    class Undefined(Regression):
        def validate(self, module, users):
            return {"fit": np.where(np.arange(users.start, users.stop) == 4, np.nan, 1.0)}

    with pytest.raises(NumericalError, match=r"'fit' is nan for 1 of 7 validation users, user 4 first"):
        train(Undefined(), CONFIG)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ({"other": np.zeros(7)}, "stops by 'fit', but validates only other"),
        ({"fit": np.zeros(6)}, r"metric 'fit' of 7 users has shape \[6\]; it must be \[7\]"),
    ],
)
def test_a_validation_that_breaks_the_contract_says_how(returned, message):
    class Broken(Regression):
        def validate(self, module, users):
            return returned

    with pytest.raises(ModelError, match=message):
        train(Broken(), CONFIG)


def test_a_loss_that_is_no_number_an_example_is_refused():
    class Broken(Regression):
        def loss(self, module, batch, step):
            return Loss(super().loss(module, batch, step).per_example.mean())

    with pytest.raises(ModelError, match=r"loss of 14 examples has shape \[\]"):
        train(Broken(), CONFIG)


def test_a_module_no_checkpoint_can_hold_is_refused():
    class Sparse(Regression):
        def build(self):
            module = super().build()
            module.register_buffer("graph", torch.eye(2).to_sparse())
            return module

    with pytest.raises(ModelError, match=r"'graph' of the module is no dense tensor.*persistent=False"):
        train(Sparse(), CONFIG)


@pytest.mark.parametrize(
    ("task", "changes", "error", "message"),
    [
        (Regression(), {"batch_size": 54}, ConfigError, r"batch_size is 54, but regression has 53 .* Use 53 or less"),
        (Regression(0), {}, DataError, "no training example"),
        (Regression(2), {"workers": 3, "batch_size": 2}, DataError, "has 2 examples for 3 workers"),
        (Regression(), {"workers": 15}, ConfigError, "batch_size is 14 for 15 workers"),
        (Regression(), {"warmup_epochs": 6}, ConfigError, "warmup_epochs is 6, but training has only 6 epochs"),
        (Regression(n_validation_users=0), {"schedule": "plateau"}, ConfigError, "no validation users"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_built(monkeypatch, task, changes, error, message):
    monkeypatch.setattr(task, "build", lambda: pytest.fail("built"))
    options = FitOptions(workers=changes.get("workers", 1))
    with pytest.raises(error, match=message):
        train(task, CONFIG.model_copy(update=changes), options)


def test_a_storage_that_cannot_be_written_is_refused_first(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="Cannot write"):
        train(Regression(), CONFIG, FitOptions(checkpoints=tmp_path / "file"))


def test_several_workers_without_a_cluster_are_refused_at_once(monkeypatch):
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with pytest.raises(ClusterError, match="Training with 2 workers needs a Ray cluster"):
        train(Regression(), CONFIG, FitOptions(workers=2))


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_learns_and_resumes_with_float32_weights(tmp_path, precision):
    config, options = CONFIG.model_copy(update={"epochs": 30}), FitOptions(precision=precision)
    result = train(Regression(), config, options)
    assert result.weights["1.weight"].dtype == torch.float32
    assert result.best_metric > -0.05
    kept = options.model_copy(update={"checkpoints": tmp_path, "checkpoint_every_steps": 1})
    with pytest.raises(Interrupted):
        train(Regression(), config, kept.model_copy(update={"listener": InterruptAt(1, 3)}))
    if precision == "float16":
        assert read_checkpoint(latest_checkpoint(tmp_path / "regression")).scaler["scale"] > 1
    same_history(train(Regression(), config, kept).history, result.history)


def test_float16_gradients_that_overflow_are_left_out_of_the_training():
    class Overflowing(Regression):
        def loss(self, module, batch, step):
            return Loss(super().loss(module, batch, step).per_example * 1e35)

    result = train(Overflowing(), CONFIG.model_copy(update={"epochs": 2}), FitOptions(precision="float16"))
    start = train(Regression(), CONFIG.model_copy(update={"learning_rate": 1e-12, "epochs": 1}))
    assert torch.allclose(result.weights["1.weight"], start.weights["1.weight"])


def test_listeners_hear_every_event_in_order():
    recorder, other = Recorder(), Recorder()
    both = TrainingListeners(recorder, other)
    result = train(Regression(), CONFIG.model_copy(update={"epochs": 2}), FitOptions(listener=both))
    assert [kind for kind, _ in recorder.events] == ["started", *["step"] * 4, "epoch", *["step"] * 4, "epoch", "ended"]
    assert other.events == recorder.events
    plan = recorder.events[0][1]
    assert (plan.name, plan.metric, plan.epochs, plan.steps_per_epoch, plan.n_examples) == (
        "regression",
        "fit",
        2,
        4,
        53,
    )
    assert [event.step for kind, event in recorder.events if kind == "step"] == [1, 2, 3, 4] * 2
    assert [event for kind, event in recorder.events if kind == "epoch"] == list(result.history)
    assert recorder.events[-1][1] is result


def test_steps_in_quick_succession_are_left_out(monkeypatch):
    monkeypatch.setattr(progress_module, "_STEP_SECONDS", 1e9)
    recorder = Recorder()
    train(Regression(), CONFIG, FitOptions(listener=recorder))
    assert [kind for kind, _ in recorder.events].count("step") == 1


def test_a_failed_training_ends_for_its_listeners_too():
    recorder = Recorder()
    with pytest.raises(DivergedError):
        train(Diverging("loss"), CONFIG, FitOptions(listener=recorder))
    assert recorder.events[-1] == ("ended", None)


def test_parts_of_the_loss_are_means_over_the_examples():
    result = train(Regression(), CONFIG)
    for record in result.history:
        assert record.parts["half"] == pytest.approx(record.loss / 2)
        assert record.parts["epoch"] == record.epoch


def test_evaluation_gives_each_user_and_the_mean_over_all():
    task = Regression()
    result = train(task, CONFIG)
    module = task.build()
    module.load_state_dict(dict(result.weights))
    found = evaluate_module(task, module, OneWorker(), torch.device("cpu"))
    weight = result.weights["1.weight"].numpy()[0]
    expected = -((task.test_inputs @ (weight - task.planted) + result.weights["1.bias"].numpy()) ** 2)
    assert found.per_user["fit"] == pytest.approx(expected, rel=1e-5)
    assert found.metrics["fit"] == pytest.approx(expected.mean(), rel=1e-5)
    assert found.metrics["fit"] == pytest.approx(result.best_metric, rel=1e-6)
    assert set(found.per_user["close"]) <= {0.0, 1.0}


def test_a_config_survives_json_and_names_its_mistakes():
    config = TrainingConfig(schedule="cosine", clip_norm=1.5, patience=None, warmup_epochs=0.5)
    assert TrainingConfig.model_validate_json(config.model_dump_json()) == config
    for wrong in ({"lerning_rate": 1}, {"batch_size": 0}, {"plateau_factor": 1.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            TrainingConfig.model_validate(wrong)


def test_a_model_configuration_inherits_the_parameters(tmp_path):
    class TowersConfig(TrainingConfig):
        embedding_dim: int = 8

    train(Regression(), TowersConfig(**CONFIG.model_dump()), FitOptions(checkpoints=tmp_path))
    with pytest.raises(CheckpointError, match="embedding_dim was 8 and is 16"):
        train(Regression(), TowersConfig(**CONFIG.model_dump(), embedding_dim=16), FitOptions(checkpoints=tmp_path))


def test_records_do_not_change(tmp_path: Path):
    record = train(Regression(), CONFIG.model_copy(update={"epochs": 1})).history[0]
    assert replace(record, epoch=3).epoch == 3
    with pytest.raises(AttributeError):
        record.epoch = 3


class Hungry(Regression):
    """Asks for more memory than there can be, at the second step."""

    def loss(self, module, batch, step):
        if step.progress > 0:
            torch.empty(10**15)
        return super().loss(module, batch, step)


def test_running_out_of_memory_is_told_as_such():
    told = r"a step with batch_size 14 over 1 worker .*allocate.*smaller batch_size"
    with pytest.raises(CatalogTooLargeError, match=told):
        train(Hungry(), CONFIG)


def test_another_error_of_torch_is_not_taken_for_one_of_memory():
    class Broken(Regression):
        def loss(self, module, batch, step):
            return torch.ones(2, 3) @ torch.ones(2, 3)

    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        train(Broken(), CONFIG)


def test_what_is_trained_is_counted():
    task, count, recorder = Regression(), ParameterCount(), Recorder()
    options = FitOptions(listener=TrainingListeners(count, recorder))
    for refit in (False, True):
        result = train(task, CONFIG.model_copy(update={"epochs": 1}), options, refit=refit)
    assert count.total == sum(values.numel() for values in result.weights.values()) > 0
    assert recorder.events[0][1].n_parameters == count.total
