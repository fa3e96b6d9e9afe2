"""The data check from the command line: whole runs on real and small data, and what bad input is told."""

import io
import json
import re

import numpy as np
import polars as pl
import pytest

from coldray.command.app import main
from coldray.reports.quality import report as quality_module

TIME = 1_600_000_000


class Job:
    """Runs the check in one folder."""

    def __init__(self, root):
        self.root, self.output = root, root / "runs"

    def run(self, *arguments):
        """Return status, what was printed, and what was told as an error."""
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.root)
            patch.delenv("COLDRAY_DATA", raising=False)
            patch.setattr("sys.stdout", out)
            patch.setattr("sys.stderr", err)
            status = main(["check", "--output-dir", str(self.output), *map(str, arguments)])
        return status, out.getvalue(), err.getvalue()

    def values(self, name):
        return json.loads((self.output / name / "results.json").read_text(encoding="utf-8"))

    @property
    def folders(self):
        return sorted(path.name for path in self.output.iterdir() if path.is_dir()) if self.output.exists() else []


@pytest.fixture
def job(tmp_path):
    return Job(tmp_path)


@pytest.fixture
def quick(monkeypatch):
    """Leave the figures out."""
    monkeypatch.setattr(quality_module, "quality_pictures", lambda check: ())


@pytest.fixture
def table(tmp_path):
    """Write ratings of own data, one outside 1 to 5, and return their path."""
    generator = np.random.default_rng(0)
    pairs = [(user, item) for user in range(40) for item in generator.choice(30, 6, replace=False)]
    ratings = [f"{1 + (user + item) % 5}" for user, item in pairs]
    ratings[3] = "11"
    path = tmp_path / "own.csv"
    pl.DataFrame(
        {
            "user_id": [f"user {user}" for user, _ in pairs],
            "item_id": [str(item) for _, item in pairs],
            "stars": ratings,
            "when": [TIME + 1000 * place for place in range(len(pairs))],
        }
    ).write_csv(path)
    return path


def own(path):
    return "--dataset", "csv", "--interactions", path, "--rating-column", "stars", "--timestamp-column", "when"


