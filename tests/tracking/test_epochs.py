"""The epochs of trainings on a real MLflow database: of a study on a real Ray, and call by call."""

from dataclasses import replace

import pytest
from mlflow.tracking import MlflowClient

from coldray.data.sources.sample import sample_dataset
from coldray.experiments.record.record import StudyRecord
from coldray.experiments.space import StudyConfig
from coldray.experiments.study import prepare_study, run_study
from coldray.tracking import epochs
from coldray.tracking.epochs import EpochTracker
from coldray.tracking.runs import StudyTracker
from coldray.tracking.server import MlflowServer
from coldray.tracking.spool import Spool
from coldray.training.config import TrainingConfig
from coldray.training.history import EpochRecord
from coldray.training.options import FitOptions
from coldray.training.progress import TrainingListener, TrainingPlace
from coldray.training.trainer import train
from contracts.service import free_port
from training.planted import Regression
from training.test_trainer import InterruptAt, Interrupted

CONFIG = TrainingConfig(batch_size=14, epochs=5, learning_rate=0.05, patience=None, validate_every=2)
PLACE = TrainingPlace("trial 3", 3, "seed 42 / split 0", "VAE")
FOLDS = ("VAE/seed_42_split_0", "VAE/seed_42_split_1")
STUDY = StudyConfig.model_validate(
    {
        "name": "networks",
        "model": "vae",
        "space": {
            "learning_rate": {"choice": [0.001, 0.01]},
            "latent_dim": 8,
            "n_layers": 0,
            "epochs": 4,
            "batch_size": 64,
            "patience": None,
        },
        "search": {"algorithm": "grid", "max_concurrent": 1},
        "splits": {"protocol": "holdout", "n_splits": 2},
        "candidates": "all",
        "cutoffs": [10],
    }
)


@pytest.fixture(scope="module")
def client(tracking_uri):
    return MlflowClient(tracking_uri, tracking_uri)


@pytest.fixture(scope="module")
def dataset():
    return sample_dataset(0, 120, 60)


def steps(client, run_id, name):
    """Return the steps of a metric in the order they were logged."""
    return [metric.step for metric in client.get_metric_history(run_id, name)]


def trial_runs(client, experiment):
    found = client.get_experiment_by_name(experiment)
    return client.search_runs([found.experiment_id], "tags.`coldray.kind` = 'trial'")


def check_epochs(client, experiment):
    """Every epoch of every training of every trial is there once."""
    runs = trial_runs(client, experiment)
    assert len(runs) == 2
    for run in runs:
        for fold in FOLDS:
            for value in ("loss", "loss_KL", "learning_rate", "examples_per_second", "val_ndcg_at_10"):
                assert steps(client, run.info.run_id, f"epoch_{value}/{fold}") == [0, 1, 2, 3], value
            best = int(run.data.metrics[f"epoch_best/{fold}"])
            assert steps(client, run.info.run_id, f"refit_epoch_loss/{fold}") == list(range(best + 1))
        assert run.info.status == "FINISHED"


def study(dataset, tracker, record):
    with tracker:
        return run_study(prepare_study(STUDY, dataset), study_id="s", record=record, listener=tracker)


@pytest.mark.usefixtures("ray_cluster")
def test_every_epoch_of_a_study_is_a_step_of_its_trial_and_of_the_test(tracking_uri, client, dataset, tmp_path):
    tracker = StudyTracker(tracking_uri, "epochs of a study", artifact_location=tmp_path)
    study(dataset, tracker, StudyRecord(tmp_path / "events.jsonl"))
    check_epochs(client, "epochs of a study")
    for fold in FOLDS:
        assert steps(client, tracker.run_id, f"test_epoch_loss/{fold}") == [0, 1, 2, 3]
        assert steps(client, tracker.run_id, f"test_refit_epoch_loss/{fold}")


