"""What is told of a study, section by section, and in the terminal."""

import dataclasses
import re
import statistics
from dataclasses import replace

from coldray.reports.study.report import _selection_reasons, study_report
from reports.reading import cells, printed, table, tables, words


def page_of(result) -> str:
    return words(study_report(result))


def test_every_section_of_any_study_has_its_place(any_study):
    report = study_report(any_study)
    assert [section.heading for section in report.on("page")] == [
        "Test of the selected configuration",
        "Why it was selected",
        "Protocol and data",
        "Search",
        "Figures",
        "Comparison with published numbers",
    ]
    assert report.synthetic == any_study.dataset["synthetic"]
    assert report.outcome.startswith(f"Trial #{any_study.selection.winner.number} of marec was selected among")
    for said in any_study.protocol.values():
        assert said in words(report)
    named = [picture.name for picture in report.pictures]
    assert named[:3] == ["parameter_effects", "split_spread", "validation_against_test"]
    assert all(picture.caption and picture.alt for picture in report.pictures)


def test_every_number_of_the_winner_is_told(study):
    result = study()
    text = page_of(result)
    for metric in result.test[0].metrics:
        values = [fold.metrics[metric] for fold in result.test]
        low, high = result.test_intervals[metric]
        assert f"{statistics.fmean(values):.4f} ± {statistics.stdev(values):.4f} {low:.4f} to {high:.4f}" in text
        assert all(f"{value:.4f}" in text for value in values)
        winner = result.selection.winner
        assert f"{winner.mean(metric):.4f} ± {winner.std(metric):.4f}" in text
    assert "Only the selected configuration was tested, and once" in text


def test_the_ten_best_configurations_are_listed_with_their_settings(study):
    result = study(parameters=("x", "y"), space={"x": [1000.0, 1e-5], "y": [0.2, 5e-4]}, n_trials=40)
    shown = table(study_report(result), "Best configurations")
    best = result.ranked_trials()[:10]
    assert [row[1].text for row in shown.rows] == [f"#{trial.number}" for trial in best]
    for row, trial in zip(shown.rows, best, strict=True):
        spreads = [f"{trial.mean(metric):.4f} ± {trial.std(metric):.4f}" for metric in ("ndcg@10", "hr@10")]
        assert [cell.text for cell in row[4:6]] == spreads
        assert row[2].text in ("1000", "1e-05")
        assert row[3].text in ("0.2", "0.0005")
    assert shown.rows[shown.highlighted][-1].text == "finished, selected"


def test_the_best_trial_of_each_metric_is_named_with_its_values(study):
    result = study(parameters=("x", "y"), space={"x": [1000.0, 1e-5], "y": [0.2, 5e-4]}, n_trials=40)
    shown = table(study_report(result), "Best trial by each validation metric")
    winner, finished = result.selection.winner, result.ranked_trials()
    assert len(shown.rows) == len(winner.folds[0].metrics)
    for row, metric in zip(shown.rows, winner.folds[0].metrics, strict=True):
        best = max(finished, key=lambda trial: trial.mean(metric))
        assert row[1].text == f"{best.mean(metric):.4f} ± {best.std(metric):.4f}"
        assert row[2].text == f"{winner.mean(metric):.4f} ± {winner.std(metric):.4f}"
        assert row[3].text.partition(",")[0] == f"#{best.number}"
        assert [float(cell.text) for cell in row[4:6]] == [best.config["x"], best.config["y"]]


def test_of_an_error_the_lowest_is_the_best(study):
    result = study()

    def folds(trial):
        return tuple(replace(fold, metrics={**fold.metrics, "rmse": 1 + trial.number}) for fold in trial.folds)

    trials = tuple(replace(trial, folds=folds(trial)) for trial in result.trials)
    chosen = {trial.number: trial for trial in trials}
    selection = replace(result.selection, winner=chosen[result.selection.winner.number])
    shown = table(study_report(replace(result, trials=trials, selection=selection)), "Best trial by each validation")
    lowest = min(trial.number for trial in trials if trial.status == "finished")
    (row,) = (row for row in shown.rows if row[0].text == "RMSE")
    assert row[3].text.partition(",")[0] == f"#{lowest}"


def test_one_trial_is_best_by_every_metric_without_a_table(study):
    result = study(n_trials=1, n_failed=0, n_pruned=0, winner_rank=0)
    assert not [one for one in tables(study_report(result)) if one.caption.startswith("Best trial by")]


