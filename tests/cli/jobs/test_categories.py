"""The job of several categories from the command line: real files, real searches, and each phase on its own."""

import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from coldray.bundle.io import load_bundle
from coldray.cli.jobs.tune import read_data
from coldray.cli.progress.study import StudyProgress
from coldray.command.app import main
from coldray.data.sources.registry import SourceConfig
from coldray.experiments.comparison.config import load_comparison
from coldray.experiments.comparison.run import check_comparison
from coldray.experiments.record.saved_search import _SavedSearch
from coldray.experiments.space import load_study
from coldray.experiments.study import finish_study, prepare_study
from contracts.lists import places_of

GROUPS, OWN = 4, 12
"""Groups of items, and how many items each has."""


def run(*arguments):
    phase = [] if "--phase" in arguments else ["--phase", "all"]
    return main(["tune", "svd", *phase, *(str(argument) for argument in arguments)])


def latest(output):
    """Return the folder of the study that was started last."""
    return max(output.glob("svd-*"), key=lambda folder: folder.stat().st_ctime_ns)


def write_category(folder, category, *, seed, n_users=90):
    """Write users who click items of one group; four groups need a handful of factors."""
    generator = np.random.default_rng(seed)
    rows = []
    for user in range(n_users):
        group = generator.integers(GROUPS)
        items = group * OWN + generator.permutation(OWN)[:9]
        rows += [(f"u{user}", f"i{item}", 5.0, 1000 * user + place) for place, item in enumerate(items)]
    table = pl.DataFrame(rows, schema=["user_id", "parent_asin", "rating", "timestamp"], orient="row")
    place = np.tile(np.arange(9), n_users)
    for part, chosen in (("train", place < 7), ("valid", place == 7), ("test", place == 8)):
        table.filter(pl.Series(chosen)).write_parquet(folder / f"{category.replace('/', '-')}.5core.{part}.parquet")


FIELDS = ("space.n_factors={choice: [2, 4, 8]}", "space.max_factors=8", "search.max_concurrent=1")
SMALL = [part for field in FIELDS for part in ("--set", field)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("amazon")
    for number, category in enumerate(("Office", "Toys/Games")):
        write_category(made, category, seed=number)
    return made


@pytest.fixture(scope="module")
def options(folder, tracking_uri):
    return ["--dataset", "amazon", "--data-dir", folder, "--tracking-uri", tracking_uri, "--experiment", "cat", *SMALL]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, options, ray_cluster):
    """Tune two categories and one that is not there; return the status, what was printed, and the folder."""
    root = tmp_path_factory.mktemp("categories")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        stream = (root / "stdout").open("w+", encoding="utf-8")
        patch.setattr("sys.stdout", stream)
        names = [part for name in ("Office", "Toys/Games", "Books") for part in ("--category", name)]
        status = run("--output-dir", root / "runs", *options, *names)
        stream.seek(0)
        printed = stream.read()
        stream.close()
    return status, printed, latest(root / "runs")


def test_each_category_gets_its_table_report_and_bundle(finished):
    status, printed, folder = finished
    assert status == 0, printed
    for name in ("Office", "Toys-Games"):
        table = pl.read_csv(folder / f"tuning_{name}.csv")
        assert sorted(table["n_factors"]) == [2, 4, 8]
        assert table["selected"].sum() == 1
        assert (folder / name / "report.html").is_file()
        bundle = load_bundle(folder / name / "bundle")
        assert len(places_of(bundle, [bundle.history("u3")], 3)[0]) == 3
    assert {path.name for path in folder.glob("*.png")} == {
        "choices.png", "final_results.png", "validation_against_test.png"
    }  # fmt: skip
    assert "Office" in (folder / "report.html").read_text(encoding="utf-8")


def test_the_choice_finds_the_groups_and_is_the_smallest_within_the_tolerance(finished):
    for name in ("Office", "Toys-Games"):
        rows = pl.read_csv(finished[2] / f"tuning_{name}.csv").to_dicts()
        best = max(row["ndcg@10"] for row in rows)
        enough = [row["n_factors"] for row in rows if row["ndcg@10"] >= 0.98 * best]
        assert [row["n_factors"] for row in rows if row["selected"]] == [min(enough)]
    final = pl.read_csv(finished[2] / "final_test_results.csv")
    tested = final.filter(pl.col("metric") == "hr@10")
    assert tested["category"].to_list() == ["Office", "Toys/Games"]
    assert tested["test"].min() > 0.9  # 12 items of the group, of which 8 are known


