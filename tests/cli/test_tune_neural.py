"""The tuning job of networks from the command line: whole runs on the sample, and bad input."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from mlflow.tracking import MlflowClient

from coldray.bundle.io import load_bundle
from coldray.cli.jobs import tune as job
from coldray.command.app import job as run_job
from coldray.data.sources.sample import sample_dataset
from coldray.experiments.space import load_study
from coldray.models.registry import NETWORKS
from contracts.lists import places_of

SPACES = Path(__file__).parents[2] / "tune_spaces"
SEARCH = ("search.trials=2", "search.max_concurrent=1", "scheduler.grace_epochs=1")
FEW = (*SEARCH, "splits.n_splits=1", "space.epochs=3", "space.patience=null")
PROTOCOLS = {
    "vae": ("splits.protocol=user-holdout",),
    "text_graph": ("space.rating_embedding=true", "space.time_buckets=3", "space.head_dim=8"),
}
"""Users the training never sees, and new items of which ratings and times are read."""


def rated_sample(*_):
    """Return a small sample with ratings and times, which are drawn."""
    sample = sample_dataset(0, 150, 100)
    clicks, generator = sample.interactions, np.random.default_rng(0)

    def drawn(low, high, dtype):
        values = generator.integers(low, high, clicks.nnz).astype(dtype)
        return sp.csr_array((values, clicks.indices, clicks.indptr), shape=clicks.shape)

    return replace(sample, ratings=drawn(1, 6, np.float32), timestamps=drawn(10**9, 10**9 + 10**6, np.int64))


def run(folder, tracking_uri, model, *fields):
    given = ["--output-dir", str(folder / "runs"), "--tracking-uri", tracking_uri, "--model", model]
    for field in fields:
        given += ["--set", field]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(job, "load_filtered", rated_sample)
        return run_job("tune", "Tune a network.", given, networks=True, study="")


@pytest.mark.parametrize("model", PROTOCOLS)
def test_a_network_is_tuned_tested_registered_and_recommends(ray_cluster, tracking_uri, tmp_path, capsys, model):
    assert run(tmp_path, tracking_uri, model, *FEW, *PROTOCOLS[model]) == 0
    (bundle_folder,) = (tmp_path / "runs").glob("*/bundle")
    bundle = load_bundle(bundle_folder)
    assert bundle.model.name == model
    assert len(places_of(bundle, [bundle.history("user-0001")], 5)[0]) == 5
    assert 0 <= bundle.manifest["metrics"]["ndcg@10"] <= 1
    name = f"coldray-{bundle.manifest['dataset']['name']}-{model.replace('_', '-')}"
    version = MlflowClient(tracking_uri, tracking_uri).get_model_version_by_alias(name, "champion")
    found = MlflowClient(tracking_uri, tracking_uri).get_run(version.run_id).data
    assert found.metrics
    page = (bundle_folder.parent / "report.html").read_text(encoding="utf-8")
    assert re.search(r"[1-9][\d,]* parameters were trained", page)
    assert bundle.manifest["n_parameters"] == sum(one.numel() for one in bundle.model.fitted_network.parameters())
    if model == "text_graph":
        # What a fit in a worker fell back on reaches everyone who looks at its figures.
        (note,) = (note for note in bundle.manifest["notes"] if "No text is embedded" in note)
        assert note in page
        assert note in found.tags["coldray.notes"]
        assert f"Note: {note}" in " ".join(capsys.readouterr().out.split())
    else:
        assert (bundle.manifest["notes"], "coldray.notes" in found.tags) == ([], False)


@pytest.mark.parametrize("model", NETWORKS)
def test_every_network_has_a_study_that_tries_its_defaults_and_stops_weak_trials_by_epochs(model):
    study = load_study(SPACES / f"{model}.yaml")
    assert study.model == model
    assert study.scheduler is not None
    assert study.scheduler.by == "epochs"
    assert {} in study.search.first


def test_a_model_that_is_no_network_is_refused_with_those_that_are(tmp_path, tracking_uri, capsys):
    assert run(tmp_path, tracking_uri, "ease") == 2
    told = capsys.readouterr().err
    assert all(name in told for name in NETWORKS)
