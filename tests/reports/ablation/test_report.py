"""What is told of an ablation, section by section, in the terminal and in the export, in every shape."""

import dataclasses
import re
import statistics

import pytest

from coldray.experiments.results import mean_metric, std_metric
from coldray.reports.ablation.diagnostics import _PANELS, FIGURES
from coldray.reports.ablation.report import _summary_table, ablation_report
from coldray.reports.ablation.words import headline, leading_metric, verdicts
from reports.reading import printed, words


def page_of(result) -> str:
    return words(ablation_report(result))


def plain(text: str) -> str:
    return text.replace("\u00a0", " ")


def changed_lift(result, **changes):
    """Return the ablation with another lift in NDCG@10 of its last mode."""
    last = result.modes[-1]
    lifts = {**last.lifts, "ndcg@10": dataclasses.replace(last.lifts["ndcg@10"], **changes)}
    return dataclasses.replace(result, modes=(*result.modes[:-1], dataclasses.replace(last, lifts=lifts)))


def test_every_mode_and_the_protocol_of_any_ablation_are_told(any_ablation):
    report = ablation_report(any_ablation)
    text = words(report)
    assert all(mode.name in text for mode in any_ablation.modes)
    assert all(said in text for said in any_ablation.protocol.values())
    assert report.synthetic == any_ablation.dataset["synthetic"]
    assert report.names == FIGURES == tuple(picture.name for picture in report.pictures)
    assert all(picture.caption and picture.alt for picture in report.pictures)


def test_the_figure_of_all_panels_is_a_file_and_each_panel_is_on_the_page(ablation):
    report = ablation_report(ablation())
    galleries = [part for section in report.on("page") for part in section.parts if hasattr(part, "pictures")]
    assert [picture.name for gallery in galleries for picture in gallery.pictures] == [panel.name for panel in _PANELS]
    assert len(_PANELS) == 12
    assert report.pictures[0].name == "diagnostics"


def test_the_table_holds_spread_interval_lift_and_adjusted_p(ablation):
    result = ablation()
    text = page_of(result)
    for mode in result.modes:
        for metric in ("hr@10", "ndcg@10", "hr@50", "ndcg@50"):
            values = [fold.metrics[metric] for fold in mode.folds]
            low, high = mode.intervals[metric]
            assert f"{statistics.fmean(values):.4f} ± {statistics.stdev(values):.4f} {low:.4f} to {high:.4f}" in text
    assert re.search(r"\+CA\+UA\+GE \+6\.4 % \+5\.0 to \+8\.0 %, p < 0\.001", text)
    assert re.search(r"\+CA\+UA −0\.3 % −1\.7 to \+1\.3 %, p = 0\.930", text)
    assert "Holm" in text


def test_the_headline_says_by_how_much_and_how_surely(ablation):
    assert plain(headline(ablation())) == (
        "+CA+UA+GE beats MARec on mean test NDCG@10: 0.3283 against 0.3093, a difference of +0.0190 (+6.3 %; 95 % "
        "interval +0.0150 to +0.0240), adjusted p < 0.001 (Holm)."
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"difference": -0.002, "relative": -0.006}, "does not beat MARec"),
        ({"difference": 0.0, "relative": 0.0}, "does not beat MARec"),
        ({"p_adjusted": 0.05}, "but not beyond what chance explains"),
        ({"low": -0.001}, "but not beyond what chance explains"),
    ],
)
def test_the_headline_claims_no_more_than_the_test_shows(ablation, changes, words):
    result = changed_lift(ablation(modes=("MARec", "+CA")), **changes)
    assert words in headline(result)
    assert plain(headline(result)) in page_of(result)
    assert "+CA helps" not in " ".join(verdicts(result))


def test_the_baseline_alone_beats_nothing(ablation):
    result = ablation(modes=("MARec",))
    assert headline(result) == "MARec reaches a mean test NDCG@10 of 0.3093; nothing is compared."
    assert verdicts(result) == []


def test_a_part_whose_weight_was_tuned_to_zero_does_not_help(ablation):
    first, second, third = map(plain, verdicts(ablation()))
    assert first == "+CA helps: +4.0 % over MARec in NDCG@10, adjusted p < 0.001."
    assert second.startswith("+CA+UA does not help beyond +CA: the fusion weight of UA was tuned to 0")
    assert third.startswith("+CA+UA+GE helps beyond +CA+UA: +0.0200 in NDCG@10 over users, p < 0.001 (+6.3 % over")


def test_a_weight_of_zero_counts_even_above_a_positive_lift(ablation):
    (said,) = verdicts(ablation(modes=("MARec", "+CA"), configs={"+CA": {"ca_weight": 0}}))
    assert "does not help beyond MARec: the fusion weight of CA was tuned to 0" in said


def test_a_lift_that_is_not_positive_does_not_help(ablation):
    (said,) = verdicts(ablation(modes=("MARec", "+CA"), gains={"+CA": -0.001}, configs={}))
    assert plain(said) == "+CA does not help: −0.3 % over MARec in NDCG@10, adjusted p = 0.930."


