"""What was deleted on the tracking server is refused at the start, or kept until it can be sent: never lost."""

import argparse

import mlflow
import pytest
from click.testing import CliRunner
from mlflow.cli import gc
from mlflow.entities import Metric
from mlflow.tracking import MlflowClient
from mlflow.types import DataType
from rich.console import Console

from coldray.bundle.fitting import fit_bundle
from coldray.bundle.io import save_bundle
from coldray.cli.jobs.sync_runs import sync_runs
from coldray.cli.options.tracking import SyncOptions
from coldray.core.errors import TrackingError, UnsentError
from coldray.data.sources.sample import sample_dataset
from coldray.experiments.promotion.outcome import Promotion
from coldray.experiments.record.folder import StudyFolder
from coldray.features.builder import FeatureConfig, FeatureEncoder
from coldray.models.linear.ease import EASE, EASEConfig
from coldray.tracking import placement
from coldray.tracking.placement import champion_key, present_version
from coldray.tracking.runs import StudyTracker
from coldray.tracking.spool import Spool

STUDY = "study"


@pytest.fixture(scope="module")
def client(tracking_uri):
    return MlflowClient(tracking_uri, tracking_uri)


class Study:
    """A study of two trials, whose parts are logged when a test says so."""

    def __init__(self, tracking_uri, folder, experiment):
        self.uri, self.experiment, self.said = tracking_uri, experiment, []
        self.output = folder / "runs"
        self.folder = StudyFolder(self.output / "records" / STUDY)
        self.folder.path.mkdir(parents=True)
        self.folder.write({"kind": "study", "dataset": "sample", "started": 0.0})
        self.report = folder / "report.html"
        self.report.write_text("<p>report</p>")
        self.tracker = StudyTracker(
            tracking_uri,
            experiment,
            artifact_location=folder / "mlartifacts",
            path=self.folder.tracking,
            say=self.said.append,
        )
        self.spool = self.tracker.spool

    @property
    def id(self):
        return self.tracker.experiment_id

    def begin(self):
        self.tracker._study_id = STUDY
        self.tracker._open("small", sample_dataset(0, 30, 30), {}, {"trials": 2}, {})
        self.spool.flush()

    def trial(self, number):
        key = f"{STUDY}/{number}"
        self.spool.add("run", key, name=f"trial {number:03d}", tags={}, parent=STUDY)
        self.spool.log(key, [Metric("loss", 0.5 + number, 1000, 0)], {"x": str(number)})
        self.spool.end(key, "FINISHED")
        self.spool.flush()

    def finish(self):
        self.spool.log(STUDY, [Metric("best", 0.25, 1000, 0)], tags={"winner": {"run": f"{STUDY}/1"}})
        self.tracker._log_files([self.report], "report")
        self.tracker.close(failed=False)
        return self.spool.missing()

    def sync(self, *, again=False):
        options = SyncOptions(
            output_dir=self.output, studies=[STUDY], tracking_uri=self.uri, experiment=self.experiment, again=again
        )
        return sync_runs(options, Console(quiet=True))

    def run_id(self, key):
        return self.spool._runs[key]

    def check(self, client):
        """All is on the server: once, whole and ended."""
        experiment = client.get_experiment_by_name(self.experiment)
        runs = {run.data.tags["coldray.key"]: run for run in client.search_runs([experiment.experiment_id])}
        assert sorted(runs) == [STUDY, f"{STUDY}/0", f"{STUDY}/1"]
        parent = runs.pop(STUDY)
        assert {run.info.status for run in (parent, *runs.values())} == {"FINISHED"}
        assert parent.data.metrics == {"best": 0.25}
        assert parent.data.tags["winner"] == runs[f"{STUDY}/1"].info.run_id
        assert parent.inputs.dataset_inputs
        assert [file.path for file in client.list_artifacts(parent.info.run_id, "report")] == ["report/report.html"]
        for number, run in enumerate(runs[key] for key in sorted(runs)):
            assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
            assert (run.data.params, run.data.metrics) == ({"x": str(number)}, {"loss": 0.5 + number})
        assert len(runs) == 2
        assert Spool(self.folder.tracking, None).waiting == 0


@pytest.fixture
def study(tracking_uri, tmp_path, request):
    return Study(tracking_uri, tmp_path, request.node.name)


def gone(uri, *arguments):
    before = mlflow.get_tracking_uri()
    done = CliRunner().invoke(gc, ["--backend-store-uri", uri, "--tracking-uri", uri, *arguments])
    mlflow.set_tracking_uri(before)  # the command sets it for this process
    assert done.exit_code == 0, done.output


def test_a_deleted_experiment_is_refused_at_the_start_with_the_way_out(client, study, tracking_uri, tmp_path):
    client.delete_experiment(study.id)
    with pytest.raises(TrackingError, match=r"is deleted\. Bring it back by .*, or give another --experiment") as told:
        StudyTracker(tracking_uri, study.experiment)
    command = f"MLFLOW_TRACKING_URI={tracking_uri} mlflow experiments restore --experiment-id {study.id}"
    assert f"`{command}`" in str(told.value)
    client.restore_experiment(study.id)
    assert StudyTracker(tracking_uri, study.experiment).experiment_id == study.id


