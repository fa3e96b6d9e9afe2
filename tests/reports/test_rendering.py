"""A report as a page, in a terminal and as files: every kind of part, and nothing in it is trusted."""

import json
import math
import re
import zipfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from matplotlib.figure import Figure

from coldray.core.errors import OutputError
from coldray.reports.export import export, page, write_files, write_page
from coldray.reports.report import (
    SYNTHETIC_LABEL,
    Callout,
    Cell,
    Columns,
    Gallery,
    Links,
    Picture,
    Report,
    Section,
    Table,
    Text,
    number,
)
from coldray.reports.style import new_figure
from reports.reading import Page, printed

HOSTILE = "<script>alert('x')</script> & \"quoted\" [bold]a[/bold] [/]"
ODD = {"a": np.float32(0.5), "b": (1, 2), "c": Path("x"), "d": math.inf, "e": None, "f": {"g": True}, 3: "é"}


def drawn() -> Figure:
    figure = new_figure(3, 2)
    figure.subplots().plot([0, 1], [0, 1])
    return figure


PICTURE = Picture("a_line", drawn, f"A line of {HOSTILE}.", f"From 0 to 1, {HOSTILE}.")
TABLE = Table(
    f"Values of {HOSTILE}",
    (Cell("Name", note="a note"), number("Value", note=HOSTILE)),
    ((Cell(HOSTILE, title=f"whole {HOSTILE}"), number("0.1250", note="0.1 to 0.2")), (Cell("other"), number("0.5"))),
    highlighted=1,
)
FACTS = Table("Facts", (), ((Cell("key"), Cell("value of a fact")),), look="facts")
PARTS = {
    "text": Text(f"A paragraph of {HOSTILE}."),
    "table": TABLE,
    "columns": Columns((FACTS, replace(FACTS, caption="More facts"))),
    "callout": Callout((f"Noticed {HOSTILE}.", "And this."), "Note", "yellow"),
    "links": Links("Others:", {HOSTILE: "%3Cb%3E/report.html"}),
    "gallery": Gallery((PICTURE,)),
}


@pytest.fixture
def report() -> Report:
    """Return a report with every kind of part."""
    return Report(
        title=f"Title {HOSTILE}",
        outcome=f"Outcome {HOSTILE}.",
        sections=tuple(Section(f"Heading of {name} {HOSTILE}", (part, None)) for name, part in PARTS.items()),
        synthetic=False,
        files={"values.csv": pl.DataFrame({"name": [HOSTILE], "value": [1 / 3]}), "values.json": ODD},
    )


# The page.


def test_a_page_stands_alone_is_accessible_and_escapes_every_text(report):
    html = page(report)
    found = Page(html)
    for tag, attributes in found.elements:
        assert tag not in {"script", "link", "iframe", "object"}
        for name in ("src", "data", "srcset"):
            assert (attributes.get(name) or "data:").startswith("data:"), (tag, attributes)
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
    assert not re.search(r"url\(|@import|https?://", html)
    assert [image["alt"] for image in found.all("img")] == [PICTURE.alt]
    assert found.all("html")[0]["lang"] == "en"
    assert len(found.all("caption")) == len(found.all("table")) == 3
    levels = [int(tag[1]) for tag, _ in found.elements if re.fullmatch(r"h[1-6]", tag)]
    assert (levels[0], levels.count(1)) == (1, 1)
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert found.text.count(HOSTILE) == 16
    assert [link["href"] for link in found.all("a")] == ["%3Cb%3E/report.html"]


def test_every_part_is_on_the_page_in_its_order(report):
    found = Page(page(report))
    said = ["A paragraph", "Name a note", "0.1250 0.1 to 0.2", "value of a fact", "Noticed", "Others:", "A line of"]
    places = [found.text.find(words) for words in said]
    assert -1 not in places
    assert places == sorted(places)
    assert [row.get("class") for row in found.all("tr")][:3] == [None, None, "selected"]
    assert f"whole {HOSTILE}" in [cell.get("title") for cell in found.all("th")]
    assert [shown.get("class") for shown in found.all("table")] == [None, "facts", "facts"]


# The terminal.


def test_a_terminal_shows_every_text_and_reads_no_markup(report):
    text = " ".join(printed(report, 200).split())
    for said in (
        "A paragraph",
        "0.1250",
        "0.1 to 0.2",
        "value of a fact",
        f"Note: Noticed {HOSTILE}.",
        "Note: And this.",
    ):
        assert said in text
    assert text.count(HOSTILE) == 13
    assert text.endswith(f"Outcome {HOSTILE}.")


def test_the_chosen_row_is_marked_in_a_terminal(report):
    marked = [line.split() for line in printed(report, 200).splitlines() if "→" in line]
    assert marked == [["→", "other", "0.5"]]


def test_eighty_columns_cut_no_number_whatever_the_names_are():
    name = "a name that takes more room than there is, " * 3
    numbers = tuple(number("0.1234 ± 0.0567") for _ in range(3))
    header = (Cell("entry"), *(number(f"over {name}") for _ in range(3)))
    wide = Section("", (Table("", header, ((Cell(name), *numbers),)),))
    text = printed(Report("wide", "done", (wide,), synthetic=False))
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("0.1234 ± 0.0567") == 3


@pytest.mark.parametrize("synthetic", [True, False])
def test_generated_data_has_a_banner_and_real_data_has_none(report, synthetic):
    assert SYNTHETIC_LABEL == "Synthetic data: generated sample, not a real dataset"
    shown = replace(report, synthetic=synthetic)
    assert (SYNTHETIC_LABEL in Page(page(shown)).text) == synthetic
    assert (SYNTHETIC_LABEL in printed(shown)) == synthetic


# What is where.


