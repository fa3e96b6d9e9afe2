"""The fit of a bundle dies with its process: what was tested is kept, and --resume makes the bundle alone."""

import os
import re
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import ray
import yaml
from mlflow.tracking import MlflowClient

from coldray.bundle.fit import _CRASH, fit_on_worker
from coldray.bundle.io import load_bundle
from coldray.cli.jobs import compare, tune
from coldray.command.app import main
from coldray.core.errors import BundleFitError, ColdrayError, ConfigError, ModelError
from coldray.data.sources.sample import sample_dataset
from coldray.features.builder import FeatureConfig
from coldray.models.linalg import vector_index
from coldray.models.linear.ease import EASE
from coldray.models.neural.two_tower import TwoTower, TwoTowerConfig
from coldray.models.neural.vae import VAE, VAEConfig
from coldray.training.progress import TrainingListener

# Workers cannot import this module by its name, so what it defines travels by value.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
pytestmark = pytest.mark.usefixtures("ray_cluster")
STUDY = {
    "name": "dying",
    "model": "ease",
    "space": {"regularization": {"choice": [100.0]}},
    "search": {"algorithm": "grid"},
    "splits": {"protocol": "holdout", "n_splits": 1},
    "candidates": "all",
    "cutoffs": [10],
}


class Segmented(EASE):
    """Its fit ends the process by the signal that a native crash ends it by."""

    def fit(self, train, computations=None, options=None):
        os.kill(os.getpid(), signal.SIGSEGV)


class Killed(EASE):
    """Its fit ends the process as the kernel does where memory is short."""

    def fit(self, train, computations=None, options=None):
        os.kill(os.getpid(), signal.SIGKILL)


class Refused(EASE):
    def fit(self, train, computations=None, options=None):
        raise ConfigError("alpha: no.")


class Broken(EASE):
    def fit(self, train, computations=None, options=None):
        raise KeyError("what")


@pytest.fixture(scope="module")
def dataset():
    return sample_dataset(0, 60, 50)


ENDS = {
    Segmented: (
        BundleFitError,
        r"fitted ease for the bundle died of a signal \(Segmentation fault\) at File .* in fit",
    ),
    Killed: (
        BundleFitError,
        r"killed without a word, which most often is the kernel's doing, for want of memory",
    ),
    Refused: (ConfigError, r"^alpha: no\.$"),
    Broken: (ModelError, r"ease could not be fitted for the bundle: 'what'"),
}


def test_how_the_fit_ended_is_a_typed_error_and_this_process_lives(dataset, tmp_path):
    """All at once, as each has a process that begins with nothing loaded."""

    def ended(model):
        with pytest.raises(ColdrayError) as caught:
            fit_on_worker(model(), dataset, FeatureConfig(), {}, tmp_path / model.__name__ / "bundle")
        return caught.value

    with ThreadPoolExecutor(len(ENDS)) as pool:
        found = dict(zip(ENDS, pool.map(ended, ENDS), strict=True))
    for model, (error, told) in ENDS.items():
        assert type(found[model]) is error
        assert re.search(told, str(found[model]))
        assert error is ConfigError or "--resume goes on with the bundle alone" in str(found[model])
        assert list((tmp_path / model.__name__).iterdir()) == []


class Seen(TrainingListener):
    def __init__(self):
        self.events = []

    def training_started(self, plan):
        self.events.append(plan.epochs)

    def epoch_done(self, record):
        self.events.append(record.epoch)

    def training_ended(self, result):
        self.events.append(result.reason)


def test_the_training_of_a_bundle_is_told_from_its_beginning_to_its_end(dataset, tmp_path):
    seen = Seen()
    winner = VAE(VAEConfig(epochs=2, hidden_dim=8, latent_dim=4, validation_share=0.0))
    notes = fit_on_worker(winner, dataset, FeatureConfig(), {"x": 1}, tmp_path / "bundle", lambda place: seen)
    assert seen.events[:3] == [2, 0, 1]
    assert len(seen.events) == 4
    bundle = load_bundle(tmp_path / "bundle")
    assert (bundle.manifest["x"], bundle.model.n_items) == (1, 50)
    assert not (tmp_path / _CRASH).exists()
    assert all(isinstance(note, str) for note in notes)
    assert bundle.manifest["lists"] == vars(bundle.lists_form)
    assert (bundle.lists_form.value, bundle.index) == ("exact", None)


class Searched(TwoTower):
    """The process that fits it takes an index however few items there are."""

    def fit(self, train, computations=None, options=None):
        vector_index._INDEX_FROM = vector_index.HNSW_FROM = 1
        return super().fit(train, computations, options)


def test_the_form_of_lists_is_settled_with_the_bundle_told_and_kept(dataset, tmp_path):
    winner = Searched(TwoTowerConfig(epochs=1, hidden_dim=8, embedding_dim=8, validation_share=0.0))
    notes = fit_on_worker(winner, dataset, FeatureConfig(), {}, tmp_path / "bundle")
    bundle = load_bundle(tmp_path / "bundle")
    assert [note for note in notes if note.startswith("lists=hnsw (approximate): An index of the vectors of 50 items")]
    assert bundle.manifest["lists"]["value"] == bundle.lists_form.value == bundle.index.kind == "hnsw"
    assert bundle.lists_form.loss is not None


