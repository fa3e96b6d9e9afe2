"""The comparison of models from the command line: a whole run on a small sample, with all that it measures."""

import json

import pytest
from mlflow.tracking import MlflowClient

from coldray.cli.jobs import compare as job
from coldray.command.app import main
from coldray.data.sources.sample import sample_dataset

MODELS = ("popularity", "ease", "two_tower")


def run(folder, tracking_uri, *arguments):
    """Run the job in `folder`; return its exit status and the folder of what it wrote."""
    output = folder / "runs"
    given = ["--output-dir", str(output), "--tracking-uri", tracking_uri, "--experiment", "models", *arguments]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(job, "read_data", lambda *_: (sample_dataset(0, 120, 100), None))
        status = main(["compare", *given])
    (written,) = (path.parent for path in output.glob("*/report.html"))
    return status, written


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tracking_uri, ray_cluster):
    settings = (
        "--set",
        "splits.n_splits=2",
        "--set",
        "inspection.timed_users=5",
        "--set",
        "inspection.mapped_items=60",
        "--set",
        "entries.two_tower.overrides.space.epochs=3",
    )
    return run(
        tmp_path_factory.mktemp("models"), tracking_uri, "--models", ",".join(MODELS), "--trials", "1", *settings
    )


@pytest.fixture(scope="module")
def values(finished):
    return json.loads((finished[1] / "results.json").read_text(encoding="utf-8"))


def test_all_models_are_compared_on_the_same_interactions(finished, values):
    assert finished[0] == 0
    assert (values["held_out"], values["baseline"], tuple(values["entries"])) == ("interactions", "ease", MODELS)
    tracks = {name: entry["track"] for name, entry in values["entries"].items()}
    assert tracks == {"popularity": "strict", "ease": "clicks", "two_tower": "strict"}
    assert values["failed"] == {}
    for name, entry in values["entries"].items():
        assert len(entry["test"]) == 2
        assert bool(entry["over_baseline"]) == (name != "ease")
        assert (entry["attributes"] == {}) == (entry["track"] == "clicks")


def test_costs_and_parts_of_the_test_are_measured_on_each_split(values):
    for entry in values["entries"].values():
        assert len(entry["inspections"]) == 2
        for one in entry["inspections"]:
            assert 0 < one["costs"]["fit_seconds"] < 60
            assert 0 < one["costs"]["score_seconds"] < 1
            assert one["slices"]["cold_items"]["n_users"] > 0
    sizes = {
        tuple(one["slices"][name]["n_users"] for name in one["slices"])
        for entry in values["entries"].values()
        for one in entry["inspections"][:1]
    }
    assert len(sizes) == 1, "the same users and items for all"


def test_the_report_shows_maps_and_nearest_items(finished):
    html = (finished[1] / "report.html").read_text(encoding="utf-8")
    assert "Nearest to " in html
    assert "No map" not in html, "said in the figure"
    assert {"item_maps.png", "quality_against_cost.svg"} <= {path.name for path in finished[1].iterdir()}


def test_the_server_has_costs_and_parts_of_each_winner(values, tracking_uri):
    client = MlflowClient(tracking_uri, tracking_uri)
    experiment = client.get_experiment_by_name("models")
    runs = client.search_runs([experiment.experiment_id], "tags.`coldray.entry` != ''")
    assert {found.data.tags["coldray.entry"] for found in runs} == set(MODELS)
    for found in runs:
        inspections = values["entries"][found.data.tags["coldray.entry"]]["inspections"]
        logged = found.data.metrics
        for name in ("fit_seconds", "score_seconds"):
            assert logged[name] == pytest.approx(sum(one["costs"][name] for one in inspections) / 2)
        cold = [one["slices"]["cold_items"]["metrics"]["ndcg@10"] for one in inspections]
        assert logged["test.cold_items.ndcg_at_10"] == pytest.approx(sum(cold) / 2)


def test_a_model_that_cannot_score_cold_items_is_told_before_anything_starts(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(job, "read_data", lambda *_: (sample_dataset(0, 120, 100), None))
    cold = ["compare_cold", "content_knn", "ease"]
    given = [*cold, "--output-dir", str(tmp_path / "runs"), "--tracking-uri", f"sqlite:///{tmp_path}/mlflow.db"]
    assert main(["compare", *given]) == 2
    assert "The entry 'ease': The model 'ease' cannot score cold items" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