def test_the_message_of_a_failure_is_told_whole(study):
    error = "<script>alert('x')</script> & \"NaN\""
    shown = table(study_report(study(error=error, n_failed=2)), "Failed trials")
    assert [row[1].text for row in shown.rows] == [error, error]
    assert "Failed trials" not in page_of(study(n_failed=0))


def test_the_fingerprint_is_short_and_whole_in_its_title(study):
    result = study()
    whole = result.dataset["fingerprint"]
    (row,) = [row for row in table(study_report(result), "Dataset").rows if row[0].text == "fingerprint"]
    assert (row[1].text, row[1].title) == (whole[:12], whole)


def test_how_the_files_were_read_is_told(study, published_dataset):
    text = page_of(study(dataset={**published_dataset, "notes": ["3 blank lines <are> passed over.", "Milliseconds."]}))
    assert "as read 3 blank lines <are> passed over. as read Milliseconds." in text


def test_published_numbers_appear_only_for_the_published_dataset(study, published_dataset):
    report = study_report(study(dataset=published_dataset))
    assert "arXiv 2404.13298, Table 3" in words(report)
    assert cells(table(report, "HetRec"))["marec"][0] == "measured here"
    assert [picture.name for picture in report.pictures][-1] == "published_comparison"
    other = study_report(study())
    assert "ItemKNNCF" not in words(other)
    assert "no comparison with published numbers" in words(other)
    assert "not the published dataset" in words(other)
    assert len(other.pictures) == 3


def test_the_reasons_name_best_tolerance_and_rule(study):
    result = study(winner_rank=3)
    reasons = " ".join(_selection_reasons(result))
    best, winner = result.selection.best, result.selection.winner
    assert f"{best.mean('ndcg@10'):.4f} ± {best.std('ndcg@10'):.4f}, of trial #{best.number}" in reasons
    assert f"{len(result.selection.within_tolerance)} trials, the best included" in reasons
    assert "first order before second order; larger lambda1" in reasons
    assert f"Selected: trial #{winner.number}, by that rule." in reasons
    assert reasons in page_of(result)
    assert "the best itself" in " ".join(_selection_reasons(study()))


def test_trials_are_counted_by_how_they_ended(study):
    result = study(n_trials=30, n_pruned=7, n_failed=4)
    counts = {"finished": ["19"], "pruned": ["7"], "failed": ["4"], "all": ["30"]}
    assert cells(table(study_report(result), "Trials")) == counts
    assert "30 trials: 19 finished, 7 pruned, 4 failed" in printed(study_report(result))


def test_a_single_split_has_no_deviation(study):
    result = study(folds=((42, 0),))
    text = page_of(result)
    assert "± 0.0000" not in text
    assert f"{result.test[0].metrics['ndcg@10']:.4f}" in text


def test_a_study_without_a_test_says_so(study):
    report = study_report(dataclasses.replace(study(), test=(), test_intervals={}))
    assert "The selected configuration was not tested." in words(report)
    assert "mean validation NDCG@10" in report.outcome
    assert "was not tested" in printed(report)
    assert [picture.name for picture in report.pictures] == ["parameter_effects", "split_spread"]


# The terminal.


def test_eighty_columns_cut_no_number(any_study):
    text = printed(study_report(any_study))
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    metric = any_study.selection.metric
    trials = any_study.ranked_trials()[:10]
    assert all(f"{trial.mean(metric):.4f}" in text for trial in trials)
    assert all(f"± {trial.std(metric):.4f}" in text for trial in trials if len(trial.folds) > 1)
    for name in any_study.test[0].metrics:
        assert f"{statistics.fmean(fold.metrics[name] for fold in any_study.test):.4f}" in text
        low, high = any_study.test_intervals[name]
        assert f"{low:.4f} to {high:.4f}" in text


def test_the_winner_is_marked_below_the_ten_best_and_tested_once(study):
    result = study(winner_rank=14)
    text = printed(study_report(result))
    marked = [line for line in text.splitlines() if re.match(r"\s*→ ", line) and "selected" not in line]
    assert len(marked) == 1
    assert f"#{result.selection.winner.number} " in marked[0]
    assert "tested once" in text
    assert f"of the best (#{result.selection.best.number})" in text
    assert len(tables(study_report(result), "terminal")[0].rows) == 11


def test_notes_are_told_in_both(study):
    report = study_report(dataclasses.replace(study(), notes=("A cap was met.", "Another.")))
    assert "Note: A cap was met." in printed(report)
    assert "note 1 A cap was met. note 2 Another." in words(report)
