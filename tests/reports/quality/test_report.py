"""What is told of a check of data, section by section, in the terminal and in the export, in every shape."""

import json
import re
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from coldray.reports.export import export
from coldray.reports.quality.contexts import context_table
from coldray.reports.quality.figures import left_out
from coldray.reports.quality.report import (
    _day_label,
    _factor_table,
    _order_table,
    _overlap_table,
    _parts_table,
    _rating_table,
    quality_report,
    summary_table,
    values_of,
)
from coldray.reports.quality.wanted import event_table, positive_table
from coldray.reports.quality.words import amount_label, headline, level_labels
from reports.quality_checks import HOSTILE, SHAPES, quality_check
from reports.reading import cells, printed, words


@pytest.mark.parametrize("shape", SHAPES)
def test_every_finding_of_any_check_is_told(shape):
    check = quality_check(shape)
    report = quality_report(check)
    text = words(report)
    for said in (
        *(finding.sentence for finding in check.findings),
        *check.protocol.values(),
        *left_out(check).values(),
    ):
        assert re.sub(r"\s+", " ", said) in text
    assert report.outcome == headline(check)
    assert report.synthetic == check.dataset["synthetic"]
    assert all(picture.caption and picture.alt for picture in report.pictures)


def test_the_worst_findings_come_first():
    headings = [section.heading for section in quality_report(quality_check("published")).on("page")]
    assert headings[:4] == ["Problems", "Warnings", "Notes", "Parts of the split"]
    assert headline(quality_check("published")).startswith("720 interactions of 60 users with 40 items: 1 problem")
    assert HOSTILE in words(quality_report(quality_check("published")))


def test_the_tables_hold_what_was_counted():
    check = quality_check("published")
    train, test = check.quality.part("train"), check.quality.part("test")
    parts = cells(_parts_table(check))
    assert parts["interactions"] == ["720", f"{train.interactions}", "0", f"{test.interactions}"]
    assert parts["density"] == ["30.00 %", f"{100 * train.density:.2f} %", "–", f"{100 * test.density:.2f} %"]
    assert parts["mean rating ± std"][1] == f"{train.ratings.mean:.3f} ± {train.ratings.std:.3f}"
    assert parts["first day"][2] == "–"
    overlap = _overlap_table(check).rows
    assert [row[1].text for row in overlap] == ["–"] * 4
    assert overlap[2][2].text == f"{test.unseen_items}"
    assert overlap[2][2].note.endswith(f"% of {test.items}")
    order = _order_table(check).rows[0][1]
    assert order.text == f"{check.quality.times.within_user}"
    assert order.note == f"{100 * check.quality.times.within_user / 180:.1f} % of 180"
    shares = cells(_rating_table(check))["3"]
    assert shares[0] == f"{100 * train.ratings.counts[2] / train.interactions:.2f} %"


def test_kinds_and_positives_are_told_in_terminal_page_and_export():
    check = quality_check("kinds")
    report = quality_report(check)
    kinds, found = event_table(check), positive_table(check)
    for place in ("terminal", "page"):
        shown = [part for section in report.on(place) for part in section.parts]
        assert kinds in shown
        assert found in shown
    assert [row[0].text for row in kinds.rows] == ["buy", HOSTILE, "view"]
    assert [row[1].text for row in kinds.rows] == ["200", "9,000", "1"]
    test, at = check.quality.part("test"), [column.text for column in kinds.header].index("test")
    assert [row[at].text for row in kinds.rows] == [f"{count}" for count in test.events]
    assert kinds.rows[0][at].note.endswith(f"of {test.interactions}")
    assert f"users with view alone: {check.quality.kinds.weakest_users} of 60" in kinds.caption
    rows = cells(found)
    assert rows["interactions"][-1] == f"{test.positives.interactions}"
    assert rows["users with one"][-1] == f"{test.positives.users}"
    assert rows["users without"][-1] == f"{test.users - test.positives.users}"
    facts = values_of(check)["facts"]
    assert facts["test"]["events_of buy"] == test.events[0]
    assert facts["all"]["events_read view"] == facts["all"]["event_weight view"] == 1
    assert facts["all"]["weakest_event_users"] == check.quality.kinds.weakest_users
    assert (facts["test"]["positives"], facts["test"]["positive_users"]) == (
        test.positives.interactions, test.positives.users
    )  # fmt: skip


def test_the_factors_beside_no_factors():
    check = quality_check()
    rows, found = cells(_factor_table(check)), check.factors
    without = f"({amount_label(found.rmse_without)} without factors)"
    assert rows["RMSE of train entries"] == [f"{amount_label(found.rmse)} {without}"]
    assert rows["items in a top 10"] == [f"{100 * found.coverage:.2f} %"]


def test_what_is_not_known_has_no_row_or_table():
    clicks = quality_check("clicks")
    assert _rating_table(clicks) is _order_table(clicks) is event_table(clicks) is positive_table(clicks) is None
    assert not {"mean rating ± std", "first day"} & set(cells(_parts_table(clicks)))
    assert _factor_table(quality_check("no factors")) is None


def test_contexts_are_told_a_column_a_row():
    rows = cells(context_table(quality_check("contexts")))
    entropy = -(2 * np.log(2 / 3) + np.log(1 / 3)) / 3 / np.log(2)
    assert rows["device"] == ["2", "25.0 %", f"{entropy:.3f}", f"{HOSTILE * 3} (50.0 %)", "0"]
    assert rows[f"heat {HOSTILE}"] == ["144", "50.0 %", "1.000", "0 to 35.75", "–"]
    assert rows["one"][:4] == ["1", "0.0 %", "–", "x (100.0 %)"]
    assert rows["asked"][:4] == ["3", "0.0 %", "1.000", "–"]
    assert "Context" in [section.heading for section in quality_report(quality_check("contexts")).on("page")]
    assert context_table(quality_check()) is None


@pytest.mark.parametrize(
    ("seconds", "label"),
    [(None, "–"), (0, "1970-01-01"), (1_600_000_000, "2020-09-13"), (10**15, "1,000,000,000,000,000 s"), (-1, "-1 s")],
)
def test_days(seconds, label):
    assert _day_label(seconds) == label


def test_levels_are_values_or_ends_of_bins():
    assert level_labels(quality_check().quality.levels) == ["1", "2", "3", "4", "5"]
    labels = level_labels(quality_check("plays").quality.levels)
    assert labels[0] == "1 to 1.906"
    assert labels[-1].endswith("to 400,000")


# The terminal.


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape != "five parts"])
def test_eighty_columns_hold_all_parts_and_every_finding(shape):
    check = quality_check(shape)
    text = printed(quality_report(check))
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    flat = re.sub(r"\s+", " ", text)
    for finding in check.findings:
        assert f"{finding.level}: {re.sub(r'[ ]+', ' ', finding.sentence)}".replace(" ", "") in flat.replace(" ", "")
    assert f"{check.quality.part('train').interactions:,}" in text


def test_brackets_are_text():
    assert "[red]data[/red]" in printed(quality_report(quality_check("published")), 200)


# The export.


@pytest.mark.parametrize("shape", SHAPES)
def test_facts_come_back_from_the_table_and_from_json(shape, tmp_path):
    check = quality_check(shape)
    report = replace(quality_report(check), sections=())  # figures have tests of their own
    folder = export(report, tmp_path / "out").folder
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
    assert "user-0001" not in str(values_of(quality_check("clicks")))