def test_a_later_part_is_held_against_the_mode_before_it(ablation):
    """All that +CA gained is still there with +UA, which lost some of it: above MARec, but no help."""
    second = verdicts(ablation(gains={"+CA": 0.012, "+CA+UA": 0.011, "+CA+UA+GE": 0.019}, configs={}))[1]
    assert plain(second).startswith("+CA+UA is not shown to help beyond +CA: −0.0010 in NDCG@10 over users")
    assert "over MARec" in second


def test_the_configuration_of_each_mode_is_listed(ablation):
    text = page_of(ablation())
    assert re.search(r"ca weight – 0\.4 0\.4 0\.4", text)
    assert re.search(r"ua weight – 0 0 0", text)
    assert re.search(r"ge kl weight – – – 1", text)
    assert re.search(r"λ₁ 1000 1000 1000 1000", text)


def test_published_numbers_stand_beside_every_mode_on_the_same_dataset(ablation, published_dataset):
    text = page_of(ablation(dataset=published_dataset))
    assert re.search(r"CLCRec published 0\.0815 0\.0763 0\.0909 0\.0848", text)
    assert re.search(r"\+CA\+UA\+GE measured here 0\.3143 ± 0\.0069", text)
    assert re.search(r"users 2,107 2,107 same", text)
    assert re.search(r"averages averages over 10 item-cold folds averages over 6 folds compare", text)
    other = page_of(ablation())
    assert "CLCRec" not in other
    assert "There is no comparison with published numbers" in other
    assert re.search(r"users 2,107 6,040 differs", other)


def test_eighty_columns_hold_a_row_for_each_mode(any_ablation):
    text = printed(ablation_report(any_ablation))
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    for mode in any_ablation.modes:
        metric = leading_metric(any_ablation)
        assert f"{statistics.fmean(fold.metrics[metric] for fold in mode.folds):.4f}" in text


def test_a_row_ends_with_lift_and_adjusted_p(ablation):
    lines = [line.split() for line in printed(ablation_report(ablation())).splitlines()]
    rows = {line[0]: line[1:] for line in lines if line and line[0] in ("MARec", "+CA", "+CA+UA", "+CA+UA+GE")}
    assert rows["MARec"] == ["0.2953", "0.3093", "±", "0.0069", "0.3677", "–", "–"]
    assert rows["+CA+UA"][-3:] == ["−0.3", "%", "0.930"]


# The export.


def test_results_have_a_row_for_each_value(ablation):
    result = ablation()
    table = ablation_report(result).files["ablation_results.csv"]
    assert table.columns == ["mode", "seed", "split", "metric", "value"]
    assert {tuple(row[:4]): row[4] for row in table.iter_rows()} == {
        (mode.name, fold.seed, fold.split, metric): value
        for mode in result.modes
        for fold in mode.folds
        for metric, value in fold.metrics.items()
    }


def test_the_summary_has_a_row_for_each_mode_and_metric(ablation):
    result = ablation()
    table = ablation_report(result).files["ablation_summary.csv"]
    assert len(table) == len(result.modes) * len(result.modes[0].folds[0].metrics)
    rows = {(row["mode"], row["metric"]): row for row in table.iter_rows(named=True)}
    mode = result.modes[-1]
    row, lift = rows[mode.name, "ndcg@10"], mode.lifts["ndcg@10"]
    measured = (6, mean_metric(mode.folds, "ndcg@10"), std_metric(mode.folds, "ndcg@10"))
    assert (row["folds"], row["mean"], row["std"]) == measured
    assert (row["low"], row["high"]) == mode.intervals["ndcg@10"]
    assert (row["lift"], row["lift_low"], row["lift_high"]) == (lift.difference, lift.low, lift.high)
    assert (row["relative_lift"], row["p_value"], row["p_adjusted"]) == (lift.relative, lift.p_value, lift.p_adjusted)
    assert rows["MARec", "ndcg@10"]["lift"] is None
    assert rows[mode.name, "coverage@10"]["low"] is None


def test_a_single_fold_has_no_deviation(ablation):
    assert _summary_table(ablation(folds=((42, 0),)))["std"].null_count() == len(_summary_table(ablation()))


def test_folds_that_differ_in_their_metrics_are_all_kept(ablation):
    result = ablation(modes=("MARec",), folds=((1, 0), (1, 1)), cutoffs=(10,))
    mode = result.modes[0]
    shorter = dataclasses.replace(mode.folds[1], metrics={"hr@10": 0.25})
    result = dataclasses.replace(result, modes=(dataclasses.replace(mode, folds=(mode.folds[0], shorter)),))
    files = ablation_report(result).files
    assert len(files["ablation_results.csv"]) == 4
    assert files["ablation_summary.csv"]["metric"].to_list() == ["hr@10"]


def test_the_configuration_of_each_mode_is_in_the_export(ablation):
    result = ablation()
    config = ablation_report(result).files["config.json"]
    assert config["modes"] == {mode.name: mode.config for mode in result.modes}
    assert (config["cutoffs"], config["correction"]) == ((5, 10, 20, 50, 100), "Holm")
    assert config["dataset"]["n_users"] == 6040