# ---- jobs


@pytest.fixture
def dying(monkeypatch):
    """Let the winner's fit die while the returned context lasts."""

    real = tune.fit_on_worker

    def fit(winner, *given, **named):
        return real(Segmented(winner.config) if winner.name == "ease" else winner, *given, **named)

    context = monkeypatch.context()
    patch = context.__enter__()
    patch.setattr(tune, "fit_on_worker", fit)
    yield patch
    context.__exit__(None, None, None)


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(STUDY), encoding="utf-8")
    return tmp_path


def one(paths):
    (found,) = paths
    return found


def test_a_study_whose_bundle_dies_is_reported_recorded_and_logged_and_goes_on_with_the_bundle_alone(
    place, dying, capsys, tracking_uri
):
    arguments = [
        "--tracking-uri",
        tracking_uri,
        "--experiment",
        "dying",
        "--output-dir",
        "runs",
        "--model-name",
        "dying",
    ]
    assert main(["tune", "study.yaml", *arguments]) == 1
    told = capsys.readouterr()
    assert "died of a signal (Segmentation fault)" in told.err
    assert "Traceback" not in told.out + told.err
    report = one(Path("runs").glob("dying-*/report.html"))
    client = MlflowClient(tracking_uri, tracking_uri)
    (run,) = client.search_runs([client.get_experiment_by_name("dying").experiment_id], "tags.`coldray.kind` = 'study'")
    assert run.data.metrics["test_ndcg_at_10"] > 0
    assert run.info.status == "FAILED"
    written = report.stat().st_mtime_ns
    dying.undo()
    assert main(["tune", "study.yaml", *arguments, "--resume"]) == 0
    printed = capsys.readouterr().out
    assert "has been tested before" in printed
    assert "the bundle alone is left to be made" in printed
    assert "testing the winner" not in printed
    assert report.stat().st_mtime_ns == written
    assert load_bundle(report.parent / "bundle").model.config.solver == "exact"
    (run,) = client.search_runs([run.info.experiment_id], "tags.`coldray.kind` = 'study'")
    assert run.info.status == "FINISHED"
    assert len(client.get_metric_history(run.info.run_id, "test_ndcg_at_10")) == 1
    assert client.get_model_version_by_alias("dying", "champion").run_id == run.info.run_id


def test_a_comparison_whose_bundle_dies_goes_on_with_the_bundle_alone(place, dying, capsys, monkeypatch):
    monkeypatch.setattr(compare, "read_data", lambda *_: (sample_dataset(0, 60, 50), None))
    compared = {
        "name": "compared",
        "baseline": "one",
        "entries": {"one": {"study": "study.yaml"}, "two": {"study": "study.yaml"}},
        **{name: STUDY[name] for name in ("splits", "candidates", "cutoffs")},
    }
    (place / "compared.yaml").write_text(yaml.safe_dump(compared), encoding="utf-8")
    arguments = ["compare", "compared.yaml", "--offline", "--output-dir", "runs"]
    assert main(arguments) == 1
    assert "died of a signal" in capsys.readouterr().err
    report = one(Path("runs").glob("compared-*/report.html"))
    written = report.stat().st_mtime_ns
    dying.undo()
    assert main([*arguments, "--resume", "--promote", "never"]) == 0
    printed = capsys.readouterr().out
    assert "the bundle of one alone is left to be made" in printed
    assert "was decided by --promote if-better: decided anew by --promote never" in printed
    assert "testing" not in printed
    assert report.stat().st_mtime_ns == written
    manifest = load_bundle(report.parent / "bundle").manifest
    assert manifest["comparison"]["champion"] == "one"
    assert manifest["metrics"]["ndcg@10"] > 0


def test_categories_whose_bundles_die_have_their_tables_and_go_on_with_the_bundles_alone(
    place, dying, capsys, monkeypatch
):
    """The second is studied though the bundle of the first has died."""
    generator = np.random.default_rng(0)
    for name in ("Office", "Toys"):
        rows = [(f"u{u}", f"i{i}", 5.0, u) for u in range(40) for i in generator.permutation(30)[:9]]
        table = pl.DataFrame(rows, schema=["user_id", "parent_asin", "rating", "timestamp"], orient="row")
        part = np.tile(np.repeat(["train", "valid", "test"], [7, 1, 1]), 40)
        for kind in ("train", "valid", "test"):
            table.filter(pl.Series(part == kind)).write_parquet(place / f"{name}.5core.{kind}.parquet")
    arguments = ["--dataset", "amazon", "--data-dir", str(place), "--offline", "--output-dir", "runs"]
    arguments += ["--category", "Office", "--category", "Toys"]

    def run(*more):
        return main(["tune", "study.yaml", "--phase", "all", *arguments, *more])

    assert run() == 1
    printed = capsys.readouterr().out
    assert printed.count("has no bundle: The process that fitted ease") == 2
    final = next(iter(Path("runs").glob("dying-*/final_test_results.csv")))
    assert pl.read_csv(final)["category"].unique().sort().to_list() == ["Office", "Toys"]
    dying.undo()
    assert run("--resume") == 0
    printed = capsys.readouterr().out
    assert printed.count("the bundle alone is left to be made") == 2
    assert len(list(Path("runs").glob("**/bundle/manifest.json"))) == 2
