"""How far a training is, in words, and the time left."""

import pytest

from coldray.cli.progress import training as training_progress
from coldray.cli.progress.training import Pace, ShownTraining
from coldray.training.history import EpochRecord, TrainingResult
from coldray.training.progress import (
    StepProgress,
    TrainingPlace,
    TrainingPlan,
)

PLAN = TrainingPlan("two-tower", "ndcg@10", 20, 0, 1500, 1_500_000, 2, "cpu")
PLACE = TrainingPlace("test", fold="seed 42 / split 0")


def record(epoch, metric=None, loss=0.5):
    return EpochRecord(epoch, loss, {}, {} if metric is None else {"ndcg@10": metric}, 0.01, 12345.0, 120.0)


def result(reason="patience", metric=0.3):
    return TrainingResult({}, (record(0), record(1)), 1, metric, reason, 2, "cpu", None)


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves."""
    now = [100.0]
    monkeypatch.setattr(training_progress.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def said():
    return []


@pytest.fixture
def training(said, clock):
    """A training that has begun."""
    made = ShownTraining(PLACE, lambda training: None, said.append)
    made.training_started(PLAN)
    return made


def test_the_beginning_says_what_is_trained(training, said):
    assert said == [
        "test, seed 42 / split 0: training two-tower, 1,500,000 examples, up to 20 epochs of 1,500 steps, 2 workers "
        "on cpu"
    ]
    assert training.words == "begins"


def test_epoch_loss_metric_throughput_and_time_left_are_told(training, clock):
    clock[0] += 30
    training.step_done(StepProgress(0, 750, 1500, 0.625, 0.01, 54321.0))
    assert training.words == "epoch 1/20, step 750/1,500, loss 0.6250, 54,321 examples/s, 19 min 30 s left at most"
    clock[0] += 30
    training.epoch_done(record(0, 0.25))
    assert training.words == "epoch 1/20, loss 0.5000, ndcg@10 0.2500, 12,345 examples/s, 19 min 0 s left at most"
    assert training.share == 0.05


def test_the_best_epoch_stays_while_later_ones_are_worse(training):
    for epoch, metric in enumerate((0.25, 0.5, None, 0.125)):
        training.epoch_done(record(epoch, metric))
    assert "epoch 4/20, loss 0.5000, ndcg@10 0.1250, best 0.5000" in training.words


def test_a_training_that_goes_on_says_where_from_and_is_not_faster_for_it(training, said, clock):
    history = tuple(record(epoch, 0.5) for epoch in range(7))
    training.training_started(TrainingPlan("two-tower", "ndcg@10", 20, 7, 1500, 10, 1, "cuda", history))
    assert "workers were replaced: training goes on" in said[-1]
    assert "1 worker on cuda, from epoch 8" in said[-1]
    clock[0] += 10
    training.epoch_done(record(7))
    assert "epoch 8/20, loss 0.5000, best 0.5000, 12,345 examples/s, 2 min 0 s left" in training.words


@pytest.mark.parametrize(
    ("ended", "line"),
    [
        (result(), "training done, 2 epochs, no better for a while, ndcg@10 0.3000 in epoch 2"),
        (result("epochs"), "training done, 2 epochs, all epochs trained, ndcg@10 0.3000 in epoch 2"),
        (None, "training failed"),
    ],
)
def test_the_end_says_why(training, said, ended, line):
    training.epoch_done(record(0, 0.1))
    training.epoch_done(record(1, 0.3))
    training.training_ended(ended)
    assert said[-1] == f"test, seed 42 / split 0: {line}"
    assert (training.ended, training.share) == (True, 1.0)


def test_a_training_that_validates_nothing_tells_no_metric(said):
    made = ShownTraining(TrainingPlace("bundle", nth=1), lambda training: None, said.append)
    made.training_started(TrainingPlan("one", None, 3, 0, 2, 20, 1, "cpu"))
    made.epoch_done(record(0))
    made.training_ended(result("epochs", None))
    assert said[-1] == "bundle, refit: training done, 2 epochs, all epochs trained"


def test_time_left_is_known_once_something_is_done(clock):
    pace = Pace()
    assert pace.words(0.5, "{} left") == ""
    clock[0] += 10
    assert pace.left(0.5) is None
    assert pace.words(0.75, "{} left") == "10.0 s left"
    assert pace.left(1.0) == 0


def test_how_large_the_network_is_is_said(said):
    made = ShownTraining(TrainingPlace("bundle"), lambda training: None, said.append)
    made.training_started(TrainingPlan("vae", None, 3, 0, 2, 20, 1, "cpu", n_parameters=12_345))
    assert (
        said[-1] == "bundle: training vae of 12,345 parameters, 20 examples, up to 3 epochs of 2 steps, 1 worker on cpu"
    )


def test_what_follows_in_the_same_fit_is_a_refit(training, said):
    training.epoch_done(record(0, 0.25))
    training.training_ended(result())
    training.training_started(TrainingPlan("two-tower", None, 10, 0, 1500, 1_500_000, 1, "cpu"))
    assert said[-1].startswith("test, seed 42 / split 0, refit: training two-tower, 1,500,000 examples, up to")
    training.epoch_done(record(0))
    assert "best" not in training.words
