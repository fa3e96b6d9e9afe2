"""What is told of a comparison, section by section, in the terminal and in the export, in every shape."""

import dataclasses
import re
import statistics

import polars as pl
import pytest

from coldray.experiments.inspection.item_map import agreement
from coldray.reports.comparison.figures import FIGURES
from coldray.reports.comparison.inspection import agreement_words, nearest_items, slices
from coldray.reports.comparison.report import _results_table, comparison_report, summary_table, values_of
from coldray.reports.comparison.words import TRACKS, findings, headline, shown_metrics
from coldray.reports.tables import known_mean
from reports.reading import cells, printed, table, tables, words


def page_of(result) -> str:
    return words(comparison_report(result))


def plain(text: str) -> str:
    return text.replace("\u00a0", " ")


def changed_lift(result, name, **changes):
    """Return the comparison with another difference in NDCG@10 of one entry to the baseline."""
    entries = []
    for entry in result.entries:
        lifts = dict(entry.over_baseline)
        if entry.name == name:
            lifts["ndcg@10"] = dataclasses.replace(lifts["ndcg@10"], **changes)
        entries.append(dataclasses.replace(entry, over_baseline=lifts))
    return dataclasses.replace(result, entries=tuple(entries))


def test_every_entry_and_the_protocol_of_any_comparison_are_told(any_comparison):
    report = comparison_report(any_comparison)
    text = words(report)
    assert all(entry.name in text for entry in any_comparison.entries)
    assert all(said in text for said in any_comparison.protocol.values())
    assert report.synthetic == any_comparison.dataset["synthetic"]
    assert list(report.files) == ["results.csv", "summary.csv", "results.json"]


def test_figures_of_any_comparison_are_drawn_and_described(any_comparison):
    pictures = comparison_report(any_comparison).pictures
    drawn = 3 + (any_comparison.inspection is not None) + (any_comparison.shown is not None)
    assert tuple(picture.name for picture in pictures) == FIGURES[:drawn]
    assert all(picture.figure.axes and picture.caption and picture.alt for picture in pictures)
    assert all(entry.name in pictures[0].alt for entry in any_comparison.entries)


def test_tracks_are_apart(comparison):
    report = comparison_report(comparison())
    strict, full = table(report, TRACKS["strict"]), table(report, TRACKS["full"])
    assert list(cells(strict)) == ["marec", "marec_plus", "kernel_align"]
    assert list(cells(full)) == ["kernel_align_full"]
    assert (strict.highlighted, full.highlighted) == (None, 0)
    alone = comparison_report(comparison(entries={"marec": "strict"}))
    captions = [shown.caption for shown in tables(alone)]
    assert not any(caption.startswith("Paired") for caption in captions), "a single entry has nothing to differ from"


def test_the_table_holds_validation_spread_interval_trials_and_difference(comparison):
    result = comparison()
    text = page_of(result)
    assert shown_metrics(result) == ("ndcg@10", "hr@10", "hr@50")
    for entry in result.entries:
        values = [fold.metrics["ndcg@10"] for fold in entry.validation]
        row = f"{statistics.fmean(values):.4f} ± {statistics.stdev(values):.4f}"
        for metric in shown_metrics(result):
            tested = [fold.metrics[metric] for fold in entry.folds]
            low, high = entry.intervals[metric]
            row += f" {statistics.fmean(tested):.4f} ± {statistics.stdev(tested):.4f} {low:.4f} to {high:.4f}"
        assert f"{row} 36 28 finished, 6 pruned, 2 failed 2 min 3 s" in text
    kernel = result.entry("kernel_align").over_baseline["ndcg@10"]
    share = f"{100 * kernel.relative:.1f}"
    assert f"+0.0500 (+{share} %) +0.0460 to +0.0550, p < 0.001" in text
    assert "Holm" in text


def test_parts_are_told_by_their_lists_where_errors_of_ratings_decided(comparison):
    told = slices(dataclasses.replace(comparison(inspected=True), metric="rmse"))
    assert told is not None
    assert told.caption.startswith("Test NDCG@10 of cold and warm")
    assert told == slices(comparison(inspected=True))


