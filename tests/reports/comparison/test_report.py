"""The report of a comparison, its figures, its export and its summary in the terminal, in every shape."""

import dataclasses
import html as markup
import io
import json
import re
import statistics
import zipfile

import polars as pl
import pytest
from PIL import Image
from rich.console import Console

from coldray.core.errors import OutputError
from coldray.experiments.inspection.item_map import agreement
from coldray.reports.comparison import report as comparison_export
from coldray.reports.comparison.console import console_comparison
from coldray.reports.comparison.figures import FIGURES, comparison_figures
from coldray.reports.comparison.inspection_tables import agreement_words, nearest_items
from coldray.reports.comparison.report import (
    comparison_page,
    export_comparison,
    results_table,
    summary_table,
    tracks,
    values_of,
    write_comparison_report,
)
from coldray.reports.comparison.words import TRACKS, figure_words, findings, headline, shown_metrics
from coldray.reports.modes import mode_mean
from coldray.reports.page import SYNTHETIC_LABEL

TAG = re.compile(r"<[^>]+>")


def words_of(page: str) -> str:
    return re.sub(r"\s+", " ", markup.unescape(TAG.sub(" ", page.partition("<main>")[2]))).replace("\u00a0", " ")


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


def test_the_page_of_any_comparison_stands_alone(any_comparison, tmp_path):
    path = write_comparison_report(any_comparison, tmp_path / "a" / "report.html", figures={})
    html = path.read_text(encoding="utf-8")
    assert not re.search(r"<script|<link|<iframe|url\(|@import|https?://", html)
    text = words_of(html)
    for entry in any_comparison.entries:
        assert entry.name in text
    for said in any_comparison.protocol.values():
        assert said in text
    assert html.count("<caption>") == html.count("<table")


def test_figures_of_any_comparison_are_drawn_and_described(any_comparison, tmp_path):
    figures = comparison_figures(any_comparison)
    drawn = 3 + (any_comparison.inspection is not None) + (any_comparison.shown is not None)
    assert tuple(figures) == FIGURES[:drawn]
    words = figure_words(any_comparison)
    assert set(words) == set(FIGURES)
    assert all(caption and alt for caption, alt in words.values())
    html = comparison_page(any_comparison, {name: figures[name] for name in FIGURES[1:2]})
    assert html.count("data:image/png;base64,") == 1
    for entry in any_comparison.entries:
        assert entry.name in words["entries_on_test"][1]


def test_tracks_are_apart(comparison):
    strict, full = tracks(comparison())
    assert [row[0].text for row in strict[0].rows] == ["marec", "marec_plus", "kernel_align"]
    assert [row[0].text for row in full[0].rows] == ["kernel_align_full"]
    assert strict[0].caption.startswith(TRACKS["strict"])
    assert full[0].caption.startswith(TRACKS["full"])
    assert (strict[0].highlighted, full[0].highlighted) == (None, 0)
    (alone,) = tracks(comparison(entries={"marec": "strict"}))
    assert len(alone) == 1, "a single entry has nothing to differ from"


def test_the_table_holds_validation_spread_interval_trials_and_difference(comparison):
    result = comparison()
    text = words_of(comparison_page(result, {}))
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
    assert plain(headline(result)) in words_of(comparison_page(result, {}))


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


def test_failed_entries_are_listed_and_escaped(comparison):
    result = comparison(failed=("content_knn",))
    html = comparison_page(result, {})
    assert "<script>alert" not in html
    assert "Failed entries and what stopped them" in html
    assert html.count("NaN in the normal equations") == 1
    assert "content_knn (full track) failed; the reason is below." in html
    assert "Failed entries" not in comparison_page(comparison(), {})


def test_generated_data_has_its_banner(comparison, published_dataset):
    assert SYNTHETIC_LABEL in comparison_page(comparison(dataset={**published_dataset, "synthetic": True}), {})
    assert SYNTHETIC_LABEL not in comparison_page(comparison(), {})


