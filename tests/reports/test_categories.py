"""Tables, figures and the page of studies of several categories."""

import dataclasses

import pytest
from rich.console import Console

from coldray.experiments.categories import CategoryResults
from coldray.experiments.results import mean_metric
from coldray.reports.categories.figures import category_figures, choices, swept_parameter
from coldray.reports.categories.report import category_page, console_categories
from coldray.reports.categories.tables import final_table, headline, tuning_table

HOSTILE = "<b>Toys</b> & 'Games'"


@pytest.fixture
def studies(study):
    first = study(parameters=("n_factors", "second_order"), n_trials=20)
    second = study(parameters=("n_factors", "second_order"), n_trials=12, dataset={"name": "other", "n_users": 7,
                        "n_items": 8, "n_interactions": 9, "synthetic": True})  # fmt: skip
    return {"Office": first, HOSTILE: second}


@pytest.fixture
def result(studies):
    return CategoryResults("svd", studies, {"Nothing": "there is <nothing>"})


def untested(result):
    studies = {name: dataclasses.replace(study, test=(), test_intervals={}) for name, study in result.studies.items()}
    return dataclasses.replace(result, studies=studies)


def test_every_trial_is_a_row_with_its_settings_and_one_is_selected(studies):
    study = studies["Office"]
    table = tuning_table(study)
    assert table["trial"].to_list() == [trial.number for trial in study.trials]
    assert table.filter(table["selected"])["trial"].to_list() == [study.selection.winner.number]
    for row, trial in zip(table.to_dicts(), study.trials, strict=True):
        assert row["n_factors"] == str(trial.config["n_factors"])
        assert row["ndcg@10"] == (trial.mean("ndcg@10") if trial.folds else None)


def test_the_final_table_has_validation_and_test_of_each_category(result):
    rows = final_table(result).to_dicts()
    assert len(rows) == 2 * len(result.first.test[0].metrics)
    for row in rows:
        study = result.studies[row["category"]]
        assert row["validation"] == study.selection.winner.mean(row["metric"])
        assert row["test"] == mean_metric(study.test, row["metric"])
        assert row["n_factors"] == str(study.selection.winner.config["n_factors"])


def test_the_line_of_a_category_is_the_best_of_each_value_and_the_star_its_choice(result):
    figure = choices(result, "n_factors")
    (axes,) = figure.axes
    drawn = [line for line in axes.lines if len(line.get_xdata())]
    for line, star, study in zip(drawn[::2], drawn[1::2], result.studies.values(), strict=True):
        finished = [trial for trial in study.trials if trial.status == "finished"]
        for value, mean in zip(line.get_xdata(), line.get_ydata(), strict=True):
            same = [trial.mean("ndcg@10") for trial in finished if trial.config["n_factors"] == value]
            assert mean == max(same)
        winner = study.selection.winner
        assert (star.get_xdata()[0], star.get_ydata()[0]) == (winner.config["n_factors"], winner.mean("ndcg@10"))


def test_what_there_is_to_draw_is_drawn(result):
    assert list(category_figures(result)) == ["choices", "final_results", "validation_against_test"]
    assert list(category_figures(untested(result))) == ["choices"]
    assert swept_parameter(result) == "n_factors"


def test_a_study_without_a_searched_number_has_no_line(study):
    result = CategoryResults("als", {"one": study(parameters=("second_order",), n_trials=12)}, {})
    assert swept_parameter(result) is None
    assert "choices" not in category_figures(result)


def test_the_page_escapes_what_it_is_given_and_links_the_reports(result):
    page = category_page(result, category_figures(result))
    assert HOSTILE not in page
    assert "&lt;b&gt;Toys" in page
    assert "there is &lt;nothing&gt;" in page
    assert 'href="Office/report.html"' in page
    assert "%3Cb%3EToys" in page
    assert "ynthetic" in page
    assert page.count("<figure") == 3
    bare = category_page(untested(result), {})
    assert "Final results" not in bare
    assert "on test" not in headline(untested(result))


def test_the_terminal_shows_every_category_within_80_columns(result):
    console = Console(width=80, record=True, color_system=None)
    console.print(console_categories(result))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    assert "Office" in text
    assert "Nothing left out: there is <nothing>" in text
    tested = [mean_metric(study.test, "ndcg@10") for study in result.studies.values()]
    assert f"on test {sum(tested) / 2:.4f}" in text