def test_names_in_the_registry_carry_the_category(finished):
    for name in ("coldray-amazon-Office-svd", "coldray-amazon-Toys-Games-svd"):
        assert f"registered {name} version 1, alias champion" in finished[1]


def test_the_tuning_phase_tests_nothing_and_the_summary_has_what_was_found_before(finished, options, capsys):
    output = finished[2].parent
    once = ["--output-dir", output, *options, "--phase", "tune", "--category", "Office"]
    assert run(*once, "--set", "space.n_factors={choice: [2]}") == 0
    printed = capsys.readouterr().out
    assert "Summary of all studies: " in printed
    assert "2 results of other settings are not in the summary" in printed
    assert run(*once) == 0
    assert "testing the winner" not in capsys.readouterr().out
    folder = latest(output)
    assert len(_SavedSearch.model_validate_json((folder / "search_Office.json").read_bytes()).trials) == 3
    assert not (folder / "final_test_results.csv").exists()
    assert not (folder / "Office" / "bundle").exists()
    assert "was not tested" in (folder / "Office" / "report.html").read_text(encoding="utf-8")
    view = pl.read_csv(output / "svd" / "final_test_results.csv")
    assert view["category"].unique().sort().to_list() == ["Office", "Toys/Games"]
    assert set(view["study"]) == {finished[2].name}
    page = (output / "svd" / "report.html").read_text(encoding="utf-8")
    for slug in ("Office", "Toys-Games"):
        assert f"../{finished[2].name}/{slug}/report.html" in page
        assert (finished[2] / slug / "report.html").is_file()


