"""Studies from a notebook, on a real Ray."""

import pytest
import yaml

import coldray
from coldray.core.errors import ConfigError, MissingFieldError
from coldray.experiments.space import StudyConfig

STUDY = {
    "name": "films",
    "model": "ease",
    "space": {"regularization": {"log_uniform": [10, 1000]}},
    "splits": {"protocol": "holdout", "n_splits": 1},
    "candidates": "all",
    "search": {"trials": 3, "seed": 1, "max_concurrent": 1},
}


@pytest.fixture(scope="module")
def films():
    return coldray.load_dataset("sample")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def study(films, folder, ray_cluster):
    return coldray.tune(StudyConfig.model_validate(STUDY), films, output=folder)


def test_a_study_has_its_trials_its_test_and_its_winner(films, study):
    assert study.trials.height == 3
    assert study.trials["status"].to_list() == ["finished"] * 3
    metric = study.result.selection.metric
    winner = study.trials.filter(study.trials["regularization"] == study.config["regularization"])
    assert winner[metric].item() >= 0.98 * study.trials[metric].max()
    assert study.test[metric] > 0
    assert study.report.is_file()
    own = set(study.winner.history("user-0001"))
    assert len(own & set(study.winner.recommend(["user-0001"], k=20)["item"])) == 0
    assert f"{study.test[metric]:.4f} on test" in repr(study)
    assert "regularization" in study._repr_html_()
    again = coldray.fit("ease", films, **study.config)
    assert again.recommend(["user-0001"], k=5)["item"].equals(study.winner.recommend(["user-0001"], k=5)["item"])


def test_files_and_configurations_are_the_same_study(films, study, folder, tmp_path, ray_cluster):
    """Fields are one too, as in the example of `coldray.tune`, which is run."""
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(STUDY), encoding="utf-8")
    found = coldray.tune(file, films, output=tmp_path / "runs", settings={"search.trials": 3})
    assert found.trials.equals(study.trials)
    assert found.folder != study.folder


@pytest.mark.parametrize(
    ("study", "options", "error", "words"),
    [
        ("eese", {}, ConfigError, "Did you mean 'ease'"),
        ("nowhere/mine.yaml", {}, ConfigError, "Cannot read"),
        ({**STUDY, "modle": "x"}, {}, ConfigError, "unknown field 'modle'"),
        (STUDY, {"settings": {"search.trails": 3}}, ConfigError, "unknown field 'search.trails'"),
        (STUDY, {"trials": 0}, ConfigError, "search.trials"),
        ("ease", {"settings": {"search.trials": 3}}, ConfigError, "search.points=3"),
        ("rating_svd", {}, MissingFieldError, "ratings"),
    ],
)
def test_what_cannot_run_is_refused_before_anything_is_written(films, tmp_path, study, options, error, words):
    with pytest.raises(error, match=words):
        coldray.tune(study, films, output=tmp_path / "runs", **options)
    assert not (tmp_path / "runs").exists()


COMPARED = {"splits.n_splits": 1, "candidates": "all", "splits.protocol": "holdout"}


def test_models_are_compared_on_the_same_splits(films, tmp_path, ray_cluster):
    found = coldray.compare(["popularity", "ease"], films, trials=2, settings=COMPARED, output=tmp_path, quiet=True)
    frame = found.frame
    assert sorted(frame["model"]) == ["ease", "popularity"]
    assert frame["validation"].is_sorted(descending=True)
    assert frame["model"][0] == found.result.champion == found.champion.model.name
    assert (frame["low"] <= frame["test"]).all()
    over = dict(frame.select("model", "over_baseline").rows())
    assert over["ease"] is None  # the baseline itself
    assert over["popularity"] < 0
    assert found.report.is_file()
    assert "champion" in repr(found)
    assert "popularity" in found._repr_html_()
    assert len(found.result.entry("ease").study.trials) == 2


@pytest.mark.parametrize(
    ("models", "words"),
    [
        ([], "none is given"),
        (["marek"], r"'marek'.*'marec'"),
        ("compare_kold", r"no comparison 'compare_kold'. Did you mean 'compare_cold'"),
        ("no/such.yaml", "Cannot read"),
    ],
)
def test_what_cannot_be_compared_is_refused_and_nothing_is_written(films, tmp_path, models, words):
    with pytest.raises(ConfigError, match=words):
        coldray.compare(models, films, output=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