@pytest.mark.parametrize("kind", PARTS)
def test_a_new_section_is_one_value_and_shown_everywhere(kind, tmp_path):
    """A report that has only this section: nothing else has to know of it."""
    added = Report("new", "done", (Section("A new section", (PARTS[kind],)),), synthetic=False)
    assert "A new section" in Page(page(added)).text
    assert "A new section" in printed(added)
    drawn_files = {"a_line.png"} if kind == "gallery" else set()
    assert {path.name for path in write_files(added, tmp_path)} == {"report.html", *drawn_files}


@pytest.mark.parametrize("place", ["page", "terminal", "files"])
def test_a_section_of_one_place_is_only_there_and_its_figures_are_files(report, place):
    shown = replace(report, sections=(Section("Only here", (Text("said once"), PARTS["gallery"]), place),))
    assert ("said once" in Page(page(shown)).text) == (place == "page")
    assert ("said once" in printed(shown)) == (place == "terminal")
    assert shown.pictures == (PICTURE,)


@pytest.mark.parametrize("parts", [(), (None,), (Callout(()),), (Gallery(()), None)])
def test_a_section_with_nothing_to_show_has_no_heading(report, parts):
    empty = replace(report, sections=(Section("Empty", parts),))
    assert "Empty" not in Page(page(empty)).text
    assert "Empty" not in printed(empty)


def test_a_figure_is_drawn_once_and_only_where_it_is_needed(report):
    calls = []
    picture = Picture("counted", lambda: calls.append(1) or drawn(), "caption", "alt")
    shown = replace(report, sections=(Section("", (Gallery((picture,)),)),))
    printed(shown)
    assert calls == []
    assert page(shown) == page(shown)
    assert calls == [1]


# The files.


def names(folder):
    return {path.name for path in folder.iterdir()}


WRITTEN = {"report.html", "values.csv", "values.json", "a_line.png"}


def test_an_export_has_page_figures_and_data_and_is_packed(report, tmp_path):
    files = export(replace(report, formats=(".png", ".svg")), tmp_path / "runs" / "out")
    assert names(files.folder) == {*WRITTEN, "a_line.svg"} == {path.name for path in files.written}
    assert files.written[0] == tmp_path / "runs" / "out" / "report.html"
    assert files.archive == tmp_path / "runs" / "out.zip"
    assert names(tmp_path / "runs") == {"out", "out.zip"}
    with zipfile.ZipFile(files.archive) as packed:
        assert packed.namelist() == sorted(f"out/{name}" for name in names(files.folder))
        assert {entry.date_time for entry in packed.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        for path in files.written:
            assert packed.read(f"out/{path.name}") == path.read_bytes()


def test_values_come_back_to_the_last_bit_and_as_plain_json(report, tmp_path):
    folder = export(report, tmp_path / "out").folder
    assert pl.read_csv(folder / "values.csv").rows() == [(HOSTILE, 1 / 3)]
    read = json.loads((folder / "values.json").read_text(encoding="utf-8"))
    assert read == {"a": 0.5, "b": [1, 2], "c": "x", "d": "inf", "e": None, "f": {"g": True}, "3": "é"}


def test_the_same_report_gives_the_same_bytes(report, tmp_path):
    archives = [export(report, tmp_path / str(run) / "out").archive for run in range(2)]
    assert archives[0].read_bytes() == archives[1].read_bytes()


def test_files_among_others_leave_them_alone(report, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    write_files(report, tmp_path)
    assert names(tmp_path) == {*WRITTEN, "mine.txt"}


def test_an_earlier_export_is_replaced_with_all_that_its_kind_can_have(report, tmp_path):
    export(report, tmp_path / "out")
    (tmp_path / "out" / "other.png").write_bytes(b"of an earlier one")
    export(replace(report, sections=(), names=("a_line", "other")), tmp_path / "out")
    assert names(tmp_path / "out") == WRITTEN - {"a_line.png"}
    assert names(tmp_path) == {"out", "out.zip"}


def test_a_folder_with_other_files_is_left_alone(report, tmp_path):
    export(report, tmp_path / "out")
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"holds 'thesis\.txt'"):
        export(report, tmp_path / "out")
    assert names(tmp_path / "out") == {*WRITTEN, "thesis.txt"}


@pytest.mark.parametrize("blocked", ["a file instead of the folder", "a folder instead of the archive"])
def test_what_is_in_the_way_is_named_and_kept(report, tmp_path, blocked):
    if blocked.startswith("a file"):
        (tmp_path / "out").write_text("in the way")
    else:
        (tmp_path / "out.zip").mkdir()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(OutputError, match="Cannot write"):
        export(report, tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("write", [lambda report, folder: export(report, folder / "out"), write_files])
def test_a_folder_that_cannot_be_made_is_named(report, tmp_path, write):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="Cannot write"):
        write(report, tmp_path / "file" / "below")
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_failure_half_way_leaves_the_earlier_export_and_nothing_else(report, tmp_path):
    export(report, tmp_path / "out")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def fails():
        raise OSError(28, "No space left on device")

    failing = replace(report, sections=(Section("", (Gallery((Picture("a_line", fails, "caption", "alt"),)),)),))
    with pytest.raises(OutputError, match="No space left on device"):
        export(failing, tmp_path / "out")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_another_report_goes_beside_the_earlier_one_where_that_is_asked_for(report, tmp_path):
    other = replace(report, files={**report.files, "values.json": {"a": 1}})
    folders = [
        export(one, tmp_path / "out", unlike="values.json").folder.name for one in (report, other, report, other)
    ]
    assert folders == ["out", "out-2", "out", "out-2"]


def test_a_page_alone_is_written_where_it_is_asked_for(report, tmp_path):
    path = write_page(report, tmp_path / "a" / "b.html")
    assert path.read_text(encoding="utf-8") == page(report)