def test_published_numbers_stand_beside_every_entry(comparison, published_dataset):
    text = words_of(comparison_page(comparison(dataset=published_dataset), {}))
    assert re.search(r"CLCRec published 0\.0815 0\.0763 0\.0909 0\.0848", text)
    assert re.search(r"kernel_align_full measured here 0\.\d{4} ± ", text)
    assert "CLCRec" not in words_of(comparison_page(comparison(), {}))


# The terminal.


def printed(result) -> str:
    console = Console(width=80, file=io.StringIO())
    console.print(console_comparison(result))
    return console.file.getvalue()


def test_eighty_columns_hold_a_row_for_each_entry(any_comparison):
    text = printed(any_comparison)
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    for entry in any_comparison.entries:
        values = [fold.metrics[any_comparison.metric] for fold in entry.folds]
        assert f"{statistics.fmean(values):.4f}" in text
    assert (SYNTHETIC_LABEL in text) == any_comparison.dataset["synthetic"]
    for failed in any_comparison.failed:
        assert failed.name in text  # brackets are text


def test_the_champion_is_marked_and_rows_end_with_difference_and_p(comparison):
    lines = [line.split() for line in printed(comparison()).splitlines()]
    rows = {line[line[0] == "→"]: line for line in lines if len(line) > 6 and "±" in line}
    assert rows["kernel_align_full"][0] == "→"
    assert rows["marec"][0] == "marec"
    assert rows["marec"][-2:] == ["–", "–"]
    assert rows["kernel_align"][-3:] == ["+0.0500", "<", "0.001"]
    assert rows["marec_plus"][-2:] == ["+0.0020", "0.930"]


# What is measured besides metrics.


def test_costs_and_parts_are_told_of_each_entry(comparison):
    result = comparison(inspected=True)
    text = words_of(comparison_page(result, {}))
    assert "marec 0.3193 0.40 ms < 1 MB 0.36 ms" in text.replace(
        f"{mode_mean(result.entries[0], 'ndcg@10'):.4f}", "0.3193"
    )
    assert "1 min 15 s 1,234 MB 41 ms" in text
    assert "2.5 s – 200 ms" in text
    assert "Cold items at most 10 train clicks, 120 users" in text
    assert "0.1100 ± 0.0000 0.2100 ± 0.0000 0.3100 ± 0.0000 0.4100 ± 0.0000" in text
    assert "0.3000 ± 0.0000 –" in text, "the first entry has no warm users"
    assert "Cold items" not in words_of(comparison_page(comparison(), {}))


def test_nearest_items_are_listed_for_those_with_a_map_and_escaped(comparison):
    result = comparison(inspected=True)
    tables = nearest_items(result)
    assert len(tables) == 3
    assert [row[0].text for row in tables[0].rows] == ["marec_plus", "kernel_align", "kernel_align_full"]
    own, first = result.shown.queries[0], result.entries[1].inspections[0].map.neighbours[0][0]
    assert tables[0].caption == f"Nearest to {result.shown.names[own]} (comedy)"
    assert tables[0].rows[0][1].title == result.shown.names[first]
    assert len(tables[0].rows[0]) == 6
    html = comparison_page(result, {})
    assert "<b>Item" not in html
    assert "&lt;b&gt;Item" in html


def test_the_agreement_of_neighbours_is_told_beside_chance(comparison):
    result = comparison(inspected=True)
    assert agreement_words(result, result.entries[0]) == "", "it has no map"
    found, chance = agreement(result.entries[1].inspections[0].map, result.shown.matrix)
    assert agreement_words(result, result.entries[1]) == f"{100 * found:.0f} % (chance {100 * chance:.0f} %)"
    assert "share a label" in figure_words(result)["item_maps"][1]


def test_a_comparison_of_interactions_speaks_of_them(comparison):
    result = comparison(entries={"marec": "strict", "ease": "clicks"}, held_out="interactions")
    text = words_of(comparison_page(result, {}))
    assert "Entries on the test interactions" in text
    assert "on the test interactions it reaches" in headline(result)
    assert TRACKS["clicks"] in text
    assert json.loads(json.dumps(values_of(result)["held_out"])) == "interactions"