def write_amazon(folder, category, *, n_users=30, parts=("train", "valid", "test"), leak=False, rating=4.0):
    """Write the files of a category: each user has four items in train, one in validation and one in test."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, part in enumerate(parts):
        places = range(4) if part == "train" else [4 if part == "valid" else 5]
        if leak and part == "test":
            places = [0]
        rows = [
            (f"u{user}", f"i{(user + place) % 9}", rating, TIME + 86_400 * (10 * number + place) + user)
            for user in range(n_users)
            for place in places
        ]
        table = pl.DataFrame(rows, schema=["user_id", "parent_asin", "rating", "timestamp"], orient="row")
        table.write_parquet(folder / f"{category}.5core.{part}.parquet")


def amazon(folder, *categories):
    return "--dataset", "amazon", "--data-dir", folder, *(part for name in categories for part in ("--category", name))


def test_the_sample_is_checked_and_exported(job):
    status, printed, told = job.run()
    assert (status, told) == (0, "")
    assert job.folders == ["check-sample-holdout"]
    values = job.values("check-sample-holdout")
    assert values["dataset"]["synthetic"] is True
    assert values["facts"]["all"]["interactions"] == 19_041
    names = {path.name for path in (job.output / "check-sample-holdout").iterdir()}
    assert {"report.html", "summary.csv", "heat_map.png", "activity.svg", "factors.png"} <= names
    assert not {"ratings.png", "over_time.png"} & names
    assert "The activity over time is left out: the data have no timestamps." in (
        job.output / "check-sample-holdout" / "report.html"
    ).read_text(encoding="utf-8")
    assert re.search(r"^\d\d:\d\d:\d\d reading sample$", printed, re.MULTILINE)
    assert "Report: runs/check-sample-holdout/report.html" in printed
    assert "note: The data have no timestamps" in printed
    # Again: the same check is where it was, another one beside it.
    kept = {path: path.read_bytes() for path in job.output.rglob("*") if path.is_file()}
    assert job.run("--seed", "7")[0] == 0
    assert job.folders == ["check-sample-holdout", "check-sample-holdout-2"]
    assert job.values("check-sample-holdout-2")["protocol"]["seed"] == "7"
    assert job.run()[0] == 0
    assert job.folders == ["check-sample-holdout", "check-sample-holdout-2"]
    assert {path: path.read_bytes() for path in kept} == kept


def test_own_data_are_split_by_time_and_held_against_a_scale(job, table):
    status, printed, told = job.run(*own(table), "--rating-scale", 1, 5, "--n-factors", 4, "--most-users", 10)
    assert (status, told) == (0, "")
    values = job.values("check-own-leave-last")
    facts = values["facts"]
    assert facts["all"]["outside_scale"] == 1
    assert (facts["test"]["interactions"], facts["validation"]["interactions"]) == (40, 40)
    assert (facts["train"]["svd_n_factors"], facts["train"]["svd_listed_users"]) == (4, 10)
    assert facts["all"]["times_within_user"] == 0
    assert "warning: 1 of 240 (0.4 %) ratings are outside 1 to 5; there are ratings from 1 to 11." in printed
    summary = pl.read_csv(job.output / "check-own-leave-last" / "summary.csv")
    (row,) = summary.filter(pl.col("part") == "all", pl.col("fact") == "rating_highest").iter_rows()
    assert row[2] == 11.0


@pytest.mark.usefixtures("quick")
def test_a_random_split_of_times_is_a_problem_under_strict_alone(job, table):
    assert job.run(*own(table), "--protocol", "holdout")[0] == 0
    status, printed, told = job.run(*own(table), "--protocol", "holdout", "--strict")
    assert (status, told) == (1, "")
    assert "problem: Time leak" in printed
    assert job.run(*own(table), "--strict")[0] == 0
    assert job.folders == ["check-own-holdout", "check-own-leave-last"]


@pytest.mark.usefixtures("quick")
def test_data_that_cannot_be_split_are_described(job, tmp_path):
    (tmp_path / "few.csv").write_text("user_id,item_id\n1,1\n1,2\n2,1\n2,3\n3,2\n")
    few = ("--dataset", "csv", "--interactions", tmp_path / "few.csv")
    status, printed, _ = job.run(*few)
    assert status == 0
    assert "problem: The data cannot be split" in printed
    assert job.values("check-few-holdout")["facts"]["train"]["interactions"] == 5
    assert job.run(*few, "--strict")[0] == 1


@pytest.mark.usefixtures("quick")
def test_what_is_to_be_found_is_counted_and_a_rule_that_takes_nothing_is_a_problem(job, table):
    status, printed, told = job.run(*own(table), "--positives", ">= 4")
    assert (status, told) == (0, "")
    values = job.values("check-own-leave-last")
    assert values["protocol"]["positives"] == "rating >=4"
    stars = pl.read_csv(table)["stars"]
    assert values["facts"]["all"]["positives"] == (stars >= 4).sum()
    assert 0 < values["facts"]["test"]["positive_users"] < 40
    assert "Positives: rating >=4" in printed
    status, printed, _ = job.run(*own(table), "--positives", ">11", "--strict")
    assert status == 1
    assert "problem: positives.rating: no rating of dataset 'own' is >11" in printed


@pytest.mark.usefixtures("quick")
def test_kinds_of_events_are_counted(job, tmp_path):
    rows = [(user, item, "buy" if item == user % 4 else "view") for user in range(30) for item in range(6)]
    table = pl.DataFrame([*rows, (0, 0, "view")], schema=["user_id", "item_id", "kind"], orient="row")
    table.write_csv(tmp_path / "shop.csv")
    kinds = ("--event-column", "kind", "--event-weights", "buy=5,view=1")
    status, printed, told = job.run("--dataset", "csv", "--interactions", tmp_path / "shop.csv", *kinds)
    assert (status, told) == (0, "")
    facts = job.values("check-shop-holdout")["facts"]["all"]
    assert (facts["events_read buy"], facts["events_read view"]) == (30, 151)
    assert (facts["events_of buy"], facts["events_of view"], facts["weakest_event_users"]) == (30, 150, 0)
    assert "Kinds of events" in printed


def test_the_published_split_of_movielens(job, real_data):
    folder = real_data("ml-100k")
    status, printed, _ = job.run("--dataset", "ml-100k", "--data-dir", folder, "--split", "u1")
    assert status == 0
    facts = job.values("check-ml-100k-u1")["facts"]
    assert (facts["train"]["interactions"], facts["test"]["interactions"]) == (80_000, 20_000)
    assert facts["test"]["unseen_items"] == 32
    assert facts["all"]["times_within_user"] == 19_437
    assert facts["all"]["outside_scale"] == 0
    assert facts["train"]["rating_mean"] == pytest.approx(3.52835, abs=1e-4)
    assert 1.9 < facts["train"]["svd_rmse"] < 2.1
    assert "problem: Time leak: 19,437 of 20,000 (97.2 %)" in printed


def test_the_published_split_is_taken_where_there_is_one_and_named(job, real_data):
    folder = real_data("coat")
    status, printed, _ = job.run("--dataset", "coat", "--data-dir", folder)
    assert status == 0
    (name,) = job.folders
    facts = job.values(name)["facts"]
    assert (facts["train"]["interactions"], facts["test"]["interactions"]) == (6_960, 16 * 290 - 366)
    assert "the split is the one that coat is published with; --protocol draws another" in printed
    assert job.run("--dataset", "coat", "--data-dir", folder, "--protocol", "holdout")[0] == 0
    assert job.values("check-coat-holdout")["facts"]["test"]["interactions"] != 16 * 290 - 366


@pytest.mark.usefixtures("quick")
def test_each_category_has_its_report_and_one_without_data_is_left_out(job, tmp_path):
    data = tmp_path / "amazon"
    write_amazon(data, "Toys", rating=7.0)
    write_amazon(data, "Sports-Outdoors")
    status, printed, told = job.run(*amazon(data, "Toys", "Gone", "Sports/Outdoors"))
    assert (status, told) == (0, "")
    assert job.folders == ["check-amazon-Sports-Outdoors", "check-amazon-Toys"]
    assert re.search(r"^\d\d:\d\d:\d\d Gone is left out: .*has no Gone\.5core\.train\.parquet", printed, re.MULTILINE)
    assert "Left out: Gone: " in printed
    assert "180 of 180 (100.0 %) ratings were outside their scale and are clipped to it." in printed
    assert job.run(*amazon(data, "Toys", "Gone"), "--strict")[0] == 1
    assert job.run(*amazon(data), "--strict")[0] == 0  # all there are, and none has a problem


def test_what_is_wrong_with_the_only_category_is_an_error(job, tmp_path):
    data = tmp_path / "amazon"
    write_amazon(data, "Leaking", leak=True)
    write_amazon(data, "Partial", parts=("train", "valid"))
    write_amazon(data, "Toys", rating=7.0)
    for category, message in {
        "Leaking": r"pairs are in two parts.*Keep each pair in one part",
        "Partial": r"has no Partial\.5core\.test\.parquet",
        "Gone": r"has no Gone\.5core\.train\.parquet",
    }.items():
        status, _, told = job.run(*amazon(data, category))
        assert status == 2
        assert re.match(f"error: .*{message}", told), told
    status, _, told = job.run(*amazon(data, "Toys"), "--strict-ratings")
    assert status == 2
    assert "120 ratings are beyond 1 to 5; the first is 7" in told
    status, _, told = job.run(*amazon(data, "Leaking", "Gone"))
    assert status == 2
    assert "None of the 2 categories could be read. Leaking: " in told
    assert job.folders == []
    assert not job.output.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--split", "u1"), "--split is read by --dataset ml-100k alone, not by 'sample'"),
        (("--dataset", "ml-100k", "--split", "u1", "--protocol", "temporal"), "--split u1 takes published parts"),
        (("--positives", "4"), "positives.rating: '4' is no comparison with a number"),
        (("--rating-scale", "5", "1"), "--rating-scale 5 1: the lowest rating comes first"),
        (("--dataset", "smaple"), "Unknown data source 'smaple'. Did you mean 'sample'"),
        (("--category", "Toys"), "--category is read by --dataset amazon alone"),
        (("--protocol", "temporal"), "has no timestamps"),
        (("--dataset", "csv"), "--dataset csv needs --interactions FILE"),
    ],
)
def test_bad_options_are_one_line_and_leave_nothing(job, arguments, message):
    status, _, told = job.run(*arguments)
    assert status == 2
    assert told.startswith("error: ")
    assert message in told
    assert len(told.strip().splitlines()) == 1
    assert not job.output.exists()


def test_data_that_are_not_there_are_one_line_and_leave_nothing(job):
    status, _, told = job.run("--dataset", "ml-100k")
    assert status == 2
    (line,) = told.strip().splitlines()
    assert line.startswith("error: ml-100k is not in any folder")
    assert not job.output.exists()


@pytest.mark.parametrize("arguments", [("--protocol", "predefined"), ("--most-users", "0"), ("--seed", "-1")])
def test_values_that_are_none_are_refused_by_the_parser(job, arguments):
    assert job.run(*arguments)[0] == 2


def test_a_table_with_other_columns_is_told_and_nothing_is_written(job, table):
    status, _, told = job.run("--dataset", "csv", "--interactions", table, "--rating-column", "rating")
    assert status == 2
    assert "has no column 'rating'" in told
    assert not job.output.exists()


@pytest.mark.usefixtures("quick")
def test_files_of_others_are_left_alone(job):
    mine = job.output / "check-sample-holdout" / "thesis.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    status, _, told = job.run()
    assert status == 1
    assert "holds 'thesis.txt'" in told
    assert mine.read_text() == "mine"
    assert [path.name for path in job.output.iterdir()] == ["check-sample-holdout"]
