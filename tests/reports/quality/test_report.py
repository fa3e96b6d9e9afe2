"""The report of a check of data, its summary in the terminal, and its export, in every shape."""

import html as markup
import io
import json
import re
import zipfile

import polars as pl
import pytest
from PIL import Image
from rich.console import Console

from coldray.core.errors import OutputError
from coldray.reports.page import SYNTHETIC_LABEL
from coldray.reports.quality import report as quality_export
from coldray.reports.quality.console import console_check
from coldray.reports.quality.figures import left_out, quality_figures
from coldray.reports.quality.report import (
    day_label,
    export_check,
    factor_table,
    order_table,
    overlap_table,
    parts_table,
    quality_page,
    rating_table,
    summary_table,
    values_of,
    write_quality_report,
)
from coldray.reports.quality.words import amount_label, headline, level_labels
from reports.quality_checks import HOSTILE, SHAPES, quality_check

TAG = re.compile(r"<[^>]+>")


def words_of(page):
    return re.sub(r"\s+", " ", markup.unescape(TAG.sub(" ", page.partition("<main>")[2])))


def cells(table):
    return {row[0].text: [cell.text for cell in row[1:]] for row in table.rows}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_page_of_any_check_stands_alone_and_tells_every_finding(shape, tmp_path):
    check = quality_check(shape)
    html = write_quality_report(check, tmp_path / "report.html", {}).read_text(encoding="utf-8")
    assert not re.search(r"<script|<link|<iframe|url\(|@import|https?://", html)
    text = words_of(html)
    for finding in check.findings:
        assert re.sub(r"\s+", " ", finding.sentence) in text
    for said in (headline(check), *check.protocol.values(), *left_out(check).values()):
        assert re.sub(r"\s+", " ", said) in text
    assert html.count("<caption>") == html.count("<table")
    assert (SYNTHETIC_LABEL in text) == check.dataset["synthetic"]


def test_hostile_names_are_escaped():
    html = quality_page(quality_check("published"), {})
    assert "<script" not in html
    assert html.count("&lt;script&gt;alert(") >= 3


def test_figures_are_set_into_the_page_with_words():
    check = quality_check()
    html = quality_page(check, quality_figures(check))
    assert html.count("data:image/png;base64,") == 5
    assert all(alt for alt in re.findall(r'<img [^>]*alt="([^"]*)"', html))


def test_the_worst_findings_come_first():
    html = quality_page(quality_check("published"), {})
    places = [html.find(f"<h2>{heading}</h2>") for heading in ("Problems", "Warnings", "Notes", "Parts of the split")]
    assert places == sorted(places)
    assert -1 not in places
    assert headline(quality_check("published")).startswith("720 interactions of 60 users with 40 items: 1 problem")


def test_the_tables_hold_what_was_counted():
    check = quality_check("published")
    train, test = check.quality.part("train"), check.quality.part("test")
    parts = cells(parts_table(check))
    assert parts["interactions"] == ["720", f"{train.interactions}", "0", f"{test.interactions}"]
    assert parts["density"] == ["30.00 %", f"{100 * train.density:.2f} %", "–", f"{100 * test.density:.2f} %"]
    assert parts["mean rating ± std"][1] == f"{train.ratings.mean:.3f} ± {train.ratings.std:.3f}"
    assert parts["first day"][2] == "–"
    overlap = overlap_table(check).rows
    assert [row[1].text for row in overlap] == ["–"] * 4
    assert overlap[2][2].text == f"{test.unseen_items}"
    assert overlap[2][2].note.endswith(f"% of {test.items}")
    order = order_table(check).rows[0][1]
    assert order.text == f"{check.quality.times.within_user}"
    assert order.note == f"{100 * check.quality.times.within_user / 180:.1f} % of 180"
    shares = cells(rating_table(check))["3"]
    assert shares[0] == f"{100 * train.ratings.counts[2] / train.interactions:.2f} %"


def test_the_factors_beside_no_factors():
    check = quality_check()
    rows, found = cells(factor_table(check)), check.factors
    without = f"({amount_label(found.rmse_without)} without factors)"
    assert rows["RMSE of train entries"] == [f"{amount_label(found.rmse)} {without}"]
    assert rows["items in a top 10"] == [f"{100 * found.coverage:.2f} %"]


def test_what_is_not_known_has_no_row_or_table():
    clicks = quality_check("clicks")
    assert rating_table(clicks) is order_table(clicks) is None
    assert not {"mean rating ± std", "first day"} & set(cells(parts_table(clicks)))
    assert factor_table(quality_check("no factors")) is None


@pytest.mark.parametrize(
    ("seconds", "label"),
    [(None, "–"), (0, "1970-01-01"), (1_600_000_000, "2020-09-13"), (10**15, "1,000,000,000,000,000 s"), (-1, "-1 s")],
)
def test_days(seconds, label):
    assert day_label(seconds) == label


