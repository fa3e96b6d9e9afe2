import dataclasses
import re
import statistics
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from coldray.core.errors import OutputError
from coldray.reports.report import SYNTHETIC_LABEL, report_page, selection_reasons, write_report
from coldray.reports.study import split_spread

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """The page's elements and text; fails where a tag is not closed in its order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def page_of(result, figures=None) -> Page:
    return Page(report_page(result, figures or {}))


def test_the_page_of_any_study_stands_alone_and_is_accessible(any_study, tmp_path):
    html = write_report(any_study, tmp_path / "reports" / "study.html").read_text(encoding="utf-8")
    page = Page(html)
    for tag, attributes in page.elements:
        assert tag not in {"script", "link", "iframe", "object"}
        for name in ("src", "href", "data", "srcset"):
            assert (attributes.get(name) or "data:").startswith("data:"), (tag, attributes)
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
    assert not re.search(r"url\(|@import|https?://", html)
    assert all(image["alt"] for image in page.all("img"))
    assert page.all("html")[0]["lang"] == "en"
    assert len(page.all("caption")) == len(page.all("table"))
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_every_number_of_the_winner_is_on_the_page(study):
    result = study()
    page = page_of(result)
    for metric in result.test[0].metrics:
        values = [fold.metrics[metric] for fold in result.test]
        assert f"{statistics.fmean(values):.4f} ± {statistics.stdev(values):.4f}" in page.text
        low, high = result.test_intervals[metric]
        assert f"{low:.4f} to {high:.4f}" in page.text
        assert all(f"{value:.4f}" in page.text for value in values)
        winner = result.selection.winner
        assert f"{winner.mean(metric):.4f} ± {winner.std(metric):.4f}" in page.text
    assert f"#{result.selection.winner.number}" in page.text
    assert "Only the selected configuration was tested, and once" in page.text
    for words in result.protocol.values():
        assert words in page.text


def test_the_ten_best_configurations_are_listed_with_their_settings(study):
    result = study(parameters=("x", "y"), space={"x": [1000.0, 1e-5], "y": [0.2, 5e-4]}, n_trials=40)
    page = page_of(result)
    for trial in result.ranked_trials()[:10]:
        assert f"#{trial.number}" in page.text
        assert f"{trial.mean('ndcg@10'):.4f} ± {trial.std('ndcg@10'):.4f}" in page.text
        assert f"{trial.mean('hr@10'):.4f} ± {trial.std('hr@10'):.4f}" in page.text
    assert re.search(r"#\d+\s+(1000|1e-05)\s+(0\.2|0\.0005)\s+0\.\d{4} ± 0\.\d{4}", page.text)


def test_a_failure_is_shown_as_text(study):
    result = study(error="<script>alert('x')</script> & \"NaN\"", n_failed=2)
    html = report_page(result, {})
    assert "<script" not in html
    assert "&lt;script&gt;alert(" in html
    assert "<script>alert('x')</script> & \"NaN\"" in Page(html).text


def test_names_and_settings_are_escaped_too(study):
    hostile = "<img src=x onerror=y>"
    result = study(parameters=("x",), space={"x": [hostile, "b"]}, n_failed=0)
    result = dataclasses.replace(
        result,
        name=hostile,
        model=hostile,
        dataset={**result.dataset, "name": hostile, "fingerprint": f'"{hostile}'},
        protocol={hostile: hostile},
        selection=dataclasses.replace(result.selection, rule=(hostile,)),
    )
    page = page_of(result)
    assert page.all("img") == []
    assert page.text.count(hostile) > 6


def test_the_fingerprint_is_short_and_whole_in_its_title(study):
    result = study()
    whole = result.dataset["fingerprint"]
    page = page_of(result)
    assert whole not in page.text
    assert whole[:12] in page.text
    assert whole in [attributes.get("title") for attributes in page.all("td")]


def test_how_the_files_were_read_is_on_the_page(study, published_dataset):
    page = page_of(study(dataset={**published_dataset, "notes": ["3 blank lines <are> passed over.", "Milliseconds."]}))
    assert "3 blank lines <are> passed over." in page.text
    assert "Milliseconds." in page.text


def test_generated_data_has_a_banner_and_real_data_has_none(study, published_dataset):
    assert SYNTHETIC_LABEL == "Synthetic data: generated sample, not a real dataset"
    assert SYNTHETIC_LABEL in page_of(study(dataset={**published_dataset, "synthetic": True})).text
    assert SYNTHETIC_LABEL not in page_of(study()).text


def test_published_numbers_appear_only_for_the_published_dataset(study, published_dataset, tmp_path):
    published = write_report(study(dataset=published_dataset), tmp_path / "a.html").read_text(encoding="utf-8")
    page = Page(published)
    assert "ItemKNNCF" in page.text
    assert "measured here" in page.text
    assert "arXiv 2404.13298, Table 3" in page.text
    assert len(page.all("img")) == 4
    other = Page(write_report(study(), tmp_path / "b.html").read_text(encoding="utf-8"))
    assert "ItemKNNCF" not in other.text
    assert "no comparison with published numbers" in other.text
    assert "not the published dataset" in other.text
    assert len(other.all("img")) == 3


def test_the_reasons_name_best_tolerance_and_rule(study):
    result = study(winner_rank=3)
    reasons = " ".join(selection_reasons(result))
    best, winner = result.selection.best, result.selection.winner
    assert f"{best.mean('ndcg@10'):.4f} ± {best.std('ndcg@10'):.4f}, of trial #{best.number}" in reasons
    assert f"{len(result.selection.within_tolerance)} trials, the best included" in reasons
    assert "first order before second order; larger lambda1" in reasons
    assert f"Selected: trial #{winner.number}, by that rule." in reasons
    assert "the best itself" in " ".join(selection_reasons(study()))


def test_trials_are_counted_by_how_they_ended(study):
    page = page_of(study(n_trials=30, n_pruned=7, n_failed=4))
    assert re.search(r"finished\s+19\s+pruned\s+7\s+failed\s+4\s+all\s+30", page.text)


def test_a_single_split_has_no_deviation(study):
    result = study(folds=((42, 0),))
    page = page_of(result)
    assert "± 0.0000" not in page.text
    assert f"{result.test[0].metrics['ndcg@10']:.4f}" in page.text


def test_a_study_without_a_test_says_so(study):
    result = dataclasses.replace(study(), test=(), test_intervals={})
    assert "was not tested" in page_of(result).text
    assert "mean validation NDCG@10" in page_of(result).text


def test_given_figures_are_shown_in_place_of_the_made_ones(study, tmp_path):
    result = study()
    html = write_report(result, tmp_path / "r.html", figures={"my_figure": split_spread(result)})
    images = Page(html.read_text(encoding="utf-8")).all("img")
    assert [image["alt"] for image in images] == ["Figure: my figure."]


def test_the_page_is_the_same_each_time(study, tmp_path):
    pages = [write_report(study(), tmp_path / f"{i}.html").read_bytes() for i in range(2)]
    assert pages[0] == pages[1]


def test_a_folder_that_cannot_be_made_is_named(study, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="Cannot write"):
        write_report(study(), tmp_path / "file" / "report.html", figures={})
