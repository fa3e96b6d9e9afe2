"""The tuning job from the command line: a whole run on the sample, and what each bad input is told."""

import json
import re
import socket
from pathlib import Path

import mlflow
import pytest
import ray
import yaml
from mlflow.tracking import MlflowClient
from PIL import Image

from coldray.bundle.io import load_bundle
from coldray.cli.jobs import tune as job
from coldray.command.app import main
from coldray.data.sources.sample import sample_dataset
from coldray.experiments.space import load_study
from contracts.lists import places_of

STUDY = Path(__file__).parents[3] / "tune_spaces" / "marec.yaml"
SEARCH = ("search.trials=2", "search.algorithm=random", "search.max_concurrent=1")
SMALL = (*SEARCH, "splits.n_splits=2", "space.order=1", "space.delta=5")


def run(*arguments, study=STUDY):
    return main(["tune", *(str(argument) for argument in (study, *arguments))])


def settings(*fields):
    return [part for field in fields for part in ("--set", field)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tracking_uri, ray_cluster):
    """Run the job once; return its status, what it printed, and its output folder."""
    root = tmp_path_factory.mktemp("job")
    output = root / "runs"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        stream = (root / "stdout").open("w+", encoding="utf-8")
        patch.setattr("sys.stdout", stream)
        status = run(
            *("--output-dir", output, "--tracking-uri", tracking_uri),
            *("--experiment", "job", "--model-name", "job-model"),
            *settings(*SMALL),
        )
        stream.seek(0)
        printed = stream.read()
        stream.close()
    return status, printed, output


@pytest.fixture
def study_folder(finished):
    (folder,) = (path for path in finished[2].iterdir() if path.name != "records")
    return folder


def test_the_job_succeeds_and_leaves_report_figures_and_bundle(finished, study_folder):
    status, printed, _ = finished
    assert status == 0, printed
    assert re.fullmatch(r"marec-sample-\d{8}-\d{6}", study_folder.name)
    report = (study_folder / "report.html").read_text(encoding="utf-8")
    assert "sample" in report
    assert "ynthetic" in report
    assert "the first champion of that name" in report
    pictures = sorted(study_folder.glob("*.png"))
    assert len(pictures) >= 2
    for picture in pictures:
        with Image.open(picture) as image:
            assert min(image.size) > 200
    assert {path.suffix for path in study_folder.iterdir()} == {".html", ".png", ""}


def test_the_bundle_recommends_and_tells_where_it_comes_from(study_folder):
    bundle = load_bundle(study_folder / "bundle")
    data = sample_dataset()
    assert bundle.item_ids.tolist() == data.item_ids.tolist()
    assert len(places_of(bundle, [bundle.history("user-0001")], 5)[0]) == 5
    assert bundle.manifest["dataset"]["fingerprint"] == data.fingerprint
    assert bundle.manifest["dataset"]["synthetic"] is True
    assert 0 < bundle.manifest["metrics"]["ndcg@10"] < 1
    assert "test items" in bundle.manifest["metrics"]["measured_on"]


def test_the_output_says_what_happened_and_what_to_do_next(finished, study_folder):
    _, printed, output = finished
    assert "sample (synthetic)" in printed
    assert "Synthetic data" in printed
    assert "2 trials: 2 finished" in printed
    assert "\x1b[" not in printed
    assert "Traceback" not in printed
    lines = printed.splitlines()
    assert f"Report: {(study_folder / 'report.html').relative_to(output.parent)}" in lines
    following = lines[lines.index("Next:") + 1 :]
    assert len(following) == 3
    assert "registered job-model version 1, alias champion: the first champion of that name" in printed
    assert "Registry: alias champion: the first champion of that name" in printed
    assert "mlflow ui --backend-store-uri sqlite:///" in following[0]
    bundle = (study_folder / "bundle").relative_to(output.parent)
    assert re.search(rf" serve(\.py)? --bundle {bundle}$", following[1])
    assert re.search(r" tune \S+marec.yaml --output-dir .* --dataset hetrec$", following[2])


def test_the_server_knows_the_study_and_serves_its_winner(finished, study_folder, tracking_uri):
    client = MlflowClient(tracking_uri, tracking_uri)
    experiment = client.get_experiment_by_name("job")
    runs = client.search_runs([experiment.experiment_id])
    assert {run.info.status for run in runs} == {"FINISHED"}
    (parent,) = (run for run in runs if run.data.tags["coldray.kind"] == "study")
    assert len(runs) == 3
    assert parent.data.tags["coldray.study_id"] == study_folder.name
    assert parent.data.tags["dataset.synthetic"] == "true"
    reported = {entry.path for entry in client.list_artifacts(parent.info.run_id, "report")}
    assert "report/report.html" in reported
    manifest = json.loads((study_folder / "bundle" / "manifest.json").read_text(encoding="utf-8"))
    assert parent.data.metrics["test_ndcg_at_10"] == pytest.approx(manifest["metrics"]["ndcg@10"])
    assert client.get_model_version_by_alias("job-model", "champion").run_id == parent.info.run_id