def test_the_headline_says_who_won_and_by_how_much(comparison):
    result = comparison()
    champion = result.entry("kernel_align_full")
    validation = [fold.metrics["ndcg@10"] for fold in champion.validation]
    tested = statistics.fmean(fold.metrics["ndcg@10"] for fold in champion.folds)
    low, high = champion.intervals["ndcg@10"]
    share = 100 * champion.over_baseline["ndcg@10"].relative
    assert plain(headline(result)) == (
        f"kernel_align_full (full track) has the best validation NDCG@10 among 4 entries, "
        f"{statistics.fmean(validation):.4f} ± {statistics.stdev(validation):.4f}; on the test items it reaches "
        f"{tested:.4f} (95 % interval {low:.4f} to {high:.4f}), +0.0700 (+{share:.1f} %; +0.0660 to +0.0750) over "
        "marec (adjusted p < 0.001)."
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"difference": -0.01, "low": -0.02, "high": -0.005}, "below marec"),
        ({"p_adjusted": 0.06}, "which chance may explain, from marec"),
        ({"low": -0.001}, "which chance may explain, from marec"),
    ],
)
def test_the_headline_claims_no_more_than_the_test_shows(comparison, changes, expected):
    result = changed_lift(comparison(champion="kernel_align"), "kernel_align", **changes)
    assert expected in headline(result)
    assert " over marec" not in headline(result)
    assert plain(headline(result)) in page_of(result)


def test_a_champion_below_another_on_test_stays_and_is_told(comparison):
    result = comparison(champion="marec_plus")
    assert headline(result).startswith("marec_plus (strict track)")
    said = " ".join(findings(result))
    assert "Higher on test than the champion: kernel_align (0.3579), kernel_align_full (0.3779)." in said
    assert "Higher on test" not in " ".join(findings(comparison()))


def test_the_baseline_as_champion_and_a_baseline_that_failed_are_told(comparison):
    assert headline(comparison(champion="marec")).endswith("and it is the baseline itself.")
    lost = dataclasses.replace(comparison(entries={"kernel_align": "strict"}), baseline="marec")
    assert "the baseline marec was not tested" in headline(lost)


def test_failed_entries_are_listed(comparison):
    result = comparison(failed=("content_knn",))
    assert cells(table(comparison_report(result), "Failed entries")) == {
        "content_knn": ["full", result.failed[0].reason]
    }
    assert "content_knn (full track) failed; the reason is below." in page_of(result)
    assert "Failed entries" not in page_of(comparison())


def test_published_numbers_stand_beside_every_entry(comparison, published_dataset):
    text = page_of(comparison(dataset=published_dataset))
    assert re.search(r"CLCRec published 0\.0815 0\.0763 0\.0909 0\.0848", text)
    assert re.search(r"kernel_align_full measured here 0\.\d{4} ± ", text)
    assert "CLCRec" not in page_of(comparison())


# The terminal.


def test_eighty_columns_hold_a_row_for_each_entry(any_comparison):
    text = printed(comparison_report(any_comparison))
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    for entry in any_comparison.entries:
        values = [fold.metrics[any_comparison.metric] for fold in entry.folds]
        assert f"{statistics.fmean(values):.4f}" in text
    for failed in any_comparison.failed:
        assert failed.name in text  # brackets are text


def test_the_champion_is_marked_and_rows_end_with_difference_and_p(comparison):
    lines = [line.split() for line in printed(comparison_report(comparison())).splitlines()]
    rows = {line[line[0] == "→"]: line for line in lines if len(line) > 6 and "±" in line}
    assert rows["kernel_align_full"][0] == "→"
    assert rows["marec"][0] == "marec"
    assert rows["marec"][-2:] == ["–", "–"]
    assert rows["kernel_align"][-3:] == ["+0.0500", "<", "0.001"]
    assert rows["marec_plus"][-2:] == ["+0.0020", "0.930"]


# What is measured besides metrics.


