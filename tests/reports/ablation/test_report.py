import dataclasses
import io
import re
import statistics
from html.parser import HTMLParser

import pytest
from rich.console import Console

from coldray.core.errors import OutputError
from coldray.reports.ablation.console import console_ablation
from coldray.reports.ablation.diagnostics import PANELS, panel_figure
from coldray.reports.ablation.report import ablation_page, write_ablation_report
from coldray.reports.ablation.words import headline, panel_words, verdicts
from coldray.reports.modes import leading_metric
from coldray.reports.page import SYNTHETIC_LABEL
from coldray.reports.report import report_page


class Page(HTMLParser):
    """The page's elements, its tables and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html.partition("<main>")[2])
        self.close()
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def plain(text: str) -> str:
    return text.replace("\u00a0", " ")


def page_of(result) -> Page:
    return Page(ablation_page(result, {}))


def changed_lift(result, **changes):
    """Return the ablation with another lift in NDCG@10 of its last mode."""
    last = result.modes[-1]
    lifts = {**last.lifts, "ndcg@10": dataclasses.replace(last.lifts["ndcg@10"], **changes)}
    return dataclasses.replace(result, modes=(*result.modes[:-1], dataclasses.replace(last, lifts=lifts)))


def test_the_page_of_any_ablation_stands_alone(any_ablation, tmp_path):
    figures = {"lift": panel_figure(any_ablation, PANELS[2])}
    path = write_ablation_report(any_ablation, tmp_path / "a" / "report.html", figures=figures)
    html = path.read_text(encoding="utf-8")
    page = Page(html)
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.elements}
    assert not re.search(r"url\(|@import|https?://", html)
    (image,) = page.all("img")
    assert image["alt"] == panel_words(any_ablation)["lift"][1]
    assert image["src"].startswith("data:image/png;base64,")
    assert len(page.all("caption")) == len(page.all("table"))
    for mode in any_ablation.modes:
        assert mode.name in page.text
    for words in any_ablation.protocol.values():
        assert words in page.text


def test_each_panel_is_shown_once_and_described(ablation, tmp_path):
    page = Page(write_ablation_report(ablation(), tmp_path / "report.html").read_text(encoding="utf-8"))
    words = panel_words(ablation())
    assert [image["alt"] for image in page.all("img")] == [words[panel.name][1] for panel in PANELS]


def test_every_figure_has_words(any_ablation):
    words = panel_words(any_ablation)
    assert set(words) == {"diagnostics", *(panel.name for panel in PANELS)}
    assert all(caption and alt for caption, alt in words.values())


def test_the_table_holds_spread_interval_lift_and_adjusted_p(ablation):
    result = ablation()
    text = plain(page_of(result).text)
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
    assert plain(headline(result)) in plain(page_of(result).text)
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
    text = page_of(ablation()).text
    assert re.search(r"ca weight – 0\.4 0\.4 0\.4", text)
    assert re.search(r"ua weight – 0 0 0", text)
    assert re.search(r"ge kl weight – – – 1", text)
    assert re.search(r"λ₁ 1000 1000 1000 1000", text)


def test_names_and_settings_are_escaped(ablation):
    hostile = "<img src=x onerror=y>"
    result = ablation(modes=(hostile, f"+{hostile}"), configs={hostile: {hostile: hostile}})
    result = dataclasses.replace(
        result,
        name=hostile,
        correction=hostile,
        dataset={**result.dataset, "name": hostile},
        protocol={hostile: hostile},
    )
    page = page_of(result)
    assert page.all("img") == []
    assert page.text.count(hostile) > 10


def test_generated_data_has_the_banner_of_the_other_report(ablation, study, published_dataset):
    synthetic = {**published_dataset, "synthetic": True}
    assert SYNTHETIC_LABEL in page_of(ablation(dataset=synthetic)).text
    assert SYNTHETIC_LABEL in report_page(study(dataset=synthetic), {})
    assert SYNTHETIC_LABEL not in page_of(ablation()).text


def test_published_numbers_stand_beside_every_mode_on_the_same_dataset(ablation, published_dataset):
    text = page_of(ablation(dataset=published_dataset)).text
    assert re.search(r"CLCRec published 0\.0815 0\.0763 0\.0909 0\.0848", text)
    assert re.search(r"\+CA\+UA\+GE measured here 0\.3143 ± 0\.0069", text)
    assert re.search(r"users 2,107 2,107 same", text)
    assert re.search(r"averages averages over 10 item-cold folds averages over 6 folds compare", text)
    other = page_of(ablation()).text
    assert "CLCRec" not in other
    assert "There is no comparison with published numbers" in other
    assert re.search(r"users 2,107 6,040 differs", other)


def test_the_page_is_the_same_each_time(ablation):
    pages = [ablation_page(ablation(), {"lift": panel_figure(ablation(), PANELS[2])}) for _ in range(2)]
    assert pages[0] == pages[1]


def test_a_folder_that_cannot_be_made_is_named(ablation, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="Cannot write"):
        write_ablation_report(ablation(), tmp_path / "file" / "report.html", figures={})


def printed(result) -> str:
    console = Console(width=80, file=io.StringIO())
    console.print(console_ablation(result))
    return console.file.getvalue()


def test_eighty_columns_hold_a_row_for_each_mode(any_ablation):
    text = printed(any_ablation)
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    for mode in any_ablation.modes:
        metric = leading_metric(any_ablation)
        assert f"{statistics.fmean(fold.metrics[metric] for fold in mode.folds):.4f}" in text
    assert (SYNTHETIC_LABEL in text) == any_ablation.dataset["synthetic"]


def test_a_row_ends_with_lift_and_adjusted_p(ablation):
    lines = [line.split() for line in printed(ablation()).splitlines()]
    rows = {line[0]: line[1:] for line in lines if line and line[0] in ("MARec", "+CA", "+CA+UA", "+CA+UA+GE")}
    assert rows["MARec"] == ["0.2953", "0.3093", "±", "0.0069", "0.3677", "–", "–"]
    assert rows["+CA+UA"][-3:] == ["−0.3", "%", "0.930"]


def test_names_are_not_read_as_markup(ablation):
    assert "[bold]a[/bold]" in printed(ablation(modes=("[bold]a[/bold]", "[/]")))
