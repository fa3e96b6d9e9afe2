"""Networks in a study: ASHA stops weak ones by their epochs, and a training that was lost goes on."""

import math
from pathlib import Path

import pytest
from ray.tune.schedulers import ASHAScheduler

from coldray.core.errors import ConfigError
from coldray.core.journal import Journal
from coldray.data.sources.sample import sample_dataset
from coldray.experiments.record.record import StudyRecord
from coldray.experiments.search.run import scheduler, search
from coldray.experiments.search.trial import _EpochReports, _kept_checkpoints
from coldray.experiments.selection import select
from coldray.experiments.space import StudyConfig, load_study
from coldray.experiments.study import draw_splits
from coldray.models.registry import MODELS, NETWORKS, model_type
from coldray.training.history import EpochRecord
from coldray.training.options import FitOptions
from coldray.training.trainer import train
from training.planted import Regression
from training.test_trainer import CONFIG, InterruptAt, Interrupted

SPACES = Path(__file__).parents[3] / "tune_spaces"


def study(**fields):
    base = {
        "name": "networks",
        "model": "vae",
        "space": {
            "learning_rate": {"choice": [1e-9, 0.01]},
            "latent_dim": 8,
            "n_layers": 0,
            "epochs": 6,
            "batch_size": 64,
            "refit": False,
        },
        "search": {"algorithm": "grid", "max_concurrent": 1},
        "scheduler": {"by": "epochs", "grace_epochs": 2, "reduction_factor": 2},
        "splits": {"protocol": "holdout", "n_splits": 2},
        "candidates": "all",
        "cutoffs": [10],
    }
    return StudyConfig.model_validate({**base, **fields})


def test_networks_are_told_as_such():
    assert set(NETWORKS) == {name for name in MODELS if model_type(name).trains_by_epochs}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_has_a_space(name):
    assert load_study(SPACES / f"{name}.yaml").model == name


def test_epochs_are_judged_of_networks_alone():
    asha = scheduler(study(), 1)
    assert isinstance(asha, ASHAScheduler)
    assert asha._time_attr == "epochs_done"
    assert min(rung for rung, _ in asha._brackets[0]._rungs) == 2
    with pytest.raises(ConfigError, match="'ease' trains no epochs"):
        study(model="ease", space={"regularization": 1.0})


@pytest.mark.usefixtures("ray_cluster")
def test_a_weak_network_is_stopped_by_its_epochs_and_costs_no_further_split(tmp_path):
    """What learns nothing comes last, so that ASHA knows the other."""
    config = study(space={**study().space, "learning_rate": {"choice": [0.01, 1e-9]}})
    splits = [split.for_tuning() for split in draw_splits(sample_dataset(0, 200, 80), config)]
    record = StudyRecord(tmp_path / "events.jsonl", "networks")
    outcome = search(config, splits, study_id="networks", record=record, listener=record)
    good, weak = outcome.trials
    assert (good.status, len(good.folds)) == ("finished", 2)
    assert (weak.status, len(weak.folds)) == ("pruned", 0)
    assert select(outcome.trials, config.selection).winner == good
    assert math.isfinite(good.mean("ndcg@10"))
    again = StudyRecord(tmp_path / "events.jsonl", "networks")
    assert {number: trial.status for number, trial in again.ended.items()} == {0: "finished", 1: "pruned"}
    assert [event["event"] for event in Journal(tmp_path / "events.jsonl").read()].count("split") == 2
    assert not list((tmp_path / "checkpoints").glob("trial-0-*"))
    again.finished()
    assert not (tmp_path / "checkpoints").exists()


def test_a_training_that_was_lost_goes_on_and_one_that_ended_leaves_nothing(tmp_path):
    folder = tmp_path / "trial-0"
    told = []

    def fit(listener):
        with _kept_checkpoints(folder) as kept:
            return train(Regression(), CONFIG, FitOptions(listener=listener, checkpoints=kept))

    with pytest.raises(Interrupted):
        fit(InterruptAt(2))
    assert folder.is_dir()
    result = fit(_EpochReports(lambda *values: told.append(values)))
    assert [epochs for epochs, _ in told] == [3, 4, 5, 6]
    assert told[-1][1] == result.history[-1].metrics[Regression.metric]
    assert not folder.exists()


def test_a_node_that_does_not_see_the_folder_keeps_nothing(tmp_path):
    with _kept_checkpoints(tmp_path / "elsewhere" / "trial-0") as kept:
        assert train(Regression(), CONFIG, FitOptions(checkpoints=kept)).checkpoint is None
    assert list(tmp_path.iterdir()) == []


def test_an_epoch_without_a_metric_is_not_judged():
    told = []
    reports = _EpochReports(lambda *values: told.append(values))
    train(Regression(), CONFIG, FitOptions(listener=reports))
    reports.epoch_done(EpochRecord(9, 1.0, {}, {}, 0.1, 1.0, 1.0))
    assert len(told) == CONFIG.epochs
