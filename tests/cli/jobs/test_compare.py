"""The comparison job from the command line: a whole run on a small sample, and what bad input is told."""

import json
import re
from pathlib import Path

import polars as pl
import pytest
import yaml
from mlflow.tracking import MlflowClient

from coldray.bundle.io import load_bundle
from coldray.cli.jobs import compare as job
from coldray.command.app import main
from coldray.data.sources.sample import sample_dataset
from contracts.lists import places_of

STUDIES = {
    "tiny.yaml": {"name": "tiny", "model": "marec", "space": {"lambda_1": {"choice": [10, 1000]}, "order": 1}},
    "kernel.yaml": {
        "name": "kernel",
        "model": "kernel_align",
        "space": {"alpha": 0.2, "ridge": {"choice": [6]}, "steps": 3, "n_factors": 8},
    },
    # No configuration of it can be fitted: its scores overflow.
    # Its sentence model is nowhere.
    "wordy.yaml": {
        "name": "wordy",
        "model": "kernel_align",
        "space": {"steps": {"choice": [3]}},
        "features": {"text": {"description": "embedding"}, "embedding_model": "/nowhere/model"},
    },
    "broken.yaml": {"name": "broken", "model": "marec", "space": {"alpha": {"choice": [1e300]}, "order": 1}},
}
COMPARISON = {
    "name": "cold_small",
    "baseline": "tiny",
    "entries": {
        "tiny": {"study": "tiny.yaml", "track": "strict"},
        "broken": {"study": "broken.yaml", "track": "strict"},
        "kernel": {"study": "kernel.yaml", "track": "full"},
        "wordy": {"study": "wordy.yaml", "track": "full"},
    },
    "splits": {"n_splits": 2},
    "cutoffs": [10],
    "search": {"trials": 2},
}


def write_files(folder, **changes):
    for name, study in STUDIES.items():
        search = {"algorithm": "grid", "max_concurrent": 1}
        (folder / name).write_text(yaml.safe_dump({**study, "search": search}), encoding="utf-8")
    path = folder / "comparison.yaml"
    path.write_text(yaml.safe_dump({**COMPARISON, **changes}, sort_keys=False), encoding="utf-8")
    return path


def small(*_):
    return sample_dataset(0, 120, 100)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tracking_uri, ray_cluster):
    """Run the job once; return its status, what it printed, and its output folder."""
    root = tmp_path_factory.mktemp("coldstart")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr(job, "read_data", lambda *given: (small(*given), None))
        stream = (root / "stdout").open("w+", encoding="utf-8")
        patch.setattr("sys.stdout", stream)
        arguments = ["compare", str(write_files(root)), "--output-dir", str(root / "runs")]
        arguments += ["--tracking-uri", tracking_uri, "--experiment", "coldstart"]
        status = main(arguments)
        stream.seek(0)
        printed = stream.read()
        stream.close()
    return status, printed, root / "runs"