@pytest.mark.usefixtures("ray_cluster")
def test_epochs_of_a_training_that_trials_share_are_in_the_run_of_the_first(tracking_uri, client, dataset, tmp_path):
    """They are told from another process, of a fit that is begun before any trial; networks are told apart."""
    config = StudyConfig.model_validate(
        {
            "name": "shared",
            "model": "marec_plus",
            "space": {
                "ca_weight": {"choice": [0.5, 1.0]},
                "ua_weight": 0.0,
                "hidden_dim": 16,
                "profile_dim": 8,
                "batch_size": 8,
                "epochs": 2,
            },
            "search": {"algorithm": "grid", "max_concurrent": 1},
            "splits": {"n_splits": 1},
            "cutoffs": [10],
        }
    )
    with StudyTracker(tracking_uri, "shared epochs", artifact_location=tmp_path) as tracker:
        run_study(prepare_study(config, dataset), study_id="shared", listener=tracker)
    first, second = sorted(trial_runs(client, "shared epochs"), key=lambda run: run.data.tags["coldray.trial"])
    for network in ("ContrastiveTowers", "ConditionalAutoencoder"):
        assert steps(client, first.info.run_id, f"epoch_loss/{network}/seed_42_split_0") == [0, 1]
        assert steps(client, first.info.run_id, f"refit_epoch_loss/{network}/seed_42_split_0")
    assert not [name for name in second.data.metrics if "epoch" in name]


class DriverDiedError(RuntimeError):
    """Stands for the death of the driver."""


class MortalRecord(StudyRecord):
    """Of a driver that dies as the second trial tells its third epoch on the second split, and hears nothing more."""

    dead = False

    def live(self):
        if self.dead:
            raise DriverDiedError

    def trial_reported(self, trial_id, folds):
        self.live()
        super().trial_reported(trial_id, folds)

    def trial_ended(self, trial):
        self.live()
        super().trial_ended(trial)

    def training_of(self, place):
        return MortalListener(self, place)


class MortalListener(TrainingListener):
    def __init__(self, record, place):
        self.record, self.last = record, place == TrainingPlace("trial 1", 1, "seed 42 / split 1", "VAE")

    def training_started(self, plan):
        self.record.live()

    def epoch_done(self, record):
        self.record.dead |= self.last and record.epoch == 2
        self.record.live()

    def training_ended(self, result):
        self.record.live()


@pytest.mark.usefixtures("ray_cluster")
def test_a_study_that_goes_on_logs_no_epoch_twice_and_leaves_none_out(
    tracking_uri, client, dataset, tmp_path, monkeypatch
):
    def tracker():
        return StudyTracker(tracking_uri, "epochs again", artifact_location=tmp_path, path=tmp_path / "calls.jsonl")

    with monkeypatch.context() as patch:
        patch.setattr(epochs, "_SEND_SECONDS", 0.0)
        patch.setattr(StudyTracker, "close", lambda tracker, **_: tracker.spool.close())
        with pytest.raises(DriverDiedError):
            study(dataset, tracker(), MortalRecord(tmp_path / "events.jsonl"))
    logged = [steps(client, run.info.run_id, f"epoch_loss/{FOLDS[1]}") for run in trial_runs(client, "epochs again")]
    assert [0, 1] in logged
    study(dataset, tracker(), StudyRecord(tmp_path / "events.jsonl"))
    check_epochs(client, "epochs again")


def test_epochs_wait_for_a_server_that_is_away(tracking_uri, client, dataset, tmp_path, monkeypatch):
    told = []
    away = f"http://127.0.0.1:{free_port()}"
    spool = Spool(tmp_path / "calls.jsonl", MlflowServer(away, "away"), say=told.append)
    tracker = StudyTracker(away, "away", spool=spool)
    tracker.study_started(STUDY, dataset, "s", {})
    tracker.trial_started("t", 3, {"learning_rate": 0.01})
    result = train(Regression(), CONFIG, FitOptions(listener=tracker.training_of(PLACE)))
    monkeypatch.setattr("coldray.tracking.spool._PATIENCE_SECONDS", 0.0)
    assert spool.close() > 0
    assert any("The study goes on" in line for line in told)
    assert Spool(tmp_path / "calls.jsonl", MlflowServer(tracking_uri, "epochs that waited")).close() == 0
    (run,) = trial_runs(client, "epochs that waited")
    history = client.get_metric_history(run.info.run_id, f"epoch_loss/{FOLDS[0]}")
    assert [(metric.step, metric.value) for metric in history] == [(r.epoch, r.loss) for r in result.history]


@pytest.fixture
def run_id(client, tracking_uri):
    found = client.get_experiment_by_name("epochs")
    experiment = found.experiment_id if found else client.create_experiment("epochs")
    return client.create_run(experiment).info.run_id