def test_an_experiment_deleted_in_mid_study_is_told_and_all_is_sent_after_a_restore(client, study):
    study.begin()
    study.trial(0)
    client.delete_experiment(study.id)
    study.trial(1)
    told = study.finish()
    assert "missing on the tracking server: 1 run (trial 001)" in told
    assert "1 file (report.html)" in told
    assert "mlflow experiments restore" in told
    assert sum("mlflow experiments restore" in line for line in study.said) == 1
    with pytest.raises(UnsentError, match=r"^0 calls sent\. study: missing on the tracking server: 1 run"):
        study.sync()
    client.restore_experiment(study.id)
    assert study.sync() > 0
    study.check(client)
    assert study.sync() == 0


def test_an_experiment_restored_before_the_end_gets_everything(client, study):
    study.begin()
    client.delete_experiment(study.id)
    study.trial(0)
    study.trial(1)
    assert study.spool.refused == 6
    client.restore_experiment(study.id)
    assert study.finish() == ""
    study.check(client)


@pytest.mark.parametrize("key", [STUDY, f"{STUDY}/1"])
def test_a_run_deleted_in_mid_study_is_kept_until_it_is_restored(client, study, key):
    """Its files too, which the store of artifacts would take; other runs go on."""
    study.begin()
    study.trial(0)
    study.spool.add("run", f"{STUDY}/1", name="trial 001", tags={}, parent=STUDY)
    study.spool.flush()
    client.delete_run(study.run_id(key))
    study.spool.log(f"{STUDY}/1", [Metric("loss", 1.5, 1000, 0)], {"x": "1"})
    study.spool.end(f"{STUDY}/1", "FINISHED")
    told = study.finish()
    assert f"mlflow runs restore --run-id {study.run_id(key)}" in told
    assert not client.list_artifacts(study.run_id(STUDY)) or key != STUDY
    with pytest.raises(UnsentError, match="runs restore"):
        study.sync()
    client.restore_run(study.run_id(key))
    assert study.sync() > 0
    study.check(client)


@pytest.mark.parametrize("what", ["run", "experiment"])
def test_what_was_deleted_for_good_is_made_anew_when_all_is_sent_again(client, study, tracking_uri, what):
    study.begin()
    study.trial(0)
    if what == "run":
        client.delete_run(study.run_id(STUDY))
        gone(tracking_uri, "--run-ids", study.run_id(STUDY))
    else:
        client.delete_experiment(study.id)
        gone(tracking_uri, "--experiment-ids", study.id)
    study.trial(1)
    told = study.finish()
    assert "deleted for good" in told
    assert "coldray sync STUDY --again" in told
    with pytest.raises(UnsentError, match="deleted for good"):
        study.sync()
    assert study.sync(again=True) > 0
    study.check(client)
    study.sync(again=True)  # changes nothing
    study.check(client)


def test_a_run_that_is_deleted_is_not_made_a_second_time(client, study):
    """Its receipt was lost, and it is found among what is deleted."""
    study.begin()
    client.delete_run(study.run_id(STUDY))
    study.tracker.close(failed=False)
    with pytest.raises(UnsentError, match="runs restore"):
        study.sync(again=True)
    client.restore_run(study.run_id(STUDY))
    assert study.sync() > 0
    assert len(client.search_runs([study.id])) == 1


def test_a_renamed_experiment_goes_on_in_its_place(client, study):
    study.begin()
    study.trial(0)
    client.rename_experiment(study.id, f"{study.experiment} renamed")
    study.trial(1)
    assert study.finish() == ""
    study.experiment += " renamed"
    study.check(client)


# ---- registered models


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    made = fit_bundle(EASE(EASEConfig()), sample_dataset(0, 30, 30), FeatureEncoder(FeatureConfig()), {})
    return save_bundle(made, tmp_path_factory.mktemp("registered") / "bundle")


@pytest.fixture
def register(study, bundle, client):
    """Register the study's bundle under a name of its own, held against the champion that is there."""

    def registered(decided=None):
        present = decided or present_version(client, study.experiment)
        held = Promotion("if-better", "champion", "not worse", champion_key(present) if present else None)
        return study.tracker.register(bundle, (DataType.string,) * 2, study.experiment, held)

    return registered


def test_a_model_or_champion_deleted_before_it_is_registered_gives_way(client, study, register):
    study.begin()
    assert register().alias == "champion"
    first = present_version(client, study.experiment)
    client.delete_model_version(study.experiment, first.version)
    placed = register(first)
    assert (placed.version, placed.alias) == ("2", "champion")
    assert placed.reason == "the champion that it was held against is none any more (not worse)"
    client.delete_registered_model(study.experiment)
    placed = register(first)
    assert (placed.version, placed.alias) == ("1", "champion")
    study.tracker.close(failed=False)
    assert study.spool.missing() == ""


@pytest.mark.parametrize("what", ["version", "model"])
def test_what_is_deleted_while_it_is_registered_is_made_again_at_the_end(client, study, register, monkeypatch, what):
    """Between the version and its alias: refused, kept, and sent once more."""
    study.begin()
    real, deleted = placement.present_version, []

    def meddled(used, name, *alias):
        if not deleted:
            deleted.append(name)
            if what == "version":
                client.delete_model_version(name, "1")
            else:
                client.delete_registered_model(name)
        return real(used, name, *alias)

    monkeypatch.setattr(placement, "present_version", meddled)
    assert register(argparse.Namespace(version=9, run_id="gone", creation_timestamp=0)) is None
    assert "missing on the tracking server: 1 model" in study.spool.missing()
    assert deleted == [study.experiment]
    study.tracker.close(failed=False)
    assert study.spool.missing() == ""
    assert str(present_version(client, study.experiment).version) == ("2" if what == "version" else "1")