def test_a_cluster_that_was_there_before_is_left_running(finished):
    assert ray.is_initialized()
    assert ray.get(ray.put(1)) == 1


def test_the_servers_of_other_code_are_left_as_they_were(finished, tracking_uri):
    assert mlflow.get_tracking_uri() != tracking_uri
    assert mlflow.active_run() is None


# Bad input: one line that names the thing, before anything is started or written.


@pytest.fixture
def refused(tmp_path, capsys, monkeypatch):
    """Return a function that runs the job, expects it to refuse, and returns the one line it printed."""

    def never(*_):
        raise AssertionError("Ray was started for a job that cannot run")

    monkeypatch.setattr(job, "connected_ray", never)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.delenv("COLDRAY_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    output, database = tmp_path / "runs", tmp_path / "mlflow.db"

    def check(*arguments, study=STUDY, status=2):
        existed = output.exists()
        ended = run("--output-dir", output, "--tracking-uri", f"sqlite:///{database}", *arguments, study=study)
        printed = capsys.readouterr()
        assert ended == status
        assert "Traceback" not in printed.out + printed.err
        (line,) = printed.err.splitlines()
        assert line.startswith("error: ")
        assert output.exists() == existed, "a folder was left by a job that cannot run"
        assert not database.exists(), "a tracking database was set up for a job that cannot run"
        return line

    return check


def test_an_unknown_dataset(refused):
    assert "Unknown data source 'hetrek'. Did you mean 'hetrec'?" in refused("--dataset", "hetrek")


@pytest.mark.parametrize("dataset", ["hetrec", "ml1m-hetrec"])
def test_a_data_folder_that_does_not_exist(refused, tmp_path, dataset):
    line = refused("--dataset", dataset, "--data-dir", tmp_path / "absent")
    assert f"--data-dir names {tmp_path / 'absent'}, which does not exist" in line


def test_a_dataset_that_is_nowhere_and_may_not_be_fetched(refused, tmp_path):
    (tmp_path / "empty").mkdir()
    line = refused("--dataset", "hetrec", "--data-dir", tmp_path / "empty", "--no-download")
    assert "HetRec 2011 is not in" in line
    assert "--data-dir" in line


def test_a_misspelt_field_of_the_study_file(refused, tmp_path):
    path = tmp_path / "typo.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(STUDY.read_text()), "splitz": {"n_splits": 2}}))
    assert "Did you mean 'splits'?" in refused(study=path)
    assert "typo.yaml" in refused(study=path)


def test_a_study_file_that_does_not_exist(refused, tmp_path):
    assert "absent.yaml: No such file" in refused(study=tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("search.trials", "--set takes FIELD=VALUE"),
        ("search.trails=3", "Did you mean 'trials'?"),
        ("search.trials=many", "search.trials"),
        ("search.trials=[1, 2", "search.trials"),
        ("space.lambda_2={choice: [1]}", "Did you mean 'lambda_1'?"),
        ("features.attributes=[genre]", "Did you mean 'genres'?"),
        ("filters.min_rating_exclusive=3", "rating"),
        ("cutoffs=[0]", "cutoffs"),
        ("cutoffs=[10, 25, 10]", "10 is listed twice"),
        ("space.delta={genre: 5}", "Did you mean 'genres'?"),
        ("space.delta={genres: 5}", "leaves out"),
        ("space={solver: users, lambda_0: 0.5}", "the space has no valid configuration"),
        ("fit.device=cuda", "torch finds no CUDA device"),
        ("fit.device=cuda", "The winner is fitted for its bundle where the job runs."),
        ("space.device=cuda", "Write fit: {device: …}"),
        ("features.text={genres: tfidf}", "which holds labels"),
    ],
)
def test_a_setting_that_is_not_possible(refused, setting, expected):
    assert expected in refused("--set", setting)


def test_filters_that_leave_nothing(refused):
    line = refused("--set", "filters.min_user_interactions=100000")
    assert "min_user_interactions=100000" in line


def test_a_file_in_place_of_the_output_folder(refused, tmp_path):
    (tmp_path / "runs").write_text("mine")
    assert f"'{tmp_path / 'runs'}' is a file" in refused()
    assert (tmp_path / "runs").read_text() == "mine"


def test_an_output_folder_below_a_file(refused, tmp_path):
    (tmp_path / "file").write_text("mine")
    assert "Cannot write to" in refused("--output-dir", tmp_path / "file" / "runs", status=1)


def test_a_tracking_server_that_does_not_answer(refused):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{taken.getsockname()[1]}"
    line = refused("--tracking-uri", uri, status=1)
    assert f"{uri} cannot be reached" in line
    assert "--tracking-uri" in line


def test_a_tracking_store_that_is_not_supported(refused):
    assert "'./mlruns' is not supported" in refused("--tracking-uri", "./mlruns", status=1)


