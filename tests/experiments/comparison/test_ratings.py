"""Models that predict ratings, compared by their errors: chosen, paired, told, and never beside those that rank."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from scipy import stats

from coldray.core.errors import ConfigError, StudyError
from coldray.data.signals import Reads
from coldray.evaluation.significance import adjust_p_values
from coldray.experiments.comparison.config import load_comparison
from coldray.experiments.comparison.differences import TestedEntry, _check_same_users
from coldray.experiments.comparison.run import check_comparison, comparison_protocol, run_comparison
from coldray.experiments.folds import prepare_task
from coldray.experiments.study import draw_splits
from coldray.front.comparisons import ModelComparison, _file_for
from coldray.reports.comparison.report import comparison_report, summary_table
from coldray.reports.comparison.words import findings, headline, lift_words, shown_metrics
from contracts.ratings import rated_by_tastes
from reports.reading import printed, words

SHIPPED = Path(__file__).parents[3] / "tune_spaces" / "compare_ratings.yaml"
SMALL = {
    "splits.n_splits": 2,
    "cutoffs": [5],
    "entries": {
        "blurred": {"study": "rating_knn.yaml", "overrides": {"space": {"shrinkage": 1e6}, "selection.simplest": []}},
        "knn": {
            "study": "rating_knn.yaml",
            "overrides": {
                "space": {"k": {"choice": [2, 20]}},
                "search.algorithm": "grid",
                "selection.simplest": [],
                "selection.tolerance": 0,
            },
        },
        "svd": {"study": "rating_svd.yaml", "overrides": {"space": {"n_factors": 2}, "selection.simplest": []}},
    },
    "baseline": "blurred",
}


@pytest.fixture(scope="module")
def dataset():
    return rated_by_tastes(60, 50)


@pytest.fixture(scope="module")
def comparison():
    return load_comparison(SHIPPED, SMALL)


@pytest.fixture(scope="module")
def result(ray_cluster, dataset, comparison):
    checked = check_comparison(comparison, dataset)
    protocol = comparison_protocol(comparison, checked)
    return run_comparison(comparison, checked, comparison_id="rated", protocol=protocol)


@pytest.fixture(scope="module")
def errors(comparison, dataset, result):
    """Return of each entry the user and the error of every test rating of a known item, split by split, fitted anew."""
    found = {}
    for entry in comparison.entries:
        model = entry.study.configured(result.entry(entry.name).config)
        folds = []
        for split in draw_splits(dataset, entry.study):
            task = prepare_task(split.test_fold, None, reads=Reads(ratings=True), predicts=True)
            held_out = task.held_out.tocoo()
            users, items = held_out.coords
            known = np.isin(items, task.train.interactions.indices)
            predicted = model.fit(task.train).predict_ratings(task.histories, users[known], items[known])
            folds.append((users[known], predicted.astype(float) - held_out.data[known]))
        found[entry.name] = folds
    return found


def rmse(errors):
    return float(np.sqrt(np.mean(np.square(errors))))


def test_the_least_error_on_validation_is_chosen_within_and_among_entries(result):
    assert [trial.status for trial in result.entry("knn").study.trials] == ["finished"] * 2
    for entry in result.entries:
        reached = [trial.mean("rmse") for trial in entry.study.trials]
        assert entry.study.selection.winner.mean("rmse") == min(reached)
    validated = {entry.name: entry.study.selection.winner.mean("rmse") for entry in result.entries}
    assert result.champion == min(validated, key=validated.get) != "blurred"
    rivals = {name: min({*validated} - {name}, key=validated.get) for name in validated}
    assert {entry.name: entry.rival for entry in result.entries} == rivals


def test_errors_are_those_of_models_fitted_anew(result, errors):
    for name, folds in errors.items():
        entry = result.entry(name)
        for fold, (_, of_fold) in zip(entry.folds, folds, strict=True):
            assert fold.metrics["rmse"] == pytest.approx(rmse(of_fold), rel=1e-4)
            assert fold.metrics["mae"] == pytest.approx(np.mean(np.abs(of_fold)), rel=1e-4)
        pooled = np.concatenate([of_fold for _, of_fold in folds])
        for metric, reached in {"rmse": rmse(pooled), "mae": np.mean(np.abs(pooled))}.items():
            low, high = entry.intervals[metric]
            assert low < reached < high


def test_differences_pair_the_ratings_of_a_user_and_are_corrected_together(result, errors):
    def by_user(name, power):
        users = np.concatenate([users for users, _ in errors[name]])
        return np.bincount(users, np.concatenate([np.abs(of_fold) ** power for _, of_fold in errors[name]]))

    tested = np.unique(np.concatenate([users for users, _ in errors["knn"]]))
    pairs, raw = [("knn", "blurred"), ("svd", "blurred"), ("knn", "svd")], {}
    for one, other in pairs:
        for metric, power in {"rmse": 2, "mae": 1}.items():
            ours, theirs = (by_user(name, power)[tested] for name in (one, other))
            raw[one, other, metric] = stats.ttest_rel(ours, theirs).pvalue
    adjusted = dict(zip(raw, adjust_p_values(np.array(list(raw.values()))), strict=True))
    for name in ("knn", "svd"):
        lifts = result.entry(name).over_baseline
        assert set(lifts) == {"rmse", "mae"}
        for metric, lift in lifts.items():
            assert lift.p_value == pytest.approx(raw[name, "blurred", metric], rel=0.05)
            assert lift.p_adjusted == pytest.approx(adjusted[name, "blurred", metric], rel=0.05)
            assert lift.low < lift.difference < lift.high < 0, "less error than without any neighbour"
        ours, theirs = (rmse(np.concatenate([of_fold for _, of_fold in errors[one]])) for one in (name, "blurred"))
        assert lifts["rmse"].difference == pytest.approx(ours - theirs, rel=1e-3)
        assert lifts["rmse"].relative == pytest.approx((ours - theirs) / theirs, rel=1e-3)
    assert result.entry("blurred").over_baseline == {}


def test_reports_tell_errors_and_that_less_is_better(result):
    assert shown_metrics(result) == ("rmse", "mae", "ndcg@5")
    report, champion = comparison_report(result), result.entry(result.champion)
    said = headline(result)
    assert f"{champion.name} (clicks track) has the lowest validation RMSE among 3 entries" in said
    assert f"{lift_words(champion.over_baseline['rmse'])} below blurred" in said
    text = words(report)
    assert "the lower the better" in text
    assert "HR@k" not in text
    for shown in (text, printed(report)):
        assert "RMSE" in shown
        assert "MAE" in shown
    drawn = {picture.name: picture.figure for picture in report.pictures}
    assert [axes.get_xlabel() for axes in drawn["entries_on_test"].axes] == [
        "test RMSE (lower is better)", "test MAE (lower is better)", "test NDCG@5",
    ]  # fmt: skip
    table = summary_table(result).filter(pl.col("metric") == "rmse", pl.col("entry") == champion.name)
    (row,) = table.iter_rows(named=True)
    assert row["over_baseline"] == champion.over_baseline["rmse"].difference
    assert (row["low"], row["high"]) == champion.intervals["rmse"]


def test_in_python_the_lowest_error_comes_first(result, tmp_path):
    frame = ModelComparison(result, tmp_path).frame
    assert frame["model"][0] == result.champion
    assert frame["validation"].to_list() == sorted(frame["validation"])
    assert _file_for(["mf", "rating_svd"]) == "compare_ratings"
    assert [_file_for(models) for models in (["mf", "ease"], ["marec"])] == ["compare_models", "compare_cold"]


def test_another_that_is_lower_on_test_is_told_and_changes_nothing(result):
    told = " ".join(findings(replace(result, champion="blurred")))
    assert "Lower on test than the champion: knn (" in told
    assert "Lower on test" not in " ".join(findings(replace(result, entries=(result.entry(result.champion),))))
    assert f"Best of the clicks track on validation: {result.champion}" in told


def test_errors_of_other_ratings_are_never_paired(result, comparison):
    tested = [
        TestedEntry(entry, result.entry(entry.name).study, {}, result.entry(entry.name).study.measured, 1.0)
        for entry in comparison.entries
    ]
    _check_same_users(tested)
    first, *others = tested[1].measured
    fewer = replace(first, ratings=replace(first.ratings, counts=first.ratings.counts + 1))
    with pytest.raises(StudyError, match="tested on different users of seed 42 / split 0"):
        _check_same_users([tested[0], replace(tested[1], measured=(fewer, *others))])


def test_models_that_rank_are_refused_with_the_way_out():
    given = {"entries.ease.study": "ease.yaml", "entries.ease.overrides": {"selection.simplest": []}}
    with pytest.raises(ConfigError, match=r"entries\.ease: .*'rmse' is not computed: .* predicts none.*ndcg@10"):
        load_comparison(SHIPPED, given)
    mixed = load_comparison(SHIPPED, {**given, "selection.metric": "ndcg@10"})
    assert {entry.study.selection.metric for entry in mixed.entries} == {"ndcg@10"}


def test_vectors_by_file_are_refused_with_the_way_out():
    files = {"users": "u.npy", "user_ids": "u.csv", "items": "i.npy", "item_ids": "i.csv"}
    with pytest.raises(ConfigError, match=r"selection\.metric 'rmse' .* theirs are vectors by file.*ndcg@10"):
        load_comparison(SHIPPED, {"entries.theirs.vectors": files})


def test_where_all_predict_ratings_and_no_metric_is_named_it_is_rmse(tmp_path):
    studies = {name: {"study": str(SHIPPED.with_name(f"{name}.yaml"))} for name in ("mf", "ease")}
    content = {"name": "mine", "baseline": "mf", "candidates": "all", "splits": {"protocol": "holdout"}}
    path = tmp_path / "mine.yaml"
    for entries, expected in ({"mf": studies["mf"]}, "rmse"), (studies, "ndcg@10"):
        path.write_text(yaml.safe_dump({**content, "entries": entries}), encoding="utf-8")
        found = load_comparison(path)
        assert found.config.selection.metric == expected
        assert {entry.study.selection.metric for entry in found.entries} == {expected}


def test_the_shipped_comparison_chooses_each_by_its_own_metric():
    found = load_comparison(SHIPPED)
    assert {entry.study.selection.metric for entry in found.entries} == {"rmse"}
    assert all(entry.study.kind.predicts_ratings and entry.track == "clicks" for entry in found.entries)
