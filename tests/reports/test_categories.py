"""Tables, figures and the page of studies of several categories."""

import dataclasses

import pytest

from coldray.evaluation.metrics import METRICS
from coldray.experiments.categories import CategoryResults
from coldray.experiments.results import mean_metric
from coldray.reports.categories.figures import _swept_parameter, category_pictures, choices
from coldray.reports.categories.report import FINAL, _final_table, _headline, category_report, tuning_table
from coldray.reports.export import page
from reports.reading import printed, words

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
    rows = _final_table(result).to_dicts()
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
    pictures = category_pictures(result)
    assert [picture.name for picture in pictures] == ["choices", "final_results", "validation_against_test"]
    assert all(picture.figure.axes and picture.caption and picture.alt for picture in pictures)
    measured = {name.partition("@")[0] for name in result.first.test[0].metrics}
    assert len(pictures[1].figure.axes) == len(measured & {*METRICS}) > 1, "a panel for each metric that was measured"
    assert [picture.name for picture in category_pictures(untested(result))] == ["choices"]
    assert _swept_parameter(result) == "n_factors"


def test_a_study_without_a_searched_number_has_no_line(study):
    result = CategoryResults("als", {"one": study(parameters=("second_order",), n_trials=12)}, {})
    assert _swept_parameter(result) is None
    assert "choices" not in [picture.name for picture in category_pictures(result)]


def test_the_report_tells_choices_reports_and_what_was_left_out(result):
    report = category_report(result)
    text = words(report)
    assert f"Each category has a report of its own: Office {HOSTILE}" in text
    assert "Nothing there is <nothing>" in text
    assert report.synthetic
    assert list(report.files) == [FINAL]
    html = page(dataclasses.replace(report, sections=report.sections[:3]))
    assert 'href="Office/report.html"' in html
    assert 'href="%3Cb%3EToys' in html
    bare = category_report(untested(result))
    assert "Final results" not in words(bare)
    assert "on test" not in _headline(untested(result))
    assert not bare.files


def test_a_report_of_another_study_is_linked_where_it_is(result):
    origins = {name: f"svd-{place}" for place, name in enumerate(result.studies)}
    report = category_report(dataclasses.replace(result, origins=origins))
    html = page(dataclasses.replace(report, sections=report.sections[:3]))
    assert 'href="../svd-0/Office/report.html">Office, of svd-0<' in html


def test_the_terminal_shows_every_category_within_80_columns(result):
    text = printed(category_report(result))
    assert max(map(len, text.splitlines())) <= 80
    assert "Office" in text
    assert "Nothing left out: there is <nothing>" in text
    tested = [mean_metric(study.test, "ndcg@10") for study in result.studies.values()]
    assert f"on test {sum(tested) / 2:.4f}" in text
