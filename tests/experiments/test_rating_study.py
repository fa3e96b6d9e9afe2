"""A whole study of a model that reads ratings: searched, chosen and tested by its errors, and shown."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from coldray.core.errors import ConfigError, MissingFieldError
from coldray.data.signals import Reads
from coldray.evaluation.metrics import metric_names
from coldray.experiments.evaluation import evaluate
from coldray.experiments.folds import prepare_task
from coldray.experiments.space import StudyConfig, load_study
from coldray.experiments.study import draw_splits, prepare_study, run_study
from coldray.models.ratings.mf import MF, MFConfig
from coldray.reports.console import terminal
from coldray.reports.export import page
from coldray.reports.study.report import study_report
from contracts.ratings import rated_by_tastes

STUDIES = Path(__file__).parents[2] / "tune_spaces"
CONFIG = StudyConfig.model_validate(
    {
        "name": "rated",
        "model": "mf",
        "space": {
            "weight_decay": {"choice": [50.0, 0.05, 5.0]},
            "n_factors": 2,
            "batch_size": 128,
            "learning_rate": 0.05,
            "epochs": 6,
        },
        "search": {"algorithm": "grid", "max_concurrent": 1},
        "splits": {"protocol": "holdout", "n_splits": 2},
        "candidates": "all",
        "cutoffs": [5],
        "selection": {"metric": "rmse", "tolerance": 0.0},
    }
)


@pytest.fixture(scope="module")
def dataset():
    return rated_by_tastes(80, 60)


@pytest.fixture(scope="module")
def result(ray_cluster, dataset, tmp_path_factory):
    return run_study(prepare_study(CONFIG, dataset), study_id="rated")


def test_the_least_error_is_chosen_and_tested(result, dataset):
    assert [trial.status for trial in result.trials] == ["finished"] * 3
    means = [trial.mean("rmse") for trial in result.trials]
    assert result.selection.winner.mean("rmse") == min(means) < 0.97 * max(means)
    assert result.selection.winner.config["weight_decay"] == 0.05
    assert result.ranked_trials()[0].number == result.selection.best.number == result.selection.winner.number
    config = MFConfig.model_validate(result.selection.winner.config)
    for fold, split in zip(result.test, draw_splits(dataset, CONFIG), strict=True):
        task = prepare_task(split.test_fold, None, reads=Reads(ratings=True), predicts=True)
        expected = evaluate(MF(config).fit(task.train), task, candidates="all", cutoffs=(5,)).means()
        assert dict(fold.metrics) == pytest.approx(expected, rel=1e-3)
        assert set(fold.metrics) == set(metric_names((5,), ratings=True))
    low, high = result.test_intervals["rmse"]
    assert low < np.mean([fold.metrics["rmse"] for fold in result.test]) < high


def test_reports_show_the_errors(result):
    html = page(study_report(result))
    assert "RMSE" in html
    assert "accuracy" in html
    console = Console(record=True, width=200)
    console.print(terminal(study_report(result)))
    assert "RMSE" in console.export_text()


def test_ratings_are_asked_for_before_anything_starts(dataset):
    with pytest.raises(MissingFieldError, match="'sample' has no ratings"):
        prepare_study(CONFIG, replace(dataset, ratings=None))


def test_errors_are_metrics_of_models_that_read_ratings_alone():
    fields = CONFIG.model_dump(exclude={"space", "model", "search"})
    with pytest.raises(ConfigError, match=r"selection\.metric 'rmse' is not computed"):
        StudyConfig.model_validate({**fields, "model": "ease", "space": {"regularization": 1.0}})
    for name in ("mf", "rating_knn", "rating_svd"):
        assert load_study(STUDIES / f"{name}.yaml").selection.metric == "rmse"