def test_levels_are_values_or_ends_of_bins():
    assert level_labels(quality_check().quality.levels) == ["1", "2", "3", "4", "5"]
    labels = level_labels(quality_check("plays").quality.levels)
    assert labels[0] == "1 to 1.906"
    assert labels[-1].endswith("to 400,000")


# The terminal.


def printed(check, width=80):
    console = Console(width=width, file=io.StringIO())
    console.print(console_check(check))
    return console.file.getvalue()


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape != "five parts"])
def test_eighty_columns_hold_all_parts_and_every_finding(shape):
    check = quality_check(shape)
    text = printed(check)
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    flat = re.sub(r"\s+", " ", text)
    for finding in check.findings:
        assert f"{finding.level}: {re.sub(r'[ ]+', ' ', finding.sentence)}".replace(" ", "") in flat.replace(" ", "")
    assert f"{check.quality.part('train').interactions:,}" in text
    assert (SYNTHETIC_LABEL in text) == check.dataset["synthetic"]


def test_brackets_are_text():
    assert "[red]data[/red]" in printed(quality_check("published"), 200)


# The export.


@pytest.mark.parametrize("shape", ["plain", "clicks"])
def test_every_file_is_written_and_packed(shape, tmp_path):
    check = quality_check(shape)
    files = export_check(check, tmp_path / "runs" / "out")
    drawn = quality_figures(check)
    names = {"report.html", "summary.csv", "results.json", *(f"{n}{end}" for n in drawn for end in (".png", ".svg"))}
    assert {path.name for path in files.folder.iterdir()} == names
    for name in drawn:
        with Image.open(files.folder / f"{name}.png") as image:
            assert min(image.size) > 400
        assert "<svg" in (files.folder / f"{name}.svg").read_text(encoding="utf-8")
    with zipfile.ZipFile(files.archive) as packed:
        assert packed.namelist() == sorted(f"out/{name}" for name in names)


@pytest.fixture
def quick(monkeypatch):
    """Leave the figures out."""
    monkeypatch.setattr(quality_export, "quality_figures", lambda check: {})


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("shape", SHAPES)
def test_facts_come_back_from_the_table_and_from_json(shape, tmp_path):
    check = quality_check(shape)
    folder = export_check(check, tmp_path / "out").folder
    read = {(part, fact): value for part, fact, value in pl.read_csv(folder / "summary.csv").iter_rows()}
    assert len(read) == len(summary_table(check)), "a part has a fact twice"
    for part in check.quality.parts:
        assert read[part.name, "interactions"] == part.interactions
        assert read[part.name, "sparsity"] == part.sparsity
        assert read.get((part.name, "last_time")) == part.last
        if part.ratings is not None:
            labels = level_labels(check.quality.levels)
            counts = tuple(read[part.name, f"ratings_of {label}"] for label in labels)
            assert counts == part.ratings.counts
    values = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert {(part, fact): value for part, facts in values["facts"].items() for fact, value in facts.items()} == read
    assert [finding["text"] for finding in values["findings"]] == [finding.text for finding in check.findings]
    assert (values["without_factors"] is None) == (check.factors is not None)
    if check.factors is not None:
        assert read["train", "svd_rmse"] == check.factors.rmse
        assert values["singular_values"] == check.factors.values.tolist()


def test_no_user_and_no_item_is_named_in_the_values():
    assert "user-0001" not in json.dumps(quality_export.plain(values_of(quality_check("clicks"))))


@pytest.mark.usefixtures("quick")
def test_an_earlier_export_is_replaced_and_files_of_others_are_left_alone(tmp_path):
    export_check(quality_check(), tmp_path / "out")
    files = export_check(quality_check("clicks"), tmp_path / "out")
    assert "Synthetic" in files.report.read_text(encoding="utf-8")
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"holds 'thesis\.txt'"):
        export_check(quality_check(), tmp_path / "out")
    assert "Synthetic" in files.report.read_text(encoding="utf-8")
    assert (tmp_path / "out" / "thesis.txt").read_text() == "mine"


def test_a_failing_export_leaves_nothing(tmp_path, monkeypatch):
    def fails(*_, **__):
        raise OutputError("The disk is full.")

    monkeypatch.setattr(quality_export, "quality_figures", lambda check: {})
    monkeypatch.setattr(quality_export, "write_quality_report", fails)
    with pytest.raises(OutputError, match="full"):
        export_check(quality_check(), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_the_same_check_gives_the_same_bytes(tmp_path):
    archives = [export_check(quality_check("clicks"), tmp_path / str(i) / "out").archive for i in range(2)]
    assert archives[0].read_bytes() == archives[1].read_bytes()


def test_a_hostile_name_is_in_the_page_as_text():
    assert HOSTILE in words_of(quality_page(quality_check("published"), {}))