def test_a_cluster_that_cannot_run_a_job_is_told_before_data_are_read(refused, tmp_path):
    absent = tmp_path / "absent.csv"
    line = refused("--ray-address", "ray://10.0.0.1:10001", "--interactions", absent, status=1)
    assert "an address of Ray Client" in line


def test_a_grid_with_more_points_than_trials_that_are_asked_for(refused):
    line = refused("--set", "search.trials=3", study=STUDY.with_name("ease.yaml"))
    assert "lists its 20 configurations" in line
    assert "--set search.points=3" in line


def test_own_data_without_its_file(refused):
    assert "--dataset csv needs --interactions FILE" in refused("--dataset", "csv")


def test_own_data_whose_file_does_not_exist(refused, tmp_path):
    assert "absent.csv" in refused("--interactions", tmp_path / "absent.csv")


def test_own_data_without_the_column(refused, tmp_path):
    (tmp_path / "clicks.csv").write_text("user,item_id\n1,2\n")
    line = refused("--interactions", tmp_path / "clicks.csv")
    assert "user_id" in line


def test_own_data_that_is_no_table(refused, tmp_path):
    (tmp_path / "clicks.csv").write_text('user_id,item_id\n"u1,a1\nu2\n,,,\n')
    line = refused("--dataset", "csv", "--interactions", tmp_path / "clicks.csv")
    assert "clicks.csv, lines 2 to 4: a quote" in line


def test_own_data_with_a_separator_of_nothing(refused, tmp_path):
    line = refused("--dataset", "csv", "--interactions", tmp_path / "clicks.csv", "--label-separator", "")
    assert "--label-separator" in line


def test_own_data_for_a_source_that_does_not_read_it(refused, tmp_path):
    assert "not by 'sample'" in refused("--dataset", "sample", "--interactions", tmp_path / "clicks.csv")


@pytest.mark.parametrize("dataset", ["sample", "csv"])
def test_a_data_folder_for_a_source_that_does_not_read_it(refused, tmp_path, dataset):
    files = ("--interactions", tmp_path / "clicks.csv") if dataset == "csv" else ()
    line = refused("--dataset", dataset, "--data-dir", tmp_path, *files)
    assert "--data-dir is read by --dataset hetrec, ml1m-hetrec" in line
    assert f"alone, not by '{dataset}'" in line


def test_an_output_folder_that_was_there_stays(refused, tmp_path):
    (tmp_path / "runs").mkdir()
    refused("--dataset", "hetrec", "--data-dir", tmp_path, "--no-download")
    assert (tmp_path / "runs").is_dir()


@pytest.mark.usefixtures("ray_cluster")
def test_cuda_that_the_workers_of_the_cluster_do_not_find(tmp_path, tracking_uri, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("coldray.cli.devices._workers_with_cuda", lambda: [False])
    monkeypatch.setattr(job, "run_study", lambda *_, **__: pytest.fail("a search began"))
    output = tmp_path / "runs"
    assert run("--output-dir", output, "--tracking-uri", tracking_uri, "--set", "fit.device=cuda") == 2
    assert "no worker of the Ray cluster finds a CUDA device" in capsys.readouterr().err
    assert not output.exists()


def test_a_study_file_that_is_no_yaml(refused, tmp_path):
    (tmp_path / "broken.yaml").write_text("name: [x\n")
    assert "broken.yaml is not valid YAML" in refused(study=tmp_path / "broken.yaml")


@pytest.mark.parametrize(
    ("option", "value"), [("--cpus", "0"), ("--cpus", "many"), ("--model-name", "a/b"), ("--model-name", "")]
)
def test_an_option_that_is_not_possible(capsys, option, value):
    assert run(option, value) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: Invalid value for '{option}': ")


def test_own_data_with_no_attribute_to_score_new_items_by(refused, tmp_path):
    rows = "\n".join(f"{user},{item}" for user in range(30) for item in range(40) if (user * item) % 3 == 0)
    (tmp_path / "clicks.csv").write_text(f"user_id,item_id\n{rows}\n")
    line = refused("--dataset", "csv", "--interactions", tmp_path / "clicks.csv")
    assert "attribute" in line
    assert "--items" in line


def test_brackets_in_what_is_refused_are_shown(refused, tmp_path):
    assert "[red]" in refused("--data-dir", tmp_path / "[red]", "--dataset", "hetrec")


COMPARISONS = {
    "coldstart", "compare_models", "compare_cold", "compare_published", "compare_recsys_cold", "compare_warming",
    "compare_newcomers", "compare_ratings",
}  # fmt: skip


def test_each_model_has_a_champion_of_its_own():
    studies = Path(__file__).parents[3] / "tune_spaces"
    paths = [path for path in studies.glob("*.yaml") if path.stem not in COMPARISONS]
    named = [(load_study(path).model, job.registered_name(None, "shop", load_study(path).model)) for path in paths]
    assert {"coldray-shop-marec", "coldray-shop-marec-plus", "coldray-shop-kernel-align"} <= {name for _, name in named}
    assert len({name for _, name in named}) == len({model for model, _ in named})
