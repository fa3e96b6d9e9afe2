"""The epochs of a training on a real MLflow database."""

import pytest
from mlflow.tracking import MlflowClient

from coldray.tracking.training_runs import TrainingTracker
from coldray.training.config import TrainingConfig
from coldray.training.history import EpochRecord
from coldray.training.trainer import train
from training.planted import Regression

CONFIG = TrainingConfig(batch_size=14, epochs=5, learning_rate=0.05, patience=None, validate_every=2)


@pytest.fixture(scope="module")
def client(tracking_uri):
    return MlflowClient(tracking_uri, tracking_uri)


@pytest.fixture(scope="module")
def experiment_id(client):
    return client.create_experiment("epochs of a training")


@pytest.fixture
def run_id(client, experiment_id):
    return client.create_run(experiment_id).info.run_id


@pytest.fixture
def calls(monkeypatch):
    """Count the calls to the server."""
    made = []
    log_batch = MlflowClient.log_batch

    def counted(self, run_id, metrics=(), **kwargs):
        made.append(len(metrics))
        log_batch(self, run_id, metrics=metrics, **kwargs)

    monkeypatch.setattr(MlflowClient, "log_batch", counted)
    return made


def values(client, run_id, name):
    return {metric.step: metric.value for metric in client.get_metric_history(run_id, name)}


def test_every_epoch_is_on_the_server_after_few_calls(tracking_uri, client, run_id, calls):
    result = train(Regression(), CONFIG, listener=TrainingTracker(tracking_uri, run_id, every_epochs=3))
    assert values(client, run_id, "epoch_loss") == pytest.approx({r.epoch: r.loss for r in result.history})
    assert values(client, run_id, "epoch_loss_half") == pytest.approx({r.epoch: r.loss / 2 for r in result.history})
    assert values(client, run_id, "epoch_val_fit") == pytest.approx(
        {e: result.history[e].metrics["fit"] for e in (1, 3, 4)}
    )
    assert values(client, run_id, "epoch_learning_rate") == dict.fromkeys(range(5), 0.05)
    assert values(client, run_id, "epoch_best") == {0: result.best_epoch}
    assert len(calls) == 2
    assert client.get_run(run_id).info.status == "RUNNING"


def test_time_sends_too(tracking_uri, run_id, calls):
    train(Regression(), CONFIG, listener=TrainingTracker(tracking_uri, run_id, every_seconds=0.0))
    assert len(calls) == 6


def test_a_call_holds_no_more_than_the_server_takes(tracking_uri, client, run_id, calls):
    tracker = TrainingTracker(tracking_uri, run_id, every_epochs=10**6, every_seconds=1e9)
    for epoch in range(300):
        tracker.epoch_done(EpochRecord(epoch, float(epoch), {}, {"ndcg@10": 0.5}, 0.1, 1.0, 1.0))
    tracker.training_ended(None)
    assert calls == [1000, 500]
    assert len(values(client, run_id, "epoch_val_ndcg_at_10")) == 300


def test_a_refusal_is_told_and_does_not_stop_the_training(tracking_uri, caplog):
    tracker = TrainingTracker(tracking_uri, "0" * 32, every_epochs=1)
    result = train(Regression(), CONFIG, listener=tracker)
    assert len(result.history) == CONFIG.epochs
    assert "is no more at sqlite:" in caplog.text
    assert "missing on the tracking server" in caplog.text
    assert "is lost: give a path to keep it" in caplog.text