def test_costs_and_parts_are_told_of_each_entry(comparison):
    result = comparison(inspected=True)
    text = page_of(result)
    assert "marec 0.3193 0.40 ms < 1 MB 0.36 ms" in text.replace(
        f"{known_mean(result.entries[0].folds, 'ndcg@10'):.4f}", "0.3193"
    )
    assert "1 min 15 s 1,234 MB 41 ms" in text
    assert "2.5 s – 200 ms" in text
    assert "Cold items at most 10 train clicks, 120 users" in text
    assert "0.1100 ± 0.0000 0.2100 ± 0.0000 0.3100 ± 0.0000 0.4100 ± 0.0000" in text
    assert "0.3000 ± 0.0000 –" in text, "the first entry has no warm users"
    assert "Cold items" not in page_of(comparison())


def test_nearest_items_are_listed_for_those_with_a_map(comparison):
    result = comparison(inspected=True)
    tables = nearest_items(result)
    assert len(tables) == 3
    assert [row[0].text for row in tables[0].rows] == ["marec_plus", "kernel_align", "kernel_align_full"]
    own, first = result.shown.queries[0], result.entries[1].inspections[0].map.neighbours[0][0]
    assert tables[0].caption == f"Nearest to {result.shown.names[own]} (comedy)"
    assert tables[0].rows[0][1].title == result.shown.names[first]
    assert len(tables[0].rows[0]) == 6


def test_the_agreement_of_neighbours_is_told_beside_chance(comparison):
    result = comparison(inspected=True)
    assert agreement_words(result, result.entries[0]) == "", "it has no map"
    found, chance = agreement(result.entries[1].inspections[0].map, result.shown.matrix)
    assert agreement_words(result, result.entries[1]) == f"{100 * found:.0f} % (chance {100 * chance:.0f} %)"
    assert "share a label" in comparison_report(result).pictures[-1].alt


def test_a_comparison_of_interactions_speaks_of_them(comparison):
    result = comparison(entries={"marec": "strict", "ease": "clicks"}, held_out="interactions")
    text = page_of(result)
    assert "Entries on the test interactions" in text
    assert "on the test interactions it reaches" in headline(result)
    assert TRACKS["clicks"] in text
    assert values_of(result)["held_out"] == "interactions"


def test_costs_and_parts_are_in_the_export(comparison):
    (first, *_) = values_of(comparison(inspected=True))["entries"]["kernel_align"]["inspections"]
    assert first["costs"] == {"fit_seconds": 2.5, "fit_peak_bytes": None, "score_seconds": 0.2}
    assert first["slices"]["cold_items"] == {
        "n_users": 122,
        "n_items": 40,
        "metrics": pytest.approx({"ndcg@10": 0.12, "hr@10": 0.2}),
    }


# The export.


def test_results_have_a_row_for_each_value(comparison):
    result = comparison(failed=("content_knn",))
    read = {tuple(row[:6]): row[6] for row in _results_table(result).iter_rows()}
    assert read == {
        (entry.name, entry.track, part, fold.seed, fold.split, metric): value
        for entry in result.entries
        for part, folds in (("validation", entry.validation), ("test", entry.folds))
        for fold in folds
        for metric, value in fold.metrics.items()
    }
    values = values_of(result)
    assert (values["champion"], values["baseline"]) == ("kernel_align_full", "marec")
    assert values["entries"]["kernel_align"]["over_baseline"]["ndcg@10"]["difference"] == pytest.approx(0.05)
    assert set(values["failed"]) == {"content_knn"}


def test_the_summary_has_a_row_for_each_entry_and_metric(any_comparison):
    table = summary_table(any_comparison)
    assert len(table) == sum(len(entry.folds[0].metrics) for entry in any_comparison.entries)
    assert len(_results_table(any_comparison)) == 2 * len(table) * len(any_comparison.entries[0].folds)
    for entry in any_comparison.entries:
        metric = any_comparison.metric
        (row,) = table.filter(pl.col("entry") == entry.name, pl.col("metric") == metric).iter_rows(named=True)
        assert row["mean"] == statistics.fmean(fold.metrics[metric] for fold in entry.folds)
        lift = entry.over_baseline.get(metric)
        assert row["over_baseline"] == (lift.difference if lift else None)
        assert row["over_baseline_p_adjusted"] == (lift.p_adjusted if lift else None)
        assert row["rival"] == entry.rival