def test_costs_and_parts_are_in_the_export(comparison):
    (first, *_) = values_of(comparison(inspected=True))["entries"]["kernel_align"]["inspections"]
    assert first["costs"] == {"fit_seconds": 2.5, "fit_peak_bytes": None, "score_seconds": 0.2}
    assert first["slices"]["cold_items"] == {
        "n_users": 122,
        "n_items": 40,
        "metrics": pytest.approx({"ndcg@10": 0.12, "hr@10": 0.2}),
    }


# The export.

NAMES = {
    "report.html",
    "results.csv",
    "summary.csv",
    "results.json",
    *(f"{name}{suffix}" for name in FIGURES for suffix in (".png", ".svg")),
}


def test_every_file_is_written_and_packed(comparison, tmp_path):
    files = export_comparison(comparison(inspected=True), tmp_path / "runs" / "out")
    assert {path.name for path in files.folder.iterdir()} == NAMES == {path.name for path in files.written}
    for name in FIGURES:
        with Image.open(files.folder / f"{name}.png") as image:
            assert min(image.size) > 400
        assert "<svg" in (files.folder / f"{name}.svg").read_text(encoding="utf-8")
    with zipfile.ZipFile(files.archive) as packed:
        assert packed.namelist() == sorted(f"out/{name}" for name in NAMES)
        assert packed.read("out/report.html") == (files.folder / "report.html").read_bytes()


@pytest.fixture
def quick(monkeypatch):
    """Leave the figures out."""
    monkeypatch.setattr(comparison_export, "comparison_figures", lambda result: {})


@pytest.mark.usefixtures("quick")
def test_values_come_back_from_the_tables(comparison, tmp_path):
    result = comparison(failed=("content_knn",))
    folder = export_comparison(result, tmp_path / "out").folder
    table = pl.read_csv(folder / "results.csv")
    read = {tuple(row[:6]): row[6] for row in table.iter_rows()}
    expected = {
        (entry.name, entry.track, part, fold.seed, fold.split, metric): value
        for entry in result.entries
        for part, folds in (("validation", entry.validation), ("test", entry.folds))
        for fold in folds
        for metric, value in fold.metrics.items()
    }
    assert read == expected
    values = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert (values["champion"], values["baseline"]) == ("kernel_align_full", "marec")
    assert values["entries"]["kernel_align"]["over_baseline"]["ndcg@10"]["difference"] == pytest.approx(0.05)
    assert set(values["failed"]) == {"content_knn"}


def test_the_summary_has_a_row_for_each_entry_and_metric(any_comparison):
    table = summary_table(any_comparison)
    assert len(table) == sum(len(entry.folds[0].metrics) for entry in any_comparison.entries)
    assert len(results_table(any_comparison)) == 2 * len(table) * len(any_comparison.entries[0].folds)
    for entry in any_comparison.entries:
        metric = any_comparison.metric
        (row,) = table.filter(pl.col("entry") == entry.name, pl.col("metric") == metric).iter_rows(named=True)
        assert row["mean"] == statistics.fmean(fold.metrics[metric] for fold in entry.folds)
        lift = entry.over_baseline.get(metric)
        assert row["over_baseline"] == (lift.difference if lift else None)
        assert row["over_baseline_p_adjusted"] == (lift.p_adjusted if lift else None)
        assert row["rival"] == entry.rival


@pytest.mark.usefixtures("quick")
def test_files_of_others_are_left_alone(comparison, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"holds 'thesis\.txt'"):
        export_comparison(comparison(), tmp_path / "out")
    assert (tmp_path / "out" / "thesis.txt").read_text() == "mine"


def test_the_same_comparison_gives_the_same_bytes(comparison, tmp_path):
    archives = [export_comparison(comparison(), tmp_path / str(i) / "out").archive for i in range(2)]
    assert archives[0].read_bytes() == archives[1].read_bytes()