@pytest.fixture
def spool(tracking_uri, run_id):
    return Spool(None, MlflowServer(tracking_uri, ""), runs={"run": run_id})


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
    return {metric.step: metric.value for metric in client.get_metric_history(run_id, f"{name}/{FOLDS[0]}")}


def test_all_of_an_epoch_is_on_the_server_after_one_call(spool, client, run_id, calls):
    result = train(Regression(), CONFIG, FitOptions(listener=EpochTracker(spool, "run", PLACE)))
    spool.close()
    assert values(client, run_id, "epoch_loss") == pytest.approx({r.epoch: r.loss for r in result.history})
    assert values(client, run_id, "epoch_loss_half") == pytest.approx({r.epoch: r.loss / 2 for r in result.history})
    assert values(client, run_id, "epoch_val_fit") == pytest.approx(
        {e: result.history[e].metrics["fit"] for e in (1, 3, 4)}
    )
    assert values(client, run_id, "epoch_learning_rate") == dict.fromkeys(range(5), 0.05)
    assert values(client, run_id, "epoch_best") == {0: result.best_epoch}
    assert len(calls) == 1
    assert client.get_run(run_id).info.status == "RUNNING"


def test_time_sends_too(spool, calls, monkeypatch):
    monkeypatch.setattr(epochs, "_SEND_SECONDS", 0.0)
    train(Regression(), CONFIG, FitOptions(listener=EpochTracker(spool, "run", PLACE)))
    spool.close()
    assert len(calls) == 6


def test_a_call_holds_no_more_than_the_server_takes(spool, client, run_id, calls):
    tracker = EpochTracker(spool, "run", PLACE)
    for epoch in range(300):
        tracker.epoch_done(EpochRecord(epoch, float(epoch), {}, {"ndcg@10": 0.5}, 0.1, 1.0, 1.0))
    tracker.training_ended(None)
    spool.close()
    assert calls == [1000, 500]
    assert len(values(client, run_id, "epoch_val_ndcg_at_10")) == 300


def test_what_was_not_logged_before_a_training_was_lost_is_learnt_from_its_checkpoint(spool, client, run_id, tmp_path):
    """The first tracker is lost with what it had not sent."""
    with pytest.raises(Interrupted):
        train(Regression(), CONFIG, FitOptions(listener=InterruptAt(2), checkpoints=tmp_path))
    train(Regression(), CONFIG, FitOptions(listener=EpochTracker(spool, "run", PLACE), checkpoints=tmp_path))
    again = EpochTracker(spool, "run", PLACE)
    train(Regression(), CONFIG, FitOptions(listener=again, checkpoints=tmp_path))
    spool.close()
    assert steps(client, run_id, f"epoch_loss/{FOLDS[0]}") == [0, 1, 2, 3, 4]
    assert steps(client, run_id, f"epoch_best/{FOLDS[0]}") == [0]


def test_trainings_of_one_run_have_names_of_their_own(spool, client, run_id):
    record = EpochRecord(0, 0.5, {}, {}, 0.1, 1.0, 1.0)
    for place in (
        *(PLACE, replace(PLACE, nth=1), replace(PLACE, fold="", nth=2), replace(PLACE, task="Two towers")),
        *(TrainingPlace("test", fold="seed 42 / split 0"), TrainingPlace("bundle", task="VAE", nth=1)),
    ):
        tracker = EpochTracker(spool, "run", place)
        tracker.epoch_done(record)
        tracker.training_ended(None)
    spool.close()
    names = {name for name in client.get_run(run_id).data.metrics if "_loss" in name}
    assert names == {
        "epoch_loss/VAE/seed_42_split_0",
        "refit_epoch_loss/VAE/seed_42_split_0",
        "refit_2_epoch_loss/VAE",
        "epoch_loss/Two_towers/seed_42_split_0",
        "test_epoch_loss/seed_42_split_0",
        "bundle_refit_epoch_loss/VAE",
    }


def test_a_refusal_is_told_and_does_not_stop_the_training(tracking_uri):
    told = []
    spool = Spool(None, MlflowServer(tracking_uri, ""), runs={"run": "0" * 32}, say=told.append)
    result = train(Regression(), CONFIG, FitOptions(listener=EpochTracker(spool, "run", PLACE)))
    assert len(result.history) == CONFIG.epochs
    assert spool.close() == 1
    assert "is no more at sqlite:" in told[0]