def test_an_interrupted_comparison_goes_on_and_runs_no_trial_again(tmp_path, monkeypatch, capsys, ray_cluster):
    """It is interrupted between the last search and the tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(job, "read_data", lambda *given: (small(*given), None))
    entries = {name: COMPARISON["entries"][name] for name in ("tiny", "kernel")}
    arguments = ["compare", str(write_files(tmp_path, entries=entries)), "--offline", "--output-dir", "runs"]

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("coldray.experiments.comparison.run.measure_winner", interrupted)
        assert main(arguments) == 130
    (records,) = (tmp_path / "runs" / "records").iterdir()
    before = {path.parent.name: path.read_text().count('"trial_ended"') for path in records.glob("*/events.jsonl")}
    assert before == {"tiny": 2, "kernel": 1}
    capsys.readouterr()
    assert main([*arguments, "--resume"]) == 0
    printed = capsys.readouterr().out
    assert f"going on with {records.name}" in printed
    assert printed.count("have ended before; none is run again") == 2
    assert list((tmp_path / "runs" / "records").iterdir()) == [records]
    assert before == {
        path.parent.name: path.read_text().count('"trial_ended"') for path in records.glob("*/events.jsonl")
    }
    assert sorted(json.loads((tmp_path / "runs" / records.name / "results.json").read_text())["entries"]) == [
        "kernel", "tiny"
    ]  # fmt: skip


@pytest.fixture
def folder(finished):
    (found,) = (path for path in finished[2].iterdir() if path.is_dir() and path.name != "records")
    return found


@pytest.fixture
def values(folder):
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


def test_the_job_succeeds_and_leaves_report_figures_tables_and_bundle(finished, folder):
    status, printed, output = finished
    assert status == 0, printed
    assert re.fullmatch(r"cold_small-sample-\d{8}-\d{6}", folder.name)
    names = {path.name for path in folder.iterdir()}
    assert {"report.html", "results.csv", "summary.csv", "results.json", "bundle", "studies"} <= names
    for name in ("entries_on_test", "validation_against_test", "differences"):
        assert {f"{name}.png", f"{name}.svg"} <= names
    assert (output / f"{folder.name}.zip").is_file()
    assert sorted(path.name for path in (folder / "studies").iterdir()) == ["kernel", "tiny"]
    report = (folder / "report.html").read_text(encoding="utf-8")
    assert "ynthetic" in report
    assert "Strict track" in report
    assert "Full track" in report


def test_the_champion_is_the_best_on_validation_and_served(folder, values):
    rows = pl.read_csv(folder / "results.csv").filter(pl.col("part") == "validation", pl.col("metric") == "ndcg@10")
    means = dict(rows.group_by("entry").agg(pl.col("value").mean()).iter_rows())
    assert set(means) == {"tiny", "kernel"}
    assert values["champion"] == max(means, key=means.__getitem__)
    bundle = load_bundle(folder / "bundle")
    assert len(places_of(bundle, [bundle.history("user-0001")], 5)[0]) == 5
    champion = values["entries"][values["champion"]]
    assert bundle.model.name == champion["model"]
    assert bundle.manifest["comparison"]["champion"] == values["champion"]
    tested = [fold["metrics"]["ndcg@10"] for fold in champion["test"]]
    assert bundle.manifest["metrics"]["ndcg@10"] == pytest.approx(sum(tested) / 2)


def test_a_failing_entry_is_listed_with_its_reason(finished, folder, values):
    _, printed, _ = finished
    assert values["failed"]["broken"]["reason"].startswith("SelectionError: None of the 1 trials finished")
    assert "broken failed, the others go on: SelectionError" in printed
    assert "broken" in (folder / "report.html").read_text(encoding="utf-8")
    assert "/nowhere/model" in values["failed"]["wordy"]["reason"]
    assert "wordy failed, the others go on:" in printed


def test_the_output_says_what_happened_and_what_to_do_next(finished, folder):
    _, printed, output = finished
    for line in (
        r"\[1/3\] tiny: marec, strict track, 2 trials",
        r"\[3/3\] kernel: kernel_align, full track, 1 trial$",
        r"tested kernel, trial 0",
        r"registered coldray-sample-cold-small version 1, alias champion: the first champion",
    ):
        assert re.search(line, printed, re.MULTILINE), line
    assert re.search(r"^ .* kernel +0\.\d{4} ± 0\.\d{4}", printed, re.MULTILINE)
    assert "Synthetic data" in printed
    assert "\x1b[" not in printed
    lines = printed.splitlines()
    assert f"Report: {(folder / 'report.html').relative_to(output.parent)}" in lines
    following = lines[lines.index("Next:") + 3]
    assert re.search(r" compare \S+/comparison.yaml --output-dir .* --dataset hetrec$", following)


def test_the_server_has_the_comparison_its_studies_and_their_trials(finished, folder, values, tracking_uri):
    client = MlflowClient(tracking_uri, tracking_uri)
    runs = client.search_runs([client.get_experiment_by_name("coldstart").experiment_id])
    kinds = {run.info.run_id: run.data.tags["coldray.kind"] for run in runs}
    (parent,) = (run for run in runs if kinds[run.info.run_id] == "comparison")
    studies = {run.data.tags["coldray.entry"]: run for run in runs if kinds[run.info.run_id] == "study"}
    trials = [run for run in runs if kinds[run.info.run_id] == "trial"]
    assert set(studies) == {"tiny", "broken", "kernel"}
    assert len(trials) == 4
    assert parent.info.status == "FINISHED"
    for name, run in studies.items():
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.data.tags["coldray.comparison_id"] == folder.name
        assert run.data.tags["coldray.track"] == COMPARISON["entries"][name]["track"]
        assert run.info.status == ("FAILED" if name == "broken" else "FINISHED")
    assert {run.data.tags["mlflow.parentRunId"] for run in trials} == {run.info.run_id for run in studies.values()}
    assert "None of the 1 trials finished" in studies["broken"].data.tags["coldray.error"]
    champion = studies[values["champion"]]
    assert champion.data.tags["coldray.champion"] == "true"
    assert parent.data.tags["coldray.champion_run_id"] == champion.info.run_id
    assert parent.data.params["champion"] == values["champion"]
    for name in ("test_ndcg_at_10", "val_ndcg_at_10"):
        assert parent.data.metrics[name] == pytest.approx(champion.data.metrics[name])
    lift = values["entries"]["kernel"]["over_baseline"]["ndcg@10"]["difference"]
    assert studies["kernel"].data.metrics["lift_ndcg_at_10"] == pytest.approx(lift)
    logged = {Path(entry.path).name for entry in client.list_artifacts(parent.info.run_id, "comparison")}
    assert {"report.html", "results.json", f"{folder.name}.zip"} < logged
    own = [entry.path for entry in client.list_artifacts(studies["tiny"].info.run_id, "report")]
    assert own == ["report/report.html"]
    assert client.get_model_version_by_alias("coldray-sample-cold-small", "champion").run_id == parent.info.run_id


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--set", "search.trails=3"), "Did you mean 'trials'?"),
        (("--set", "baseline=tinny"), "Did you mean 'tiny'?"),
        (("--set", "entries.tiny.overrides={splits.n_splits: 1}"), "which all entries have in common"),
        (
            ("--set", "entries.tiny.overrides={features.attributes: [genres, title]}"),
            "The entry 'tiny' is on the strict track",
        ),
        (("--set", "entries.kernel.study=absent.yaml"), "entries.kernel: Cannot read the study file"),
        (("absent.yaml",), "Cannot read the comparison file absent.yaml"),
        (("--dataset", "hetrek"), "Did you mean 'hetrec'?"),
    ],
)
def test_what_is_not_possible_is_told_in_one_line(tmp_path, capsys, monkeypatch, arguments, expected):
    monkeypatch.setattr(job, "connected_ray", lambda *_: pytest.fail("Ray was started for a job that cannot run"))
    files, output, database = tmp_path / "files", tmp_path / "runs", tmp_path / "mlflow.db"
    files.mkdir()
    given = ["--output-dir", str(output), "--tracking-uri", f"sqlite:///{database}", *arguments]
    file = [] if "absent.yaml" in arguments else [str(write_files(files))]
    status = main(["compare", *file, *given])
    printed = capsys.readouterr()
    assert status == 2
    (line,) = printed.err.splitlines()
    assert line.startswith("error: ")
    assert expected in line
    assert not output.exists()
    assert not database.exists()


@pytest.mark.parametrize(("option", "value"), [("--trials", "0"), ("--model-name", "a/b"), ("--study", "x.yaml")])
def test_an_option_that_is_not_possible(capsys, option, value):
    assert main(["compare", option, value]) == 2
    assert option in capsys.readouterr().err
