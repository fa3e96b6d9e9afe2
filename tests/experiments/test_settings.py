"""A study file may say what data it is of: it is validated as all else, and no part of what the study is known by."""

from pathlib import Path

import pytest
import yaml

from coldray.cli.jobs.tune import settings_of
from coldray.core.errors import ConfigError
from coldray.experiments.comparison.config import load_comparison
from coldray.experiments.space import load_study

STUDY = {"name": "s", "model": "ease", "space": {"regularization": 1.0}, "candidates": "all"}
STUDY |= {"splits": {"protocol": "holdout", "n_splits": 1}}
DATA = {"name": "csv", "tabular": {"interactions": "data/clicks.csv", "items": "/films.csv", "label_columns": ["g"]}}


@pytest.fixture
def written(tmp_path):
    def write(content, name="study.yaml"):
        (tmp_path / name).write_text(yaml.safe_dump(content))
        return tmp_path / name

    return write


def test_relative_paths_begin_at_the_file(written, tmp_path):
    data = load_study(written({**STUDY, "data": {**DATA, "texts": "texts.csv"}})).data
    assert data.tabular.interactions == tmp_path / "data" / "clicks.csv"
    assert data.tabular.items == Path("/films.csv")
    assert data.texts == tmp_path / "texts.csv"
    assert (
        load_study(written({**STUDY, "data": {"name": "ml-100k", "data_dir": "ml"}})).data.data_dir == tmp_path / "ml"
    )


def test_the_data_do_not_change_what_a_study_is_known_by(written):
    without = load_study(written(STUDY))
    assert without.data is None
    assert settings_of(load_study(written({**STUDY, "data": DATA}))) == settings_of(without)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data.nme": "csv"}, r"unknown field 'data\.nme'\. Did you mean 'name'\?"),
        ({"data.name": "cvs"}, r"Unknown data source 'cvs'\. Did you mean 'csv'\?"),
        ({"data.tabular.usr_column": "u"}, r"unknown field 'data\.tabular\.usr_column'\. Did you mean 'user_column'"),
        ({"data.tabular.interactions": None}, r"data\.tabular\.interactions"),
        ({"data": 3}, r"data: .*got 3"),
    ],
)
def test_it_is_validated_as_all_else(written, change, message):
    with pytest.raises(ConfigError, match=message):
        load_study(written({**STUDY, "data": DATA}), change)


def test_a_comparison_says_it_for_all_its_entries(written, tmp_path):
    written({**STUDY, "data": {"name": "sample"}})
    comparison = {"name": "c", "baseline": "one", "entries": {"one": {"study": "study.yaml"}}, "candidates": "all"}
    comparison |= {"splits": STUDY["splits"], "data": DATA}
    found = load_comparison(written(comparison, "comparison.yaml"))
    assert found.config.data.tabular.interactions == tmp_path / "data" / "clicks.csv"
    comparison["entries"]["one"]["overrides"] = {"data.name": "sample"}
    with pytest.raises(ConfigError, match=r"overrides: data\.name would change data, which all entries have in common"):
        load_comparison(written(comparison, "comparison.yaml"))