def test_a_category_without_data_is_reported_and_the_others_go_on(finished):
    _, printed, folder = finished
    assert "Books is left out:" in printed
    assert "Books left out:" in printed
    assert "Books" in (folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("phase", ["final", "auto"])
def test_a_saved_choice_is_found_and_nothing_is_searched(finished, options, capsys, phase):
    folder = finished[2]
    saved = {path.name: path.read_bytes() for path in folder.glob("search_*.json")}
    before = pl.read_csv(folder / "final_test_results.csv")
    kept = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert run("--output-dir", folder.parent, *options, "--phase", phase) == 0
    printed = capsys.readouterr().out
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == kept
    assert "found the 3 trials of Office" in printed
    assert "searching" not in printed
    assert {path.name: path.read_bytes() for path in folder.glob("search_*.json")} == saved
    assert latest(folder.parent) != folder
    again = pl.read_csv(latest(folder.parent) / "final_test_results.csv")
    assert again["category"].unique().sort().to_list() == ["Office", "Toys-Games"]
    assert again.drop("category").equals(before.drop("category"))
    assert "same model, configuration and features" in printed  # what is tested again is no worse than itself


def test_interrupted_categories_go_on_and_run_no_trial_again(options, tmp_path, monkeypatch, capsys, ray_cluster):
    """They are interrupted in the second, after its search."""
    arguments = ["--output-dir", tmp_path, *options, "--category", "Office", "--category", "Toys/Games", "--offline"]
    studied = []

    def interrupted(study, *rest):
        studied.append(study.dataset)
        if len(studied) == 2:
            raise KeyboardInterrupt
        return finish_study(study, *rest)

    with monkeypatch.context() as patch:
        patch.setattr("coldray.cli.jobs.categories.finish_study", interrupted)
        assert run(*arguments) == 130
    assert not list(tmp_path.glob("*/final_test_results.csv"))
    capsys.readouterr()
    assert run(*arguments, "--resume") == 0
    assert capsys.readouterr().out.count("all 3 trials have ended before; none is run again") == 2
    tested = pl.read_csv(latest(tmp_path) / "final_test_results.csv")
    assert tested["category"].unique().sort().to_list() == ["Office", "Toys/Games"]


@pytest.mark.parametrize(
    ("extra", "status", "expected"),
    [
        (["--phase", "final", "--category", "Office"], 1, "There is no saved search"),
        (["--category", "Ofice"], 2, "Did you mean 'Office'?"),
        (["--size", "small"], 2, "has no category of size 'small'"),
        (["--set", "filters={min_user_interactions: 2}"], 2, "a published split is taken as it is"),
        (["--category", "A", "--category", "B"], 2, "None of the 2 categories could be studied. A:"),
        (["--set", "splits.protocol=predefined", "--set", "splits.name=u1"], 2, "no predefined split 'u1'"),
    ],
)
def test_what_cannot_be_studied_is_said(options, tmp_path, capsys, extra, status, expected):
    if extra[0] == "--set":
        extra = [*extra, "--category", "Office"]
    assert run("--output-dir", tmp_path / "runs", *options, *extra) == status
    assert expected in " ".join(capsys.readouterr().err.split())


@pytest.mark.usefixtures("ray_cluster")
def test_a_saved_search_of_another_space_is_not_tested(finished, options, tmp_path, capsys):
    place = tmp_path / "svd"
    place.mkdir()
    text = (finished[2] / "search_Office.json").read_text(encoding="utf-8")
    values = json.loads(text)
    values["study"]["space"]["n_factors"]["choice"] = [2, 4]
    (place / "search_Office.json").write_text(json.dumps(values), encoding="utf-8")
    assert run("--output-dir", tmp_path, *options, "--category", "Office", "--phase", "final") == 1
    assert "is of another study: space was" in " ".join(capsys.readouterr().err.split())
    assert run("--output-dir", tmp_path, *options, "--category", "Office", "--phase", "auto", "--offline") == 0
    told = " ".join(capsys.readouterr().out.split())
    assert re.search(r"Office is searched: The saved search .* is of another study: space was", told)
    assert "searching: 3 trials" in told


def test_other_data_are_one_category(tmp_path, tracking_uri, ray_cluster, capsys):
    assert run("--output-dir", tmp_path, "--tracking-uri", tracking_uri, "--experiment", "cat", *SMALL) == 0
    assert (latest(tmp_path) / "sample" / "report.html").is_file()
    assert "--dataset amazon --data-dir FOLDER" in capsys.readouterr().out


@pytest.mark.usefixtures("ray_cluster")
def test_a_published_split_of_other_data_is_tuned_and_tested(tmp_path, tracking_uri, real_data, capsys):
    published = ("splits.protocol=predefined", "splits.name=u1", "splits.n_splits=1", "space.n_factors={choice: [5]}")
    options = [part for field in published for part in ("--set", field)]
    data = ("--dataset", "ml-100k", "--data-dir", real_data("ml-100k"), "--tracking-uri", tracking_uri)
    assert run("--output-dir", tmp_path, *data, "--experiment", "cat", *options) == 0
    assert "reading the published split of ml-100k" in capsys.readouterr().out
    manifest = load_bundle(latest(tmp_path) / "ml-100k" / "bundle").manifest
    assert manifest["protocol"]["split"] == "predefined: the parts that the data are published in, u1"
    assert "20,000 test interactions" in manifest["protocol"]["first split"]


@pytest.mark.parametrize("name", ["mf", "rating_knn", "rating_svd"])
def test_a_shipped_study_of_ratings_takes_a_published_split(folder, name):
    """Its filters say that everything is kept: they change nothing of the split."""
    given = {"splits.protocol": "predefined"}
    config = load_study(Path(__file__).parents[3] / "tune_spaces" / f"{name}.yaml", given)
    assert config.filters is not None
    source = SourceConfig(name="amazon", data_dir=folder, category="Toys/Games")
    dataset, published = read_data(source, config, StudyProgress(Console(quiet=True)))
    assert published.counts()["test_interactions"] == 90
    assert prepare_study(config, dataset, published).splits[0].dataset is dataset


def test_the_shipped_comparison_of_ratings_takes_a_published_split(folder):
    given = {"splits.protocol": "predefined", "splits.n_splits": 1}
    comparison = load_comparison(Path(__file__).parents[3] / "tune_spaces" / "compare_ratings.yaml", given)
    source = SourceConfig(name="amazon", data_dir=folder, category="Toys/Games")
    progress = StudyProgress(Console(quiet=True))
    dataset, published = read_data(source, comparison.config, progress)
    checked = check_comparison(comparison, dataset, progress, published)
    assert list(checked.studies) == ["rating_svd", "rating_knn", "mf"]
    assert all(study.splits[0].dataset is dataset for study in checked.studies.values())
